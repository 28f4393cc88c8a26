"""LightField's settings among the cards of a header.

LightField writes its settings tree behind `HIERARCH PI`; prefixes vary, so keywords are matched by their end, and
values may be text or numbers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from kspecdr.errors import BadFrame

LARGEST_VALUE = 1e9  # of any setting, in LightField's units
LEGAL_KEYWORD = re.compile(r"[A-Z0-9_-]{0,8}$", re.IGNORECASE)


@dataclass(frozen=True)
class Cards:
    """LightField's settings, looked up by the end of their keyword."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, header: fits.Header) -> "Cards":
        """Read every card that can be read."""
        return cls({card.keyword.upper(): card.value for card in parsable_cards(header)})

    def find(self, *suffixes: str) -> Any:
        """Return the value of the first card that ends with a suffix, or None."""
        for suffix in suffixes:
            for keyword, value in self.values.items():
                if keyword == suffix or keyword.endswith(" " + suffix):
                    return value
        return None

    def text(self, *suffixes: str) -> str:
        """Return a card's text; a missing card is a BadFrame that names it."""
        value = self.find(*suffixes)
        if value is None or not str(value).strip():
            raise BadFrame(f"card {suffixes[0]} is missing; LightField writes it for an IsoPlane frame")
        return str(value).strip()

    def number(self, *suffixes: str) -> float:
        """Return a card's number; anything else, or more than any setting, is a BadFrame with card and value."""
        text = self.text(*suffixes)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < LARGEST_VALUE:  # NaN is not either
            raise BadFrame(f"card {suffixes[0]} is {text[:60]!r}, expected a number")
        return value

    def optional(self, *suffixes: str) -> float | None:
        """Return a card's number, or None where there is no such card."""
        return None if self.find(*suffixes) is None else self.number(*suffixes)


def parsable_cards(header: fits.Header) -> Iterator[fits.Card]:
    """Yield the cards that can be read and written again.

    LightField breaks some CONTINUE chains: such a chain goes as a whole, with its parent card.
    """
    for card in header.cards:
        if card.keyword == "CONTINUE":
            continue  # a stray link: its parent is what is broken, or is complete without it
        try:
            _, _, image = card.value, card.comment, card.image
        except (VerifyError, ValueError):
            continue
        if LEGAL_KEYWORD.match(card.keyword) or image.startswith("HIERARCH"):
            yield card
