"""The options of each step: one frozen record a step, its fields named as users know them.

A field is the documented argument in lower case, so that the upper-case dictionaries, keyword
arguments and config.toml all speak of the same thing. `options_from` is the one way in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, TypeVar

from kspecdr.errors import BadOption

COSMIC_METHODS = ("NONE", "LACOSMIC", "PROFILE")
EXTRACTIONS = ("SUM", "TRAM", "GAUSS", "OPTEX")
RETIRED_EXTRACTIONS = {"SMCOPTEX": "OPTEX", "CLOPTEX": "OPTEX", "NEWTRAM": "TRAM", "FIT": "GAUSS"}


@dataclass(frozen=True)
class ImageOptions:
    """From a converted frame to an image in electrons."""

    mark_saturated: bool = True
    cosmic_ray_method: str = "NONE"
    sigclip: float = 6.0  # LACOSMIC: Laplacian to noise limit
    sigfrac: float = 0.3  # LACOSMIC: fraction of it for neighbours of a hit
    objlim: float = 5.0  # LACOSMIC: least contrast against the fine structure

    def __post_init__(self) -> None:
        _one_of("cosmic_ray_method", self.cosmic_ray_method, COSMIC_METHODS)


@dataclass(frozen=True)
class TramlineOptions:
    """From the image of a fiber flat to a tramline map."""

    sparse_fibs: bool = False  # fewer than half of the fibers may be lit
    tlm_fit_res: bool = False  # keep measured minus fitted positions in the product
    qad_pksearch: bool = False  # quick look: peaks in bins of 80 columns instead of 20


@dataclass(frozen=True)
class ExtractOptions:
    """From an image and a tramline map to one spectrum a fiber."""

    extr_operation: str = "SUM"
    sum_width: float = 5.0  # px
    tlm_shift: float | None = None  # rows; None: measured on the frame
    scatsub: bool = False  # subtract a smooth background between and outside the fibers
    wtscheme: str = "MODEL"  # weights from the model of the light: the only scheme
    optex_mkres: bool = False  # write the residual image beside the spectra

    def __post_init__(self) -> None:
        if self.extr_operation in RETIRED_EXTRACTIONS:
            instead = RETIRED_EXTRACTIONS[self.extr_operation]
            raise BadOption(f"extr_operation {self.extr_operation!r} is not offered; use {instead!r}")
        _one_of("extr_operation", self.extr_operation, EXTRACTIONS)
        _one_of("wtscheme", self.wtscheme, ("MODEL",))
        if not self.sum_width > 0:
            raise BadOption(f"sum_width is {self.sum_width}, expected a width in px above 0")


@dataclass(frozen=True)
class ArcOptions:
    """From extracted arcs to wavelengths."""

    use_gencal: bool = True  # identify by pattern; it is the only way offered
    crscgma_ms: float = 75.0  # px, largest shift between prediction and truth

    def __post_init__(self) -> None:
        if not self.use_gencal:
            raise BadOption("use_gencal=False is not offered: wavelengths are always identified by their pattern")
        if not self.crscgma_ms > 0:
            raise BadOption(f"crscgma_ms is {self.crscgma_ms}, expected a number of px above 0")


@dataclass(frozen=True)
class FlatOptions:
    """From an extracted fiber flat to the response of fibers and pixels."""

    laf_flag: bool = False  # the lamp's spectrum is that of the nearest fibers, not of all
    laf_par: int = 10  # how many those are
    truncflat: bool = False  # use the columns from useflatstart to useflatend only
    useflatstart: int = 0
    useflatend: int | None = None
    bssmooth: bool = False  # the response is smooth: no structure of single pixels
    bssnpars: int = 16  # parameters of the B-splines
    bssnsigm: float = 6.0  # clip, sigma

    def __post_init__(self) -> None:
        for name, least in (("laf_par", 1), ("bssnpars", 4), ("bssnsigm", 1.0)):
            if getattr(self, name) < least:
                raise BadOption(f"{name} is {getattr(self, name)}, expected {least} or more")


@dataclass(frozen=True)
class ObjectOptions:
    """From extracted object spectra to the reduced ones."""

    log_wave: bool = False  # equal steps of the logarithm of wavelength
    skysub: bool = True  # subtract the sky of the sky fibers, where the table has any and a flat is given
    skysprsmp: bool = True  # knots of the sky as close as lines ask for; False: two pixels apart, for less noise
    inc_rwss: bool = False  # keep the spectra without sky subtraction as HDU RWSS
    calibflux: bool = False  # divide by the transfer function
    airmass: float | None = None  # of the exposure; needed where the transfer function knows the extinction


@dataclass(frozen=True)
class ReductionOptions(ObjectOptions, ExtractOptions):
    """From a converted object frame to the reduced spectra: all that reduce_object understands."""

    cosmic_ray_method: str = "PROFILE"
    usedarkim: bool = True  # subtract the dark, where one is given
    dpcrrex: bool = False  # look for cosmic rays a second time, with the profiles of the extraction
    verbose: bool = True


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadOption(f"{name} is {value!r}, expected one of {', '.join(known)}")


OptionsT = TypeVar("OptionsT")


def options_from(kind: type[OptionsT], values: Mapping[str, Any], *, owner: str) -> OptionsT:
    """Make the options record `kind` of plain values; an unknown key is an error that lists the known."""
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]  # every kind is a dataclass
    reject_unknown(owner, values, list(known))
    return kind(**{name: _typed(owner, name, value, str(known[name])) for name, value in values.items()})


def _typed(owner: str, name: str, value: Any, annotation: str) -> Any:
    """Return a value of the kind that its field's annotation names; anything else is an error that says which."""
    kinds = {part.strip() for part in annotation.replace("<class '", "").replace("'>", "").split("|")}
    if value is None and "None" in kinds:
        return value
    if isinstance(value, bool) or "bool" in kinds:
        fits = isinstance(value, bool) and "bool" in kinds
    elif "float" in kinds:
        fits = isinstance(value, int | float) and isfinite(value)
    else:
        fits = isinstance(value, int) if "int" in kinds else isinstance(value, str)
    if not fits:
        words = {"bool": "True or False", "float": "a finite number", "int": "a whole number", "str": "a text"}
        wanted = " or ".join(words.get(kind, kind) for kind in sorted(kinds))
        raise BadOption(f"{owner}: {name} is {value!r}, expected {wanted}")
    return value


def recorded(step: str, options: Any) -> tuple[tuple[str, str], ...]:
    """Return an options record as a product's PROVENANCE keeps it: ("extract.sum_width", "5.0"), ..."""
    return tuple((f"{step}.{field.name}", str(getattr(options, field.name))) for field in fields(options))


def reject_unknown(owner: str, given: Mapping[str, Any], known: list[str]) -> None:
    """Raise BadOption for the first key of `given` that is not among `known`, listing those."""
    for key in given:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise BadOption(f"{owner} does not know {key!r}{meant} (known: {', '.join(known)})")
