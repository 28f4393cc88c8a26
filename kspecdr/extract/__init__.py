"""From an image to one spectrum per fiber."""
