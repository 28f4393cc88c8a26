"""From a converted frame to an image in electrons with variance and mask."""
