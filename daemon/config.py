"""config.toml -> one frozen, validated Config.

Every value has its default in code, so that an installed package runs without a file; the commented
config.toml of the project states the same defaults. What a file sets is laid over them table by
table; a list (such as the classification rules) is replaced as a whole.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from daemon.naming import DEFAULT_CLASSES
from daemon.rulebook import MATCHES, RULES, Limits, Match, Rule, Rulebook, Timing
from daemon.sections import (
    ALWAYS_KEPT,
    ClassRule,
    Groups,
    Hook,
    Instrument,
    Kind,
    Matches,
    Mode,
    Names,
    Paths,
    Plan,
    Reduce,
    Section,
    Site,
    Store,
    Watch,
    Web,
    Workers,
    items,
)
from kspecdr.errors import BadOption
from kspecdr.inst.readout import MODES, Readout

# Which tables of [reduce] change the product of which rule.
STEPS_OF_RULE: Mapping[str, tuple[str, ...]] = {
    "bias": ("image",),
    "dark": ("image",),
    "lflat": ("image",),
    "tlm": ("image", "tlm"),
    "arc": ("image", "extract", "arc"),
    "fflat": ("image", "extract", "flat"),
    "object": ("image", "extract", "object"),
}
SEARCH_PATH = (Path("config.toml"), Path("/etc/kspecdr/config.toml"))
COMMAND_LINE = "command line"


class Config(Section):
    """All that may be set; each table is described in `daemon.sections`."""

    paths: Paths = Paths()
    site: Site = Site()
    instrument: Instrument = Instrument()
    names: Names = Names()
    classify: tuple[ClassRule, ...] = items(default=tuple(ClassRule.model_validate(rule) for rule in DEFAULT_CLASSES))
    watch: Watch = Watch()
    plan: Plan = Plan()
    match: Matches = Matches()
    groups: Groups = Groups()
    reduce: Reduce = Reduce()
    workers: Workers = Workers()
    catalog: Store = Store()
    web: Web = Web()
    hooks: tuple[Hook, ...] = items()
    keep: tuple[Kind, ...] = items(default=get_args(Kind))

    def kinds_kept(self) -> tuple[str, ...]:
        """Return the kinds of products that are written; what other steps need always is."""
        return tuple(kind for kind in get_args(Kind) if kind in self.keep or kind in ALWAYS_KEPT)

    def rulebook(self) -> Rulebook:
        """Return what plan() decides by: the rules with the groups, matches, options and times set here."""
        return Rulebook(
            rules=tuple(self._rule(rule) for rule in RULES),
            matches={name: self._match(name) for name in MATCHES},
            options={rule.name: self._options(rule.name) for rule in RULES},
            timing=Timing(self.plan.quiet, self.plan.like_wait, self.plan.provisional_after),
            remake=self.plan.remake,
            timezone=self.site.timezone,
        )

    def limits(self) -> Limits:
        """Return what jobs may use."""
        workers = self.workers
        return Limits(workers.count, workers.timeout, workers.memory_mb, workers.attempts)

    def modes(self) -> dict[str, Readout]:
        """Return every readout mode: the measured ones, and over them those that are set here."""
        return readout_modes(self.instrument.readout)

    def _rule(self, rule: Rule) -> Rule:
        section = getattr(self.groups, rule.name, None)
        if rule.group is None or section is None:
            return rule
        return replace(rule, group=replace(rule.group, least=section.least, gap_s=section.gap_minutes * 60.0))

    def _match(self, name: str) -> Match:
        section = getattr(self.match, name)
        return Match(section.agree, section.within_days, section.exposure)

    def _options(self, name: str) -> dict[str, object]:
        """Return the options that change the product of a rule; they are part of its fingerprint."""
        options: dict[str, object] = {step: dict(getattr(self.reduce, step)) for step in STEPS_OF_RULE[name]}
        modes = {mode: section.model_dump() for mode, section in sorted(self.instrument.readout.items())}
        return options | {"instrument": {"date_obs": self.instrument.date_obs, "readout": modes}}


def readout_modes(tables: Mapping[str, Mode]) -> dict[str, Readout]:
    """Return the measured readout modes with those of `tables` laid over them."""
    return dict(MODES) | {name: _mode(name, mode) for name, mode in tables.items()}


def _mode(name: str, section: Mode) -> Readout:
    known = MODES.get(name)
    gain = section.gain or (known.gain if known else 0.0)
    noise = section.read_noise or (known.read_noise if known else 0.0)
    mode = Readout(name, gain, noise)
    if section.saturation is None:
        return mode
    return replace(mode, saturation=section.saturation, saturation_known=True)


def load(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the configuration and lay the options of the command line over it.

    Parameters
    ----------
    path : Path, optional
        The file; without it the first that exists of ./config.toml and /etc/kspecdr/config.toml,
        else the built-in defaults. Relative paths in a file are relative to the file's folder.
    overrides : mapping, optional
        Nested tables, as in the file; a value of None is not an override.

    Raises
    ------
    BadOption
        The file cannot be read, or a key or value is not understood.
    """
    settings = Config()
    found = path or next((each for each in SEARCH_PATH if each.is_file()), None)
    if found:
        settings = _laid_over(settings, read_toml(found), str(found), found.parent)
    return overlaid(settings, overrides or {})


def overlaid(settings: Config, overrides: Mapping[str, Any]) -> Config:
    """Return settings with the options of a command line laid over them; see `load`."""
    return _laid_over(settings, _without_none(overrides), COMMAND_LINE)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; the error names the file and the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOption(f"{path}: cannot be read ({error.strerror}); give a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadOption(f"{path}: not TOML ({error}); mend it there") from error


def error_sentence(model: type[BaseModel], errors: Sequence[ErrorDetails]) -> str:
    """Say the first error of a validation: the key, its value, and what is expected of it."""
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return _unknown_key(model, first["loc"])
    alike = [each for each in errors if each["loc"][:-1] == first["loc"][:-1] and each["input"] is first["input"]]
    where = first["loc"][:-1] if len(alike) > 1 else first["loc"]
    expected = " or ".join(dict.fromkeys(_expectation(each["msg"]) for each in alike))
    if first["type"] == "missing":
        return f"{_dotted(where)} is missing; it is required there"
    if first["type"] == "value_error" and isinstance(first["input"], Mapping):
        return f"{_dotted(where)}: {expected}"
    return f"{_dotted(where)} = {first['input']!r}, expected {expected}"


def _merged(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with every table of `table` merged in and every other value replaced."""
    result = dict(base)
    for key, value in table.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = _merged(below, value)
        else:
            result[key] = value
    return result


def _laid_over(settings: Config, table: Mapping[str, Any], source: str, folder: Path | None = None) -> Config:
    merged = _merged(settings.model_dump(by_alias=True), table)
    try:
        return Config.model_validate(merged, context={"folder": folder})
    except ValidationError as error:
        raise BadOption(f"{source}: {error_sentence(Config, error.errors())}") from None


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def _dotted(location: Sequence[int | str]) -> str:
    """Write a place in the file: `classify[2].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _expectation(message: str) -> str:
    """Say in the words of TOML what pydantic says in those of Python."""
    bare = message.removeprefix("Value error, ").removeprefix("Input should be ")
    words = {"a valid tuple": "a list", "a valid integer": "an integer", "a valid boolean": "true or false"}
    return "a table" if "valid dictionary" in bare else words.get(bare, bare.replace("a valid ", "a "))


def _unknown_key(model: type[BaseModel], location: Sequence[int | str]) -> str:
    known = sorted(_keys(_section_at(model, location[:-1])))
    key = str(location[-1])
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    where = _dotted(location[:-1])
    listed = f"known {f'in {where}' if where else 'tables'}: {', '.join(known)}"
    return f"{_dotted(location)} is not a known key; {hint}{listed}"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _section_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str):
            annotation = next(
                field.annotation for name, field in model.model_fields.items() if part in (name, field.alias)
            )
            choices = (annotation, *get_args(annotation))
            model = next(each for each in choices if isinstance(each, type) and issubclass(each, BaseModel))
    return model
