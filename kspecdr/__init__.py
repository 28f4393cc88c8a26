"""Turn raw fibre-spectrograph frames into calibrated spectra."""
