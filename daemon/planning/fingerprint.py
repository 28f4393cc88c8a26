"""Fingerprints: what a product is, told from its inputs alone.

A fingerprint is the hash of a recipe (rule, its version, its options) and of the inputs: raw frames by
their content and the fields that the recipe reads, products by their own fingerprints. Names, places
and times of arrival do not enter, so the same inputs have the same fingerprint on any machine.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping

from daemon.records import FrameInfo
from daemon.rulebook import Rule

DIRECTORY_DIGITS = 12  # of a fingerprint in a directory's name: 8 would meet twice within some thousand products


def recipe_hash(rule: Rule, options: Mapping[str, object]) -> str:
    """Return the hash of what is done, apart from what it is done to."""
    return _digest([rule.name, rule.version, options])


def fingerprint(recipe: str, rule: Rule, frames: Iterable[FrameInfo], calibrations: Mapping[str, str]) -> str:
    """Return the fingerprint of the product of `frames` and of the calibrations {rule: fingerprint}."""
    raw = sorted([*frame.key, *(getattr(frame, name) for name in rule.reads)] for frame in frames)
    return _digest([recipe, raw, calibrations])


def directory_name(night: str, print_: str) -> str:
    """Return the directory of a product, relative to the output directory."""
    return f"{night}/{print_[:DIRECTORY_DIGITS]}"


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=dict)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
