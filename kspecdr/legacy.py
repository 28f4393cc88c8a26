"""The documented way of calling: one dictionary of upper-case keys, or the same names as keywords.

    @documented(ExtractOptions)
    def make_ex(image_filename, tlmap_filename=None, extrac_filename=None, *,
                options=ExtractOptions(), fiber_types=NO_TYPES): ...

    make_ex({"IMAGE_FILENAME": "a_im.fits", "EXTR_OPERATION": "SUM", "FIB3": "S"})
    make_ex(image_filename="a_im.fits", extr_operation="SUM")

The keys that are no parameters of the function go into its options record; FIBn goes into
`fiber_types`. An unknown key is an error that lists the known ones.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from kspecdr.errors import BadOption
from kspecdr.options import options_from, reject_unknown

P = ParamSpec("P")
R = TypeVar("R")

NO_TYPES: Mapping[int, str] = MappingProxyType({})
FIBER_KEY = re.compile(r"fib(\d+)")


def documented(
    options: type[Any] | None = None, *, owner: str | None = None
) -> Callable[[Callable[P, R]], Callable[..., R]]:
    """Let a step be called with the documented dictionary or with keywords of the same names.

    owner : the name that errors speak of, where it is not the function's own
    """

    def decorate(step: Callable[P, R]) -> Callable[..., R]:
        calling = Calling.of(step, options, owner or step.__name__)

        @wraps(step)
        def call(*args: Any, **keywords: Any) -> R:
            if args and isinstance(args[0], Mapping):
                keywords = {key.lower(): value for key, value in args[0].items()} | keywords
                args = args[1:]
                return step(*args, **calling.sorted_out(keywords, args, upper=True))
            return step(*args, **calling.sorted_out(keywords, args, upper=False))

        return call

    return decorate


@dataclass(frozen=True)
class Calling:
    """What a documented step understands."""

    owner: str
    parameters: tuple[str, ...]  # of the function itself
    needed: tuple[str, ...]  # those without a default
    options: type[Any] | None
    takes_types: bool

    @classmethod
    def of(cls, step: Callable[..., Any], options: type[Any] | None, owner: str) -> "Calling":
        """Read a function's signature."""
        signature = inspect.signature(step).parameters
        own = tuple(name for name in signature if name not in ("options", "fiber_types"))
        needed = tuple(name for name in own if signature[name].default is inspect.Parameter.empty)
        return cls(owner, own, needed, options, "fiber_types" in signature)

    @property
    def option_names(self) -> tuple[str, ...]:
        """Return the names of the options record."""
        return tuple(field.name for field in fields(self.options)) if self.options else ()

    def sorted_out(self, keywords: dict[str, Any], args: tuple[Any, ...], *, upper: bool) -> dict[str, Any]:
        """Return keywords for the step: options gathered into their record, FIBn into fiber types."""
        types = {int(m[1]): keywords.pop(key) for key in list(keywords) if (m := FIBER_KEY.fullmatch(key))}
        records = {name: keywords.pop(name) for name in ("options", "fiber_types") if name in keywords}
        spelt = str.upper if upper else str
        known = [spelt(name) for name in (*self.parameters, *self.option_names)]
        known += [spelt("fib") + "n"] if self.takes_types else []
        unplaced = {} if self.takes_types else {f"fib{n}": letter for n, letter in types.items()}
        reject_unknown(self.owner, {spelt(key): value for key, value in {**keywords, **unplaced}.items()}, known)
        chosen = {name: keywords.pop(name) for name in self.option_names if name in keywords}
        if chosen and self.options is not None:
            given = records.get("options")
            made = options_from(self.options, {**(vars(given) if given else {}), **chosen}, owner=self.owner)
            records["options"] = made
        if types:
            records["fiber_types"] = {**records.get("fiber_types", {}), **types}
        missing = [name for name in self.needed[len(args) :] if name not in keywords]
        if missing:
            raise BadOption(f"{self.owner} needs {', '.join(map(spelt, missing))}")
        return keywords | records
