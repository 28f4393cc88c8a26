"""Every precision figure of the reduction, on simulated nights with known truth and on real frames."""
