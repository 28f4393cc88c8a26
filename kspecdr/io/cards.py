"""Setup <-> FITS cards: every keyword of this package's products with its unit, in one table."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from math import isfinite, nan
from typing import Any
from urllib.parse import quote, unquote

from kspecdr.errors import BadFrame
from kspecdr.products import Setup

FIELDS = (  # field of Setup, keyword, comment
    ("frame_class", "NDFCLASS", "class of the frame"),
    ("exposure", "EXPOSED", "[s] exposure time"),
    ("gain", "RO_GAIN", "[electron/adu] gain"),
    ("read_noise", "RO_NOISE", "[electron] read noise"),
    ("saturation", "SATURATE", "[adu] saturation level, pedestal included"),
    ("readout", "READOUT", "readout mode"),
    ("lambda_center", "LAMBDAC", "[Angstrom] central wavelength by the header"),
    ("dispersion", "DISPERS", "[Angstrom/pixel] datasheet dispersion, unsigned"),
    ("lines_per_mm", "GRATLPMM", "[1/mm] lines of the grating"),
    ("pixel_um", "PIXSIZE", "[um] pixel size"),
    ("overscan_rows", "OVERSCAN", "rows that no light reaches"),
    ("focal_length", "FOCALLEN", "[mm] focal length"),
    ("inclusion_angle", "INCLANG", "[deg] inclusion angle"),
    ("detector_angle", "DETANG", "[deg] detector angle"),
    ("detector", "DETECTOR", "sensor"),
    ("lamp", "LAMPNAME", "arc lamps"),
    ("target", "OBJECT", "target"),
    ("temperature", "DETTEMP", "[deg C] sensor temperature"),
    ("cosmic_corrected", "LFCOSMIC", "LightField altered the pixels (cosmic rays)"),
)
FIXED = (
    ("INSTRUME", "ISOPLANE", "instrument"),
    ("DISPAXIS", 1, "dispersion runs along the columns (NAXIS1)"),
)

Card = tuple[str, Any, str]
KINDS = {each.name: str(each.type) for each in fields(Setup)}  # such as "float", "float | None", "str"
PLAIN = "".join(map(chr, range(32, 127))).replace("%", "")


def to_ascii(text: str) -> str:
    """Return a text as a FITS table can hold it: all but plain ASCII percent-encoded (RFC 3986).

    >>> to_ascii("Bias 2026 März.fits")
    'Bias 2026 M%C3%A4rz.fits'
    """
    return quote(text, safe=PLAIN, errors="surrogateescape")


def from_ascii(text: str) -> str:
    """Return the text that `to_ascii` encoded."""
    return unquote(text, errors="surrogateescape")


def setup_cards(setup: Setup) -> list[Card]:
    """Return the cards (keyword, value, comment) that say all that `setup` says."""
    cards: list[Card] = list(FIXED)
    cards += [
        (keyword, getattr(setup, name), comment)
        for name, keyword, comment in FIELDS
        if getattr(setup, name) is not None
    ]
    return [
        *cards,
        ("BINROWS", setup.binning[0], "rows binned into one"),
        ("BINCOLS", setup.binning[1], "columns binned into one"),
        ("DATE-OBS", _iso(setup.start), "start of the exposure, UTC"),
        ("UTDATE", f"{setup.start:%Y-%m-%d}", "date of the start, UTC"),
        ("UTSTART", f"{setup.start:%H:%M:%S.%f}"[:-3], "start of the exposure, UTC"),
        ("UTEND", f"{setup.end:%H:%M:%S.%f}"[:-3], "end of the exposure, UTC"),
        ("UTMJD", round(setup.mjd, 8), "[d] modified Julian date of the start"),
    ]


def setup_of(header: Mapping[str, Any]) -> Setup:
    """Return the Setup that `setup_cards` wrote; a missing card is a BadFrame that names it."""
    values = {}
    for name, keyword, _ in FIELDS:
        if keyword in header:
            values[name] = _typed(keyword, header[keyword], KINDS[name])
    for keyword in ("NDFCLASS", "EXPOSED", "RO_GAIN", "RO_NOISE", "LAMBDAC", "DISPERS", "DATE-OBS"):
        if keyword not in header:
            raise BadFrame(f"card {keyword} is missing; convert the raw file with write_isoplane_converted_image first")
    values.setdefault("saturation", 65535.0)
    values.setdefault("readout", "")
    values.setdefault("lines_per_mm", 0.0)
    return Setup(
        **values,
        binning=(int(header.get("BINROWS", 1)), int(header.get("BINCOLS", 1))),
        start=datetime.fromisoformat(header["DATE-OBS"]).replace(tzinfo=UTC),
    )


def _typed(keyword: str, value: Any, kind: str) -> Any:
    if "float" not in kind:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = nan
    if isinstance(value, bool) or not isfinite(number):
        raise BadFrame(f"card {keyword} is {value!r}, expected a number")
    return number


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3]
