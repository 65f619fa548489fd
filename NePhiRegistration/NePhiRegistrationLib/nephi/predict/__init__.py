"""Learned registration: from two images to a map, with trained weights."""
