"""A frame as LightField writes it: its cards, its orientation, a cube of uint16.

The file is written byte by byte (FITS Standard 4.0, sections 3.3, 4.1, 4.2 and 5.2; HIERARCH and CONTINUE as
LightField and astropy use them), since LightField's broken cards are beyond any proper FITS writer.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from kspecdr.arrays import Ints
from kspecdr.simulate.instrument import Camera, Instrument

CARD, BLOCK = 80, 2880
Value = bool | int | float | str

# A string that is to be continued by what is no string
BROKEN_CHAIN = (
    "HIERARCH PI CAMERA EXPERIMENT FRAMECOMBINATION METHOD = 'Average of&'",
    "CONTINUE  all frames, 'not normalised&",
    "CONTINUE  ' / from the settings tree",
)


def lightfield_cards(instrument: Instrument, exposure_s: float, start: datetime) -> dict[str, Value]:
    """Return the cards of a frame, keywords as LightField spells them (without HIERARCH), in its order.

    Parameters
    ----------
    instrument
        Gives readout mode, grating, orientation and what the camera leaves out.
    exposure_s
        Exposure time of one frame, s.
    start
        Start of the exposure, UTC; written in whole seconds.
    """
    camera, spectrograph = instrument.camera, instrument.spectrograph
    mode = instrument.detector.readout
    pixel = f"{instrument.detector.pixel_um:g}"
    milliseconds = _milliseconds(exposure_s, ragged=camera.ragged_exposure)
    cards: dict[str, Value] = {
        "DATE-OBS": start.strftime("%Y-%m-%dT%H:%M:%S"),
        "EXPTIME": f"{exposure_s * 1000.0:g}".ljust(8),
        f"{camera.prefix} SHUTTERTIMING EXPOSURETIME": milliseconds,
        f"{camera.prefix} ADC SPEED": mode.speed,
        f"{camera.prefix} ADC ANALOGGAIN": mode.analog_gain,
        f"{camera.prefix} ADC QUALITY": mode.quality,
        f"{camera.prefix} SENSOR INFORMATION SENSORNAME": "E2V 1340 x 1300 (CCD 36)(B)",
        f"{camera.prefix} SENSOR INFORMATION PIXEL WIDTH": pixel,
        f"{camera.prefix} SENSOR INFORMATION PIXEL HEIGHT": pixel,
        f"{camera.prefix} SENSOR TEMPERATURE READING": "-70",
        f"{camera.prefix} SENSOR TEMPERATURE SETPOINT": "-70",
        "PI ACQUISITION ORIENTATION LIGHTPATHORIENTATIONUNCORRECTED": camera.light_path,
        "PI CAMERA EXPERIMENT ACQUISITION ORIENTATION RESULT": camera.result,
        "PI SPECTROMETER GRATING SELECTED": f"[{spectrograph.blaze_nm}nm,{spectrograph.lines_per_mm}][2][0]",
        # the motor's step: 620 nm is written as 619.988
        "PI SPECTROMETER GRATING CENTERWAVELENGTH": f"{spectrograph.nominal_center / 10.0 - 0.012:.3f}",
    }
    if camera.writes_angles:
        prefix = "PI SPECTROMETER CALIBRATIONINFORMATION"
        cards[f"{prefix} FOCALLENGTH"] = f"{spectrograph.focal_length:g}"
        cards[f"{prefix} INCLUSIONANGLE"] = f"{spectrograph.inclusion_angle:.2f}"
        cards[f"{prefix} DETECTORANGLE"] = f"{spectrograph.detector_angle:.2f}"
    if not camera.writes_quality:
        del cards[f"{camera.prefix} ADC QUALITY"]
    return cards


def _milliseconds(exposure_s: float, *, ragged: bool) -> str:
    value = exposure_s * 1000.0
    return f"{np.nextafter(value, 0.0):.17g}" if ragged and value else f"{value:g}"


def orient(counts: Ints, camera: Camera) -> Ints:
    """Return frames (n, n_row, n_column) of the normalised orientation as the file holds them, or back."""
    columns, rows = camera.flips()
    return counts[:, :: -1 if rows else 1, :: -1 if columns else 1]


def header_bytes(cards: Mapping[str, Value], shape: tuple[int, ...], broken: tuple[str, ...] = ()) -> bytes:
    """Return the header of a uint16 cube: structure, `cards`, then `broken` card images as they are."""
    structure: dict[str, Value] = {"SIMPLE": True, "BITPIX": 16, "NAXIS": len(shape)}
    structure |= {f"NAXIS{n}": size for n, size in enumerate(reversed(shape), start=1)}
    structure |= {"EXTEND": True, "BZERO": 32768, "BSCALE": 1}
    images = [image for item in {**structure, **cards}.items() for image in card_images(*item)]
    text = "".join(image.ljust(CARD) for image in (*images, *broken, "END"))
    return text.encode("ascii").ljust(-(-len(text) // BLOCK) * BLOCK)


def card_images(keyword: str, value: Value) -> list[str]:
    """Return the images of one card; a string that does not fit is continued."""
    plain = len(keyword) <= 8 and " " not in keyword
    start = f"{keyword:8s}= " if plain else f"HIERARCH {keyword} = "
    if not isinstance(value, str):
        text = ("T" if value else "F") if isinstance(value, bool) else f"{value:g}"
        return [start + (text.rjust(20) if plain else text)]
    quoted = value.replace("'", "''")
    if len(start) + len(quoted) + 2 <= CARD:
        return [f"{start}'{quoted}'"]
    return _continued(start, value)


def _continued(start: str, value: str) -> list[str]:
    """Return a string in pieces that fit, quotes doubled, each but the last ended by an ampersand."""
    images, head, rest = [], start, value
    while True:
        room = CARD - len(head) - 3
        size = len(rest)
        while len(rest[:size].replace("'", "''")) > room:
            size -= 1
        piece, rest = rest[:size].replace("'", "''"), rest[size:]
        images.append(f"{head}'{piece}{'&' if rest else ''}'")
        if not rest:
            return images
        head = "CONTINUE  "


def write_frame(path: Path, cards: Mapping[str, Value], counts: Ints, broken: tuple[str, ...] = ()) -> None:
    """Write a raw file; it appears under its name when it is complete.

    Parameters
    ----------
    path
        Where the file goes.
    cards
        Keyword and value of each card.
    counts
        (n, n_row, n_column) uint16, in the orientation of the file
    broken
        Card images that are written as they are.
    """
    pixels = (counts.astype(np.int32) - 32768).astype(">i2").tobytes()
    growing = path.with_name(f".{path.name}.part")
    with growing.open("wb") as file:
        file.write(header_bytes(cards, counts.shape, broken))
        file.write(pixels)
        file.write(bytes(-len(pixels) % BLOCK))
    growing.replace(path)
