"""Files: the one door to FITS, and the names of products."""
