"""config.toml -> one frozen, validated Config.

Every value has its default in code, so that an installed package runs without a file; the commented
config.toml of the project states the same defaults. What a file sets is laid over them table by
table; a list (such as the classification rules) is replaced as a whole.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from daemon.naming import DEFAULT_CLASSES
from daemon.sections import (
    ALWAYS_KEPT,
    ClassRule,
    Groups,
    Instrument,
    Kind,
    Matches,
    Names,
    Option,
    Paths,
    Plan,
    Section,
    Site,
    Store,
    Watch,
    Workers,
    items,
)
from kspecdr.errors import BadOption

SEARCH_PATH = (Path("config.toml"), Path("/etc/kspecdr/config.toml"))
COMMAND_LINE = "command line"


class Config(Section):
    """All that may be set; each table is described in `daemon.sections`."""

    paths: Paths = Paths()
    site: Site = Site()
    instrument: Instrument = Instrument()
    names: Names = Names()
    classify: tuple[ClassRule, ...] = items(
        default=tuple(ClassRule.model_validate(rule) for rule in DEFAULT_CLASSES)
    )
    watch: Watch = Watch()
    plan: Plan = Plan()
    match: Matches = Matches()
    groups: Groups = Groups()
    reduce: dict[str, dict[str, Option]] = Field(
        default={
            "image": {"cosmic_ray_method": "PROFILE"},
            "tlm": {},
            "extract": {"extr_operation": "SUM", "sum_width": 5.0},
            "arc": {},
            "object": {},
        }
    )
    workers: Workers = Workers()
    catalog: Store = Store()
    keep: tuple[Kind, ...] = items(default=get_args(Kind))

    def kept(self, kind: str) -> bool:
        """Tell whether products of this kind are written."""
        return kind in ALWAYS_KEPT or kind in self.keep


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
    return _laid_over(settings, _without_none(overrides or {}), COMMAND_LINE)


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
    alike = [
        each for each in errors if each["loc"][:-1] == first["loc"][:-1] and each["input"] is first["input"]
    ]
    where = first["loc"][:-1] if len(alike) > 1 else first["loc"]
    expected = " or ".join(dict.fromkeys(_expectation(each["msg"]) for each in alike))
    if first["type"] == "missing":
        return f"{_dotted(where)} is missing; it is required there"
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
