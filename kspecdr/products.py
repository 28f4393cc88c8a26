"""What the steps hand to each other: frozen records of arrays, checked when they are made.

Rows are spatial, columns are dispersion; pixel k spans k - 0.5 to k + 0.5, from 0.
Electrons and electrons squared, Angstrom in air, seconds, UTC. NaN is bad.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntFlag, StrEnum
from typing import Any

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints, Strings
from kspecdr.errors import BadOption


class MaskBit(IntFlag):
    """Why a pixel is bad; the bits of every MASK array (uint8)."""

    BAD_PIXEL = 1
    SATURATED = 2
    COSMIC = 4
    NO_DATA = 8


def flagged(mask: Ints | Bools, bits: MaskBit) -> Bools:
    """Return where any of `bits` is raised in a MASK of any shape."""
    return np.asarray((mask & np.uint8(bits)) != 0)  # an enum's own integer would make eight bytes of each pixel


class Note(StrEnum):
    """The keys of `Spectra.notes`, which are cards of the product too."""

    STRANGE = "STRANGE"  # light that no profile explains, as a share of that of the fiber troubled most
    ALARM = "TLMALARM"  # why the traces may not lie on this frame
    DOUBT = "DOUBT"  # why fibers may be misnamed
    LINES = "ARC_LINE"  # number used in the solution
    RMS = "ARC_RMS"  # px, of the lines used
    HELD_OUT = "ARC_HELD"  # px, rms of lines left out of the fit
    HELD_OUT_EXPECTED = "ARC_HEXP"  # px, what the fits without them said of that
    LOST = "ARC_LOST"  # share of the peaks that the pattern explained which the solution puts elsewhere
    FWHM = "ARC_FWHM"  # px, of the lines
    DARK = "ARC_DARK"  # number of fibers without lines of their own


CONVERTER_LIMIT = 65535.0  # ADU, 16 bit

FIBER_TYPES = {
    "P": "program",
    "S": "sky",
    "F": "guide",
    "N": "not in use",
    "U": "unallocated",
    "D": "dead",
}
OBJECT_CLASSES = ("MFOBJECT", "MFSKY", "MFFLX")
FRAME_CLASSES = ("BIAS", "DARK", "LFLAT", "MFFFF", "MFARC", *OBJECT_CLASSES)
LAMP_CLASSES = ("MFFFF", "MFARC", "MFSKY")  # frames in which a lamp or the twilight lights all fibers
LIT_TYPES = frozenset("PSU")  # fibers that the flat lamp is expected to light


@dataclass(frozen=True)
class Setup:
    """What a frame's header says of how it was taken, in the units of this package."""

    frame_class: str  # one of FRAME_CLASSES
    exposure: float  # s
    start: datetime  # UTC
    gain: float  # electron / ADU
    read_noise: float  # electron
    saturation: float  # ADU, pedestal included
    readout: str  # e.g. "2 MHz LowNoise Low"
    lambda_center: float  # Angstrom, as the header says; tens of Angstrom off at times
    dispersion: float  # Angstrom / px by the datasheet, unsigned; some 6 % low
    lines_per_mm: float
    pixel_um: float = 20.0
    binning: tuple[int, int] = (1, 1)  # rows, columns
    overscan_rows: int = 0  # rows beyond those of the sensor, at either end; rows are counted with them
    focal_length: float | None = None  # mm
    inclusion_angle: float | None = None  # degree
    detector_angle: float | None = None  # degree
    detector: str = ""
    lamp: str = ""
    target: str = ""
    temperature: float | None = None  # degree C
    cosmic_corrected: bool = False  # LightField altered the pixels

    @property
    def end(self) -> datetime:
        """End of the exposure, UTC."""
        return self.start + timedelta(seconds=self.exposure)

    @property
    def mjd(self) -> float:
        """Modified Julian date of the start, UTC."""
        return (self.start - datetime(1858, 11, 17, tzinfo=UTC)) / timedelta(days=1)


@dataclass(frozen=True)
class Fibers:
    """The fiber table: one entry a fiber, in the order of rows, lowest row first."""

    type: Strings  # (n_fiber,) letters of FIBER_TYPES
    name: Strings  # (n_fiber,)
    columns: Mapping[str, Any] = field(default_factory=dict)  # what else the table brought, (n_fiber,) each

    def __post_init__(self) -> None:
        unknown = sorted(set(self.type.tolist()) - set(FIBER_TYPES))
        if unknown:
            known = ", ".join(f"{letter} {meaning}" for letter, meaning in FIBER_TYPES.items())
            raise BadOption(f"fiber type {unknown[0]!r} is not known; the types are {known}")
        for name, column in {"name": self.name, **self.columns}.items():
            if len(column) != len(self.type):
                raise BadOption(f"fiber table: column {name} has {len(column)} rows, expected {len(self.type)}")

    def __len__(self) -> int:
        return len(self.type)

    @classmethod
    def of(cls, n_fiber: int) -> "Fibers":
        """Return a table of `n_fiber` program fibers without names of their own."""
        return cls(np.full(n_fiber, "P"), np.array([f"fiber {k + 1}" for k in range(n_fiber)], dtype=np.str_))

    def retyped(self, types: Mapping[int, str]) -> "Fibers":
        """Return the table with the types of some fibers replaced; keys count from 1."""
        beyond = [number for number in types if not 1 <= number <= len(self)]
        if beyond:
            raise BadOption(f"FIB{beyond[0]}: there are fibers 1 to {len(self)}")
        letters = self.type.copy()
        for number, letter in types.items():
            letters[number - 1] = letter
        return Fibers(letters, self.name, self.columns)


@dataclass(frozen=True)
class Source:
    """One input of a product: its role, its file's name and the hash of its bytes."""

    role: str  # raw, bias, dark, lflat, tlm, arc, ...
    name: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Everything that a product was made from and with."""

    sources: tuple[Source, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def __or__(self, other: "Provenance") -> "Provenance":
        """Return the union of both, each entry once, in order."""
        return Provenance(
            tuple(dict.fromkeys(self.sources + other.sources)),
            tuple(dict.fromkeys(self.options + other.options)),
        )

    def with_options(self, options: tuple[tuple[str, str], ...]) -> "Provenance":
        """Return this provenance with the options of one more step."""
        return self | Provenance(options=options)

    def seen_from(self, role: str) -> "Provenance":
        """Return this provenance as part of another product's: `role` says whose raw frames and options these are."""
        return Provenance(
            tuple(replace(s, role=f"{role} {s.role}") if s.role in OWN_ROLES else s for s in self.sources),
            tuple((key if "/" in key else f"{role}/{key}", value) for key, value in self.options),
        )


OWN_ROLES = ("raw", "converted", "im", "ex")  # what belongs to one exposure, not to calibrations of it


def _same_shape(owner: str, shape: tuple[int, ...], **arrays: Any) -> None:
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{owner}.{name} has shape {array.shape}, expected {shape}")


@dataclass(frozen=True)
class Frame:
    """One converted exposure: counts in the normalised orientation."""

    counts: Ints  # (n_row, n_column) ADU
    setup: Setup
    fibers: Fibers
    header: Any = None  # the raw file's cards, carried along unread
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class Image:
    """A preprocessed exposure or a master calibration."""

    flux: Floats  # (n_row, n_column) electron
    variance: Floats  # (n_row, n_column) electron**2
    mask: Ints  # (n_row, n_column) uint8 bits of MaskBit
    setup: Setup
    fibers: Fibers
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        _same_shape("Image", self.flux.shape, variance=self.variance, mask=self.mask)


@dataclass(frozen=True)
class TramlineMap:
    """Where each fiber lies and how its light spreads over the rows."""

    center: Floats  # (n_fiber, n_column) row
    width: Floats  # (n_fiber, n_column) sigma of the core, px
    wave: Floats  # (n_fiber, n_column) predicted Angstrom; the true ones come from an arc
    status: Strings  # (n_fiber,) traced, faint, interpolated, ...
    setup: Setup
    fibers: Fibers
    wings: Floats = field(default_factory=lambda: np.zeros(0))  # see kspecdr.tlm.profile
    doubt: str = ""  # why the identity of fibers is not beyond doubt; empty where it is
    fit_residual: Floats | None = None  # (n_fiber, n_bin) px, measured minus fitted
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        _same_shape("TramlineMap", self.center.shape, width=self.width, wave=self.wave)
        _same_shape("TramlineMap", self.center.shape[:1], status=self.status)
        if len(self.fibers) != self.center.shape[0]:
            raise ValueError(f"TramlineMap has {self.center.shape[0]} traces for {len(self.fibers)} fibers")

    @property
    def median_width(self) -> float:
        """Median sigma of the fibers' cores, px (card MWIDTH)."""
        return float(np.nanmedian(self.width))


@dataclass(frozen=True)
class Spectra:
    """One spectrum a fiber; native pixels, or a common linear grid where `grid` is set."""

    flux: Floats  # (n_fiber, n_column) electron
    variance: Floats  # (n_fiber, n_column) electron**2
    mask: Ints  # (n_fiber, n_column) uint8 bits of MaskBit
    wave: Floats  # (n_fiber, n_column) Angstrom in air
    setup: Setup
    fibers: Fibers
    covariance: Floats | None = None  # (n_fiber, n_column) with the next sample, electron**2
    sky: Floats | None = None  # (n_column,) subtracted sky, electron
    without_sky: Floats | None = None  # (n_fiber, n_column) flux before the sky was subtracted, electron
    shifts: Floats | None = None  # (n_fiber,) arc: columns against the reference fiber
    wave_error: Floats | None = None  # (n_fiber, n_column) Angstrom
    lamp: Floats | None = None  # (n_fiber, n_column) fiber flat: the lamp's light in a typical fiber, electron
    lines: Mapping[str, Any] | None = None  # arc: every line, equal-length columns
    calibrated: bool = False  # wave comes from an arc
    scrunched: bool = False  # on one grid for all fibers
    unit: str = "electron"  # of the flux; others after flux calibration
    tramline_shift: float = 0.0  # rows added to the map for this frame
    notes: Mapping[str, Any] = field(default_factory=dict)  # numbers of the quality checklist, as cards
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        shape = self.flux.shape
        _same_shape("Spectra", shape, variance=self.variance, mask=self.mask, wave=self.wave)
        _same_shape("Spectra", shape, covariance=self.covariance, wave_error=self.wave_error)
        _same_shape("Spectra", shape, without_sky=self.without_sky, lamp=self.lamp)
        _same_shape("Spectra", shape[1:], sky=self.sky)
        if len(self.fibers) != shape[0]:
            raise ValueError(f"Spectra has {shape[0]} spectra for {len(self.fibers)} fibers")
