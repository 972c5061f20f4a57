"""Tasks: one short file each, over the image and text families."""
