"""How far in time a plan must look: from the limits of the rules, before anything is read."""

from collections.abc import Mapping
from functools import cache

from daemon.planning.matching import DAY_S
from daemon.rulebook import Match, Rule, Rulebook

LONGEST_EXPOSURE_S = 7200.0  # within a series: a run of frames goes on across no longer pause than this and its gap


class Reach:
    """Time limits along the chains of needs and likes."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.rules = {rule.name: rule for rule in book.rules}
        self._inputs = cache(self._of_inputs)

    def pause_s(self, rule: Rule) -> float:
        """Return the longest time without a frame's beginning inside a group."""
        return 0.0 if rule.group is None else rule.group.gap_s + LONGEST_EXPOSURE_S

    def pause_of_class(self, frame_class: str) -> float:
        """Return the longest time without a beginning inside any group of a class."""
        return max((self.pause_s(rule) for rule in self.book.rules if frame_class in rule.classes), default=0.0)

    def limit_s(self, name: str) -> float:
        """Return how far from a group the middle of a calibration of a rule may lie."""
        return self.book.matches.get(name, Match()).within_days * DAY_S

    def inputs(self, name: str) -> Mapping[str, float]:
        """Return the classes of all that a product of a rule may be made from, and how far away, s."""
        return self._inputs(name)

    def users(self, name: str) -> list[Rule]:
        """Return the rules that need or like a product."""
        return [rule for rule in self.book.rules if name in (*rule.needs, *rule.likes)]

    def _of_inputs(self, name: str) -> dict[str, float]:
        found: dict[str, float] = {}
        rule = self.rules[name]
        for taken in (*rule.needs, *rule.likes):
            near = self.limit_s(taken) + self.pause_s(self.rules[taken])
            own = dict.fromkeys(self.rules[taken].classes, 0.0)
            for frame_class, far in (*own.items(), *self.inputs(taken).items()):
                found[frame_class] = max(found.get(frame_class, 0.0), near + far)
        return found
