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
from dataclasses import fields
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from kspecdr.options import options_from, reject_unknown

P = ParamSpec("P")
R = TypeVar("R")

NO_TYPES: Mapping[int, str] = MappingProxyType({})
FIBER_KEY = re.compile(r"fib(\d+)")


def documented(options: type[Any] | None = None) -> Callable[[Callable[P, R]], Callable[..., R]]:
    """Let a step be called with the documented dictionary or with keywords of the same names."""

    def decorate(step: Callable[P, R]) -> Callable[..., R]:
        signature = inspect.signature(step)
        option_names = [field.name for field in fields(options)] if options else []
        own_names = [name for name in signature.parameters if name not in ("options", "fiber_types")]
        takes_types = "fiber_types" in signature.parameters

        @wraps(step)
        def call(*args: Any, **keywords: Any) -> R:
            if args and isinstance(args[0], Mapping):
                keywords = {key.lower(): value for key, value in args[0].items()} | keywords
                args = args[1:]
            types = {
                int(m[1]): keywords.pop(key) for key in list(keywords) if (m := FIBER_KEY.fullmatch(key))
            }
            known = own_names + option_names + ["options", "fiber_types"]
            reject_unknown(step.__name__, keywords, known + (["fibN"] if takes_types else []))
            chosen = {name: keywords.pop(name) for name in option_names if name in keywords}
            if chosen and options is not None:
                keywords["options"] = options_from(options, chosen, owner=step.__name__)
            if types:
                reject_unknown(step.__name__, {f"fib{min(types)}": 0} if not takes_types else {}, known)
                keywords["fiber_types"] = types
            return step(*args, **keywords)

        return call

    return decorate
