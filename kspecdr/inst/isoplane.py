"""IsoPlane with a PIXIS camera: LightField's cards and orientation -> kspecdr's.

What LightField sets lies in a tree, which `settings` looks up; `describe_header` says what it means.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from kspecdr.arrays import Ints
from kspecdr.errors import BadFrame, BadOption, named
from kspecdr.inst.readout import MODES, Readout, find_readout, mode_name
from kspecdr.inst.settings import LARGEST_VALUE, Cards, parsable_cards
from kspecdr.io.cards import setup_cards
from kspecdr.io.fiber_table import fibers_hdu, load_fibers
from kspecdr.io.fits import read_raw, write_frame
from kspecdr.io.raw_file import shown
from kspecdr.legacy import documented
from kspecdr.products import CONVERTER_LIMIT, FRAME_CLASSES, Fibers, Frame, Setup

DATASHEET_DISPERSION = 23.0  # Angstrom / mm with a 1200 lines/mm grating, SCT-320 datasheet; some 6 % low
FLIPS = ("FlippedVertically", "FlippedHorizontally")  # of rows, of columns
ORIENTATION_CARDS = ("LIGHTPATHORIENTATIONUNCORRECTED", "ORIENTATION RESULT")
SENSOR_SIZE = re.compile(r"(\d{2,5})\s*x\s*(\d{2,5})")  # columns x rows, in the sensor's name
PIXIS_1300 = (1340, 1300)  # columns, rows of the camera for which this was written
MOST_OVERSCAN = 200  # rows; more are no overscan, but another sensor
LONGEST_EXPOSURE = 8.64e7  # ms, a day
GRATING = re.compile(r"\[?\s*([^,\[\]]+?)\s*,\s*(\d+(?:\.\d+)?)\s*\]?")


def sanitize_header_drop_unparsable(header: fits.Header) -> fits.Header:
    """Return a copy of `header` without the cards that cannot be parsed.

    LightField breaks some CONTINUE chains: the header reads, but writing or printing it raises
    VerifyError. A broken chain goes as a whole, with its parent card.
    """
    return fits.Header(list(parsable_cards(header)))


def get_isoplane_readout_settings(header: fits.Header, modes: Mapping[str, Readout] = MODES) -> Readout:
    """Return gain, read noise and saturation of the mode that the header names.

    Cameras with one ADC quality write no QUALITY card: LowNoise is assumed then.
    """
    return _readout(Cards.of(header), modes)


def _readout(cards: Cards, modes: Mapping[str, Readout]) -> Readout:
    quality = str(cards.find("ADC QUALITY") or "LowNoise").replace(" ", "")
    name = mode_name(cards.number("ADC SPEED"), quality, cards.text("ADC ANALOGGAIN"))
    return find_readout(name, modes)


def _exposure(cards: Cards) -> float:
    milliseconds = cards.number("SHUTTERTIMING EXPOSURETIME", "EXPTIME")
    if not 0 <= milliseconds <= LONGEST_EXPOSURE:
        raise BadFrame(f"card EXPOSURETIME is {milliseconds:g} ms, expected 0 to {LONGEST_EXPOSURE:g}")
    return round(milliseconds / 1000.0, 6)  # LightField writes 999.99999999999989 for 1 s


def _observed(cards: Cards) -> datetime:
    text = cards.text("DATE-OBS")
    try:
        moment = datetime.fromisoformat(text)
        observed = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadFrame(f"card DATE-OBS is {text[:60]!r}, expected a date such as 2024-08-24T13:47:39") from None
    if not 1900 < observed.year < 2200:
        raise BadFrame(f"card DATE-OBS is {text[:60]!r}, expected a year from 1901 to 2199")
    return observed


def _lines_per_mm(cards: Cards) -> float:
    text = cards.text("GRATING SELECTED")
    match = GRATING.search(text)
    if not match or not 0 < float(match[2]) < LARGEST_VALUE:
        raise BadFrame(f"card GRATING SELECTED is {text[:60]!r}, expected such as [500nm,150][2][0] (blaze, lines/mm)")
    return float(match[2])


def _binning(cards: Cards) -> tuple[int, int]:
    rows, columns = (
        cards.optional(f"RESULT {axis}BINNING", f"RESULT REGIONOFINTEREST {axis}BINNING", f"{axis}BINNING") or 1.0
        for axis in "YX"
    )
    for factor in (rows, columns):
        if factor != int(factor) or not 1 <= factor <= 10_000:
            raise BadFrame(f"card BINNING is {factor:g}, expected a whole number from 1")
    return int(rows), int(columns)


def _overscan_rows(cards: Cards, binning: tuple[int, int]) -> int:
    """Return how many rows the frame has beyond those of the sensor; a frame of fewer rows is a part of it."""
    rows, columns = (int(cards.optional(f"NAXIS{k}") or 0) for k in (2, 1))
    height = cards.optional("INFORMATION ACTIVEAREA HEIGHT") or 0.0
    named = SENSOR_SIZE.search(str(cards.find("SENSOR INFORMATION SENSORNAME") or ""))
    if not height and named:
        height = float(named[2])
    if not height and columns * binning[1] == PIXIS_1300[0]:
        height = PIXIS_1300[1]
    beyond = rows - int(height) // binning[0]
    return beyond if height and 0 < beyond * binning[0] <= MOST_OVERSCAN else 0


def describe_header(
    header: fits.Header,
    ndfclass: str,
    *,
    modes: Mapping[str, Readout] = MODES,
    date_obs: str = "start",
    n_exposure: int = 1,
) -> Setup:
    """Return what a LightField header says of its frame, of the first where the file is a cube.

    date_obs : "start" or "end": whether DATE-OBS marks the start of the first exposure or the end of the last;
        readers disagree.
    n_exposure : exposures in the file, which follow each other without pause

    Raises BadFrame naming the card, its value and the expectation.
    """
    cards = Cards.of(header)
    readout, exposure, start = _readout(cards, modes), _exposure(cards), _observed(cards)
    if cards.find("ACQUISITION STARTED") is not None:  # an SPE file says what its moment means
        date_obs = "start"
    _flips(cards)  # a frame whose orientation is not known cannot be converted
    lines, pixel = _lines_per_mm(cards), cards.optional("SENSOR INFORMATION PIXEL WIDTH") or 20.0
    binning = _binning(cards)
    return Setup(
        frame_class=ndfclass,
        exposure=exposure,
        start=start if date_obs == "start" else start - timedelta(seconds=n_exposure * exposure),
        gain=readout.gain,
        read_noise=readout.read_noise,
        saturation=readout.saturation,
        readout=readout.name,
        lambda_center=cards.number("GRATING CENTERWAVELENGTH") * 10.0,
        dispersion=DATASHEET_DISPERSION * 1200.0 / lines * pixel * 1e-3 * binning[1],
        lines_per_mm=lines,
        pixel_um=pixel,
        binning=binning,
        overscan_rows=_overscan_rows(cards, binning),
        focal_length=cards.optional("CALIBRATIONINFORMATION FOCALLENGTH"),
        inclusion_angle=cards.optional("CALIBRATIONINFORMATION INCLUSIONANGLE"),
        detector_angle=cards.optional("CALIBRATIONINFORMATION DETECTORANGLE"),
        detector=str(cards.find("SENSOR INFORMATION SENSORNAME") or ""),
        lamp=str(cards.find("LAMPNAME") or ""),
        target=str(cards.find("OBJECT") or ""),
        temperature=cards.optional("SENSOR TEMPERATURE READING"),
        cosmic_corrected=str(cards.find("COSMICRAYCORRECTION ENABLED")).lower() in ("true", "t", "1"),
    )


def warnings_of(
    header: fits.Header, modes: Mapping[str, Readout] = MODES, *, brightest: float = CONVERTER_LIMIT
) -> list[str]:
    """Return what a person should know of a frame that is reduced all the same.

    brightest : ADU, the brightest pixel; a full well that nobody measured matters to bright frames alone
    """
    cards = Cards.of(header)
    said = []
    if cards.find("ADC QUALITY") is None:
        said.append("no ADC QUALITY card: LowNoise assumed")
    if brightest > CONVERTER_LIMIT / 2 and not _readout(cards, modes).saturation_known:
        said.append(f"full well of this readout mode not measured: saturation at {CONVERTER_LIMIT:.0f} ADU")
    if str(cards.find("COSMICRAYCORRECTION ENABLED")).lower() in ("true", "t", "1"):
        said.append("LightField's cosmic-ray correction altered the pixels")
    return said


def convert_isoplane_header(header: fits.Header, ndfclass: str) -> fits.Header:
    """Return the header with kspecdr's cards added: INSTRUME, RO_GAIN, LAMBDAC, EXPOSED and the like."""
    converted = sanitize_header_drop_unparsable(header)
    for keyword, value, comment in setup_cards(describe_header(header, ndfclass)):
        converted.remove(keyword, ignore_missing=True, remove_all=True)  # it may be too broken to be set
        converted[keyword] = (value, comment)
    return converted


def flips(header: fits.Header) -> tuple[bool, bool]:
    """Return whether (rows, columns) must be reversed to reach the normalised orientation.

    Each of two cards counts +1 for a flip that it does not name and -1 for one that it does; where
    the product is positive the axis is reversed.
    """
    return _flips(Cards.of(header))


def _flips(cards: Cards) -> tuple[bool, bool]:
    texts = [cards.text(card) for card in ORIENTATION_CARDS]
    rows, columns = ((FLIPS[k] in texts[0]) == (FLIPS[k] in texts[1]) for k in (0, 1))
    return rows, columns


def orient(counts: Ints, header: fits.Header) -> Ints:
    """Return `counts` (..., n_row, n_column) in the normalised orientation."""
    rows, columns = flips(header)
    return np.ascontiguousarray(counts[..., :: -1 if rows else 1, :: -1 if columns else 1])


def convert(
    path: str | Path,
    ndfclass: str,
    fibers: Fibers,
    *,
    modes: Mapping[str, Readout] = MODES,
    date_obs: str = "start",
    lamp: str = "",
    target: str = "",
) -> list[Frame]:
    """Read a raw LightField file; return its exposures as frames in the normalised orientation.

    lamp, target : what is known beside the header; LightField has cards for neither.
    """
    raw = read_raw(path)
    with named(shown(Path(path).name)):
        header = sanitize_header_drop_unparsable(raw.header)
        setup = describe_header(header, ndfclass, modes=modes, date_obs=date_obs, n_exposure=len(raw.cube))
        setup = replace(setup, lamp=lamp or setup.lamp, target=target or setup.target)
        return [
            Frame(counts, _later(setup, k), fibers, header, raw.provenance)
            for k, counts in enumerate(orient(raw.cube, header))
        ]


def _later(setup: Setup, k: int) -> Setup:
    """Return the setup of the k-th exposure of a cube: they follow each other without pause."""
    return replace(setup, start=setup.start + timedelta(seconds=k * setup.exposure))


@documented()
def write_isoplane_converted_image(
    fpath: str | Path,
    output_fpath: str | Path,
    ndfclass: str,
    n_fibers: int | None = None,
    fiber_table: Any = None,
    split_frames: bool = False,
) -> str | list[str]:
    """Convert a raw LightField file: standard cards, normalised orientation, fiber table.

    Parameters
    ----------
    fpath, output_fpath : raw file, and where the converted one goes
    ndfclass : BIAS, DARK, LFLAT, MFFFF, MFARC, MFOBJECT, MFSKY or MFFLX
    n_fibers : number of fibers in the slit, all of type P
    fiber_table : path of a CSV, ECSV or FITS table, an astropy Table or Fibers
    split_frames : write one file an exposure, `X_f001_converted.fits`, and return their paths

    Raises
    ------
    BadOption (a ValueError)
        Neither n_fibers nor fiber_table; several exposures without split_frames.
    BadFrame
        A file that is damaged or lacks a card.
    """
    if ndfclass not in FRAME_CLASSES:
        raise BadOption(f"ndfclass is {ndfclass!r}, expected one of {', '.join(FRAME_CLASSES)}")
    fibers = load_fibers(fiber_table, n_fibers)
    frames = convert(fpath, ndfclass, fibers)
    output = Path(output_fpath)
    if split_frames:
        name = output.name.removesuffix(".fits").removesuffix("_converted")
        paths = [output.with_name(f"{name}_f{k:03d}_converted.fits") for k in range(1, len(frames) + 1)]
        return [write_frame(path, frame) for path, frame in zip(paths, frames, strict=True)]
    if len(frames) > 1:
        raise BadOption(f"{Path(fpath).name} holds {len(frames)} exposures; call with split_frames=True")
    return write_frame(output, frames[0])


def add_fiber_table(hdul: fits.HDUList, n_fibers: int | None, fiber_table: Any = None) -> fits.HDUList:
    """Append the FIBRES table to `hdul` (in place) and return it."""
    hdul.append(fibers_hdu(load_fibers(fiber_table, n_fibers)))
    return hdul
