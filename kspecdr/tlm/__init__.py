"""Tramlines: where each fiber lies on the detector."""
