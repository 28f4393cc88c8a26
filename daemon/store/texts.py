"""Texts as every database takes them; part of the catalog.

PostgreSQL refuses NUL, and no UTF-8 has half a surrogate pair. Either may stand in a sidecar, or in what the system
says of a file whose name is no UTF-8. They are written as their escapes, at the one door through which all texts go.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Dialect, String, TypeDecorator

_SUSPECT = ("\\u0000", "\\ud")  # in JSON of ASCII letters


def storable(text: str) -> str:
    """Return a text with escapes for what a database refuses.

    >>> storable("M31")
    'M31'
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def dumps(value: Any) -> str:
    """Return JSON whose texts any database takes."""
    said = json.dumps(value)
    return json.dumps(_storable_all(value)) if any(each in said for each in _SUSPECT) else said


class Text(TypeDecorator[str]):
    """A column of texts."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Store, or look for, what any database takes."""
        return None if value is None else storable(value)


def _storable_all(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable_all(name): _storable_all(each) for name, each in value.items()}
    return [_storable_all(each) for each in value] if isinstance(value, list | tuple) else value
