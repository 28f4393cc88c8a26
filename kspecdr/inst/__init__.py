"""Instruments: headers and readout modes, one file per instrument."""
