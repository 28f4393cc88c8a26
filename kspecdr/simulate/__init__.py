"""Simulated nights with known truth, as LightField writes them.

Layers: scene (what enters the fibers) > optics, fibers (where it falls) > detector, cosmic (what is counted)
> frame (one readout) > lightfield, night (files). `presets` names whole nights.

    write_night("raw", PRESETS["demo"], truth_dir="truth")
"""

# One module to the rest of the project, in chapters: hence the names here, unlike in the other packages.
from kspecdr.simulate.frame import simulate_frame
from kspecdr.simulate.night import Night, SimulatedFrame, simulate_night, write_night
from kspecdr.simulate.presets import PRESETS, long_night

__all__ = [
    "PRESETS",
    "Night",
    "SimulatedFrame",
    "long_night",
    "simulate_frame",
    "simulate_night",
    "write_night",
]
