"""Wavelengths: from arc lines to a solution, and rebinning onto it."""
