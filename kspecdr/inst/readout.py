"""Gain, read noise and saturation of each readout mode of the PIXIS 1300BX.

The calibrated values were measured on K-SPEC's camera. A mode that is not among them takes its values
from the configuration (`[instrument.readout]`), else the frame is refused by the mode's name. The full
wells were never measured: the converter's limit, 65535 ADU, stands for unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kspecdr.errors import BadFrame
from kspecdr.products import CONVERTER_LIMIT


@dataclass(frozen=True)
class Readout:
    """One readout mode of the camera."""

    name: str  # "2 MHz LowNoise Low"
    gain: float  # electron / ADU
    read_noise: float  # electron
    saturation: float = CONVERTER_LIMIT  # ADU, pedestal included
    saturation_known: bool = False


def mode_name(speed_mhz: float, quality: str, analog_gain: str) -> str:
    """Name a readout mode: speed, ADC quality and analog gain."""
    return f"{speed_mhz:g} MHz {quality} {analog_gain}"


_MEASURED = (  # speed (MHz), quality, analog gain, electron / ADU, electron
    (2.0, "LowNoise", "Low", 4.09, 16.03),
    (2.0, "LowNoise", "Medium", 2.10, 15.88),
    (2.0, "LowNoise", "High", 1.12, 15.42),
    (2.0, "HighCapacity", "Low", 15.37, 41.34),
    (2.0, "HighCapacity", "Medium", 7.73, 37.57),
    (2.0, "HighCapacity", "High", 3.74, 35.08),
    (0.1, "LowNoise", "High", 1.12, 4.48),
)

MODES: Mapping[str, Readout] = {
    mode_name(speed, quality, level): Readout(mode_name(speed, quality, level), gain, noise)
    for speed, quality, level, gain, noise in _MEASURED
}


def find_readout(name: str, modes: Mapping[str, Readout] = MODES) -> Readout:
    """Return the mode `name`; a mode that nobody measured or configured is refused."""
    if name not in modes:
        raise BadFrame(
            f"readout mode {name!r} has no measured gain; "
            f'add it to the configuration as [instrument.readout."{name}"] (measured: {", ".join(modes)})'
        )
    return modes[name]
