"""Voxels: what an image is, reading and writing it, its values between voxels and on other grids."""
