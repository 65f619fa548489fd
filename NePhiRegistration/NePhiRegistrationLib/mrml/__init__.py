"""MRML nodes to arrays in world coordinates (LPS, mm) and back; no widgets, no torch.

The only part that knows RAS. It touches the scene and is called on Slicer's main thread.
"""
