"""File names: plain ones, and those seen on K-SPEC."""

from datetime import datetime
from typing import Literal

from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.instrument import Instrument

Style = Literal["plain", "kspec"]

ALL_LAMPS = "HgArNeKrCd"  # K-SPEC's names do not say the lamp where all are lit
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
KSPEC_KINDS = {
    "bias": "Bias",
    "dark": "Dark",
    "lflat": "LFlat",
    "flat": "Flat",
    "sky": "Sky",
    "standard": "Std",
}


def base_name(exposure: Exposure, instrument: Instrument, style: Style) -> str:
    """Return the part of the name that says what the frame is; the number and the time follow it."""
    seconds = f"{exposure.exposure_s:g}s"
    if style == "plain":
        return {
            "dark": f"dark_{seconds}",
            "arc": f"arc_{exposure.lamp}",
            "standard": "std",
        }.get(exposure.kind, exposure.kind)
    spectrograph = instrument.spectrograph
    setting = f"{spectrograph.lines_per_mm}_{spectrograph.nominal_center / 10.0:.0f}"
    if exposure.kind in ("bias", "dark"):
        return KSPEC_KINDS[exposure.kind] + ("" if exposure.kind == "bias" else f"_{seconds}")
    if exposure.kind == "arc":
        return f"Arc_{setting}_{seconds}" if exposure.lamp == ALL_LAMPS else exposure.lamp
    return f"{KSPEC_KINDS.get(exposure.kind, exposure.target or 'tile_001')}_{setting}"


def file_name(base: str, number: int, start: datetime, style: Style) -> str:
    """Return the name of the `number`-th file of a base."""
    if style == "plain":
        return f"{base}_{number:05d}.fits"
    date = f"{start.year} {MONTHS[start.month - 1]} {start.day}"
    return f"{base} {date} {start:%H_%M_%S} {number}.fits"
