"""LightField's settings among the cards of a header.

LightField writes its settings tree behind `HIERARCH PI`; prefixes vary, so keywords are matched by their end, and
values may be text or numbers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
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

    cards: Mapping[str, Mapping[str, Sequence[fits.Card]]]  # by the last word of a keyword in capitals, by keyword;
    # of each the last first

    @classmethod
    def of(cls, header: fits.Header) -> "Cards":
        """Return the settings of a header; of its hundreds of cards, those that are asked for are parsed."""
        found: dict[str, dict[str, list[fits.Card]]] = {}
        for card in header.cards:
            keyword = card.keyword.upper()
            found.setdefault(_last_word(keyword), {}).setdefault(keyword, []).insert(0, card)
        return cls(found)

    def find(self, *suffixes: str) -> Any:
        """Return the value of the first card that ends with a suffix and can be read, or None."""
        for suffix in suffixes:
            for keyword, cards in self.cards.get(_last_word(suffix), {}).items():
                if keyword == suffix or keyword.endswith(" " + suffix):
                    for card in filter(_is_parsable, cards):
                        return card.value
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


def _last_word(keyword: str) -> str:
    return keyword.rpartition(" ")[2]


def parsable_cards(header: fits.Header) -> Iterator[fits.Card]:
    """Return the cards that can be read and written again.

    LightField breaks some CONTINUE chains: such a chain goes as a whole, with its parent card.
    """
    return filter(_is_parsable, header.cards)


def _is_parsable(card: fits.Card) -> bool:
    if card.keyword == "CONTINUE":
        return False  # a stray link: its parent is what is broken, or is complete without it
    try:
        _, _, image = card.value, card.comment, card.image
    except (VerifyError, ValueError):
        return False
    return bool(LEGAL_KEYWORD.match(card.keyword)) or image.startswith("HIERARCH")
