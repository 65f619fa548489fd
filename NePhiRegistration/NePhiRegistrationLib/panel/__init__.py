"""Pieces of the Qt panel. Each takes the widgets it is about and the logic; none knows of the others."""
