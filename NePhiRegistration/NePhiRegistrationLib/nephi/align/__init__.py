"""From two images to the map between them: linear alignment, then neural fields from coarse to fine."""
