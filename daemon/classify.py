"""What a frame is: its file's name, folder, header and sidecar -> FrameInfo.

LightField writes no card for class, lamp or target. A sidecar decides, else the first rule of the
configuration of which everything matches. Setting and time come from the header alone; where the
name says otherwise, that is a warning.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from daemon.config import Config, error_sentence, read_toml
from daemon.fiber_tables import table_hash
from daemon.naming import base_name, lamp_name
from daemon.planning.groups import night_of
from daemon.records import FrameInfo, FrameState, Setup
from daemon.sections import ClassRule, Sidecar
from daemon.store.texts import storable
from daemon.watching.completeness import Incomplete, check
from daemon.watching.listing import SIDECAR_SUFFIX, sidecars_of
from daemon.watching.twins import preferred
from kspecdr.errors import BadOption, KspecError
from kspecdr.inst.isoplane import describe_header
from kspecdr.inst.settings import Cards
from kspecdr.io.hdus import is_product
from kspecdr.io.raw_file import LARGEST, shown
from kspecdr.io.raw_header import Header, image_shape, read_header

UNCLASSIFIED = "UNCLASSIFIED"
RENAME = "rename it, it is then taken in"
START_TO = 2.0  # s to which headers tell when an exposure began
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "min": 60.0}


@dataclass(frozen=True, slots=True)
class Description:
    """The frames of a file, and what a person should know about it."""

    frames: tuple[FrameInfo, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a name, a folder, a header or a sidecar says that a frame is."""

    frame_class: str = UNCLASSIFIED
    lamp: str = ""
    target: str = ""
    reason: str = ""
    fibers: int | str = ""


def describe(path: Path, root: Path, config: Config, *, landed: datetime, index: int = 0) -> Description:
    """Describe a complete file: one FrameInfo for each exposure in it.

    Parameters
    ----------
    path, root : the file, and the watched directory that it lies in
    landed : when it was seen to be complete
    index : which of the watched roots

    Returns
    -------
    Description
        Whatever the file is, it has a state and a reason; nothing is raised for a bad file. A file that
        changed while it was read is INCOMPLETE.
    """
    relative = path.relative_to(root)
    name = storable(relative.as_posix())
    bare = FrameInfo(path=name, content_hash="", size=0, mtime_ns=0, landed=landed, root=index)
    if name != relative.as_posix():  # whoever has the stored name does not find the file by it
        said = f"its {'name' if storable(path.name) != path.name else 'folder'} is not UTF-8; {RENAME}"
        return Description((replace(bare, state=FrameState.INVALID, reason=said),))
    try:
        before = path.stat()
        if before.st_size > LARGEST:
            said = f"{shown(path.name)} has {before.st_size} bytes, expected at most {LARGEST}; is it a frame?"
            return Description((replace(bare, state=FrameState.INVALID, reason=said),))
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        after = path.stat()
    except OSError as error:
        said = f"{shown(path.name)} cannot be read ({error.strerror}); check its permissions"
        return Description((replace(bare, state=FrameState.INVALID, reason=said),))
    if _signature(before) != _signature(after):
        said = f"{shown(path.name)} changed while it was read"
        return Description((replace(bare, state=FrameState.INCOMPLETE, reason=said),))
    bare = replace(bare, content_hash=content, size=after.st_size, mtime_ns=after.st_mtime_ns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cards beyond the standard; a card that is used is checked
        return _described(bare, path, relative, config)


def assign(relative: Path, header: Header | None, config: Config) -> Assignment:
    """Return what the first matching rule makes of a file; UNCLASSIFIED where none matches."""
    for rule in config.classify:
        captured = _captured(rule, relative, header)
        if captured is None:
            continue
        lamp = rule.lamp or lamp_name(captured.get("lamp") or "")
        target = rule.target or _bare_target(captured.get("target") or "", config)
        return Assignment(rule.frame_class, lamp, target, rule.reason)
    return Assignment(
        reason=f"no rule of [[classify]] matches {shown(relative.name)}; say what it is with "
        f"`kspecdr classify FRAME CLASS`, a sidecar {shown(relative.name)}{SIDECAR_SUFFIX}, or a rule"
    )


def read_sidecar(path: Path) -> Sidecar | None:
    """Read the sidecar of a frame; None where there is none, BadOption where it is not understood."""
    found = next((each for each in sidecars_of(path) if each.is_file()), None)
    if found is None:
        return None
    try:
        return Sidecar.model_validate(read_toml(found), context={"folder": found.parent})
    except ValidationError as error:
        raise BadOption(f"{found.name}: {error_sentence(Sidecar, error.errors())}") from None


def is_one_exposure(one: FrameInfo, other: FrameInfo, n_exposure: int) -> bool:
    """Tell whether two descriptions are of the same exposures.

    n_exposure : how many the file holds
    One format may tell when the first began, to the second, and the other when the last ended.
    """
    if one.obs_time is None or other.obs_time is None or one.setup != other.setup:
        return False
    apart = abs((one.obs_time - other.obs_time).total_seconds())
    return one.exposure_s == other.exposure_s and apart <= n_exposure * one.exposure_s + START_TO


def _described(bare: FrameInfo, path: Path, relative: Path, config: Config) -> Description:
    """Add to a frame's identity what it is; the first obstacle decides its state."""
    header, trouble = None, ""
    try:
        header = read_header(path, whole=True)
    except KspecError as error:
        trouble = str(error)
    if header is not None and "NDFCLASS" in header and is_product(path):
        said = "a product of kspecdr, not a raw frame"
        return Description((replace(bare, frame_class="IGNORE", state=FrameState.IGNORED, reason=said),))
    found = _assignment(path, relative, header, config)
    frame = replace(bare, frame_class=found.frame_class, lamp=found.lamp, target=found.target)
    frames: tuple[FrameInfo, ...] = (frame,)
    if header is not None:
        try:
            frames = _exposures(frame, header, found, config)
        except KspecError as error:
            trouble = f"{shown(path.name)}: {error}"
    state, reason = FrameState.WAITING, ""
    if found.frame_class == "IGNORE":
        state, reason = (
            FrameState.IGNORED,
            found.reason or "a rule of [[classify]] says that it is not reduced",
        )
    elif trouble:
        state, reason = FrameState.INVALID, trouble
    elif found.frame_class == UNCLASSIFIED:
        state, reason = FrameState.UNCLASSIFIED, found.reason
    elif twin := _twin(path, frames, found, config):
        state, reason = FrameState.IGNORED, f"the same exposure as {shown(twin)}, which is reduced in its place"
    warnings = () if trouble else tuple(_disagreements(frames[0], shown(path.name), config))
    return Description(tuple(replace(each, state=state, reason=reason) for each in frames), warnings)


def _assignment(path: Path, relative: Path, header: Header | None, config: Config) -> Assignment:
    """Return what the rules say, with what a sidecar says laid over it."""
    by_rule = assign(relative, header, config)
    try:
        sidecar = read_sidecar(path)
    except BadOption as error:
        return Assignment(reason=str(error))
    if sidecar is None:
        return by_rule
    return replace(
        by_rule,
        frame_class=sidecar.frame_class or by_rule.frame_class,
        lamp=sidecar.lamp or by_rule.lamp,
        target=sidecar.target or by_rule.target,
        reason="its sidecar says so" if sidecar.frame_class else by_rule.reason,
        fibers=sidecar.fibers or "",
    )


def _exposures(frame: FrameInfo, header: Header, found: Assignment, config: Config) -> tuple[FrameInfo, ...]:
    """Return the exposures of a file with what the header says; BadFrame names what it lacks."""
    n_frame, rows, columns = image_shape(header)
    known = describe_header(
        header,
        frame.frame_class,
        modes=config.modes(),
        date_obs=config.instrument.date_obs,
        n_exposure=n_frame,
    )
    fibers, fibers_hash = _fibers(frame.path, found, config)
    lamp = (frame.lamp or known.lamp or config.instrument.default_lamp) if frame.frame_class == "MFARC" else ""
    one = replace(
        frame,
        lamp=lamp,
        target=frame.target or known.target,
        exposure_s=known.exposure,
        readout_s=rows * columns * 1e-6 / float(known.readout.split()[0]),  # the mode's name begins with its MHz
        setup=Setup(
            readout=known.readout,
            shape=f"{rows}x{columns}",
            binning=f"{known.binning[0]}x{known.binning[1]}",
            grating=_plain(known.lines_per_mm),
            center_nm=round(known.lambda_center / 10.0),
        ),
        fibers=fibers,
        fibers_hash=fibers_hash,
    )
    starts = [known.start + timedelta(seconds=k * known.exposure) for k in range(n_frame)]
    return tuple(
        replace(one, part=k if n_frame > 1 else 0, obs_time=start, night=night_of(start, config.site.timezone))
        for k, start in enumerate(starts, 1)
    )


def _twin(path: Path, frames: tuple[FrameInfo, ...], found: Assignment, config: Config) -> str:
    """Return the name of a file beside that holds the same exposures and goes before; empty where there is none."""
    for other in preferred(path):
        try:
            check(other)
            same = _exposures(frames[0], read_header(other, whole=True), found, config)
        except (KspecError, Incomplete, OSError):
            continue  # what cannot be reduced, or not yet, takes nobody's place
        if len(same) == len(frames) and is_one_exposure(same[0], frames[0], len(frames)):
            return other.name
    return ""


def _captured(rule: ClassRule, relative: Path, header: Header | None) -> dict[str, str | None] | None:
    """Return the named groups of a rule that matches, None where it does not match."""
    folder = relative.parent.as_posix() if relative.parent.name else ""
    captured: dict[str, str | None] = {}
    tests = [(rule.name, relative.name), (rule.folder, folder)]
    if rule.header:
        cards = Cards.of(header if header is not None else Header())
        tests += [(test.match, str(cards.find(test.card) or "")) for test in rule.header]
    for pattern, text in tests:
        match = re.search(pattern, text, re.IGNORECASE)
        if match is None:
            return None
        captured |= match.groupdict()
    return captured


def _bare_target(captured: str, config: Config) -> str:
    """Return the target in what a rule captured, without setting, exposure time, date and number."""
    text = base_name(captured)
    for pattern in (config.names.setting, config.names.exposure):
        text = re.sub(pattern, "", text, flags=re.IGNORECASE)
    target = text.strip(" _-")
    return "" if target.isdigit() else shown(target)  # digits alone are the number of the exposure


def _fibers(name: str, found: Assignment, config: Config) -> tuple[str, str]:
    """Return the fibers of a frame, a number or the path of a table, and the hash of what they are."""
    tables = config.instrument.fibre_tables
    matched = (each.table for each in tables if fnmatchcase(name.rsplit("/", 1)[-1], each.match))
    fibers = found.fibers or next(matched, config.instrument.fibers)
    if isinstance(fibers, int):
        return str(fibers), str(fibers)
    try:
        return str(Path(fibers).resolve()), table_hash(fibers)
    except OSError as error:
        raise BadOption(f"its fibre table {fibers} cannot be read ({error.strerror})") from error


def _disagreements(frame: FrameInfo, name: str, config: Config) -> Iterable[str]:
    """Yield where the name tells another setting than the header, which decides."""
    base = base_name(name)
    if setting := re.search(config.names.setting, base, re.IGNORECASE):
        for key, tolerance, unit in (("grating", 0.0, "lines/mm"), ("center_nm", 1.0, "nm")):
            said, read = setting.groupdict().get(key), frame.setup.get(key)
            if said and read is not None and abs(float(said) - float(read)) > tolerance:
                yield f"{name} says {said} {unit}, its header {read} {unit}; the header is used"
    if exposure := re.search(config.names.exposure, base, re.IGNORECASE):
        unit = (exposure.groupdict().get("unit") or "s").lower()
        said_s = float(exposure["exposure"]) * _SECONDS.get(unit, 1.0)
        if abs(said_s - frame.exposure_s) > 0.01 * max(said_s, frame.exposure_s):
            yield f"{name} says {said_s:g} s, its header {frame.exposure_s:g} s; the header is used"


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value
