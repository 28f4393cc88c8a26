"""Frames in groups, and groups where they are found as candidates: kept in memory, changed frame by frame.

It holds what was put in, which may be everything or a part. What a frame's coming or going changes is the
run of frames that it belongs to; nothing else is formed again.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

from daemon.planning.groups import FrameGroup, Values, counting, runs_of, shared_values
from daemon.planning.matching import Pool
from daemon.records import FrameInfo, FrameState, Made, Neighbourhood, ProductState
from daemon.rulebook import Match, Rulebook

Key = tuple[str, int]  # content and part of a frame
Place = tuple[int, str, int]  # root, path and part of a frame: its row


class Arrangement:
    """Frames, products, failures and claims, and the groups that the frames form.

    Parameters
    ----------
    book : Rulebook
        Its rules say which frames form groups.
    exists : Neighbourhood
        What is there at first.
    """

    def __init__(self, book: Rulebook, exists: Neighbourhood | None = None) -> None:
        self.book = book
        self.made: dict[str, Made] = {}
        self.failed: dict[str, str] = {}
        self.active: dict[str, bool] = {}
        self.pools = {rule.name: Pool(book.matches.get(rule.name, Match())) for rule in book.rules}
        self._rows: dict[Key, dict[Place, FrameInfo]] = {}
        self._key_at: dict[Place, Key] = {}
        self._products: dict[Key, dict[str, Made]] = {}
        self._made_by: dict[str, dict[str, Made]] = defaultdict(dict)
        self._values: dict[tuple[str, Key], Values] = {}  # where a frame belongs, by rule
        self._members: dict[tuple[str, Values], dict[Key, FrameInfo]] = defaultdict(dict)
        self._groups: dict[tuple[str, Values], list[FrameGroup]] = {}
        self._group_of: dict[tuple[str, Key], FrameGroup] = {}
        self._unarranged: set[Key] = set()
        self.version = 0  # of what is in it
        if exists is not None:
            self.take(exists)

    def __len__(self) -> int:
        """How many frames are in it."""
        return len(self._key_at)

    def take(self, exists: Neighbourhood) -> None:
        """Put in what exists; of a frame or product that is in it already, what is said now counts."""
        for frame in exists.frames:
            self._put_frame(frame)
        for made in exists.made.values():
            self._put_made(made)
        self.failed |= exists.failed
        self.active |= exists.active
        self._arrange()

    def forget_jobs(self, prints: Iterable[str]) -> None:
        """Take out products, failures and claims, before what is known of them now is put in."""
        for print_ in prints:
            self.failed.pop(print_, None)
            self.active.pop(print_, None)
            made = self.made.pop(print_, None)
            if made is None:
                continue
            del self._made_by[made.rule][print_]
            for key in made.keys:
                del self._products[key][print_]
            self._stir(made)
        self._arrange()

    def forget_frames(self, keys: Iterable[Key]) -> None:
        """Take out frames, and the products that were made of none but them."""
        for key in keys:
            for place in self._rows.pop(key, {}):
                del self._key_at[place]
            self._unarranged.add(key)
        self._arrange()
        for key in keys:
            for print_ in [each.fingerprint for each in self.products(key) if not self._known(each.keys)]:
                self.forget_jobs([print_])
            if not self._products.get(key, True):
                del self._products[key]

    def __contains__(self, key: Key) -> bool:
        """Tell whether a frame is in it."""
        return key in self._rows

    @property
    def keys(self) -> Collection[Key]:
        """All frames that are in it, or were and have products."""
        return {**self._rows, **{key: None for key, some in self._products.items() if some}}

    def rows(self, key: Key) -> Iterable[FrameInfo]:
        """Return the files of one content."""
        return self._rows.get(key, {}).values()

    def key_at(self, frame: FrameInfo) -> Key | None:
        """Return what was known to lie where a frame lies now."""
        return self._key_at.get(_place(frame))

    def frame(self, key: Key) -> FrameInfo | None:
        """Return which file of a content counts, None where none does."""
        return counting(self.rows(key))

    def made_by(self, rule: str) -> Iterable[Made]:
        """Return the products of a rule."""
        return self._made_by[rule].values()

    def products(self, key: Key) -> Iterable[Made]:
        """Return the products that were made from a frame."""
        return list(self._products.get(key, {}).values())

    def products_of(self, rule: str, key: Key) -> Iterable[Made]:
        """Return the products of a rule that were made from a frame."""
        return (made for made in self._products.get(key, {}).values() if made.rule == rule)

    def group_of(self, rule: str, key: Key) -> FrameGroup | None:
        """Return the group of a rule that a frame is in."""
        return self._group_of.get((rule, key))

    def _known(self, keys: Iterable[Key]) -> bool:
        return any(key in self._rows for key in keys)

    def _put_frame(self, frame: FrameInfo) -> None:
        place, key = _place(frame), frame.key
        before = self._key_at.get(place)
        if before is not None and before != key:
            del self._rows[before][place]
            if not self._rows[before]:
                del self._rows[before]
            self._unarranged.add(before)
        self._key_at[place] = key
        self._rows.setdefault(key, {})[place] = frame
        self._unarranged.add(key)

    def _put_made(self, made: Made) -> None:
        self.made[made.fingerprint] = made
        self._made_by[made.rule][made.fingerprint] = made
        for key in made.keys:
            self._products.setdefault(key, {})[made.fingerprint] = made
        self._stir(made)

    def _stir(self, made: Made) -> None:
        """Note that a product has come, gone or changed: a frame that has vanished counts as long as it has one."""
        self.version += 1
        for key in made.keys:
            frame = self.frame(key)
            if frame is not None and frame.state is FrameState.ABSENT:
                self._unarranged.add(key)

    def _arrange(self) -> None:
        """Form the runs of frames again in which something has changed."""
        self.version += bool(self._unarranged)
        changed: dict[tuple[str, Values], None] = {}
        for key in self._unarranged:
            frame = counting(self._rows.get(key, {}).values())
            for rule in self.book.rules:
                if frame is not None and frame.frame_class in rule.classes:
                    fits = frame.state is not FrameState.ABSENT or self._kept(rule.name, key)
                    changed |= self._move(rule.name, key, frame if fits else None, shared_values(rule, frame))
                elif (rule.name, key) in self._values:
                    changed |= self._move(rule.name, key, None, ())
        self._unarranged.clear()
        for name, values in changed:
            self._form(name, values)

    def _kept(self, rule: str, key: Key) -> bool:
        """Tell whether a vanished frame still counts, since a product was made with it."""
        return any(made.state is ProductState.CURRENT for made in self.products_of(rule, key))

    def _move(self, rule: str, key: Key, frame: FrameInfo | None, values: Values) -> dict[tuple[str, Values], None]:
        """Let a frame belong where it belongs now, None: nowhere; return which runs that changes."""
        changed: dict[tuple[str, Values], None] = {}
        before = self._values.pop((rule, key), None)
        if before is not None:
            if frame is not None and before == values and self._members[rule, before][key] == frame:
                self._values[rule, key] = values
                return changed
            del self._members[rule, before][key]
            del self._group_of[rule, key]
            changed[rule, before] = None
        if frame is not None:
            self._values[rule, key] = values
            self._members[rule, values][key] = frame
            changed[rule, values] = None
        return changed

    def _form(self, name: str, values: Values) -> None:
        rule = next(rule for rule in self.book.rules if rule.name == name)
        for group in self._groups.pop((name, values), ()):
            self.pools[name].remove(group)
        members = self._members.get((name, values))
        if not members:
            self._members.pop((name, values), None)
            return
        groups = self._groups[name, values] = runs_of(rule, members.values())
        for group in groups:
            self.pools[name].add(group)
            for frame in group.frames:
                self._group_of[name, frame.key] = group


def _place(frame: FrameInfo) -> Place:
    return frame.root, frame.path, frame.part


def beside(exists: Arrangement, keys: Iterable[Key]) -> set[Key]:
    """Return the frames that are in a group or in a current product with one of these, each of which is met once."""
    together: dict[object, frozenset[Key]] = {}
    for key in keys:
        for rule in exists.book.rules:
            group = exists.group_of(rule.name, key)
            if group is not None:
                together[id(group)] = group.keys
        for made in exists.products(key):
            if made.state is ProductState.CURRENT:
                together[made.fingerprint] = made.keys
    return set().union(*together.values())


def acceptable(exists: Arrangement, print_: str, seen: AbstractSet[str] = frozenset()) -> bool:
    """Tell whether neither a product nor anything that it was made from is marked bad."""
    made = exists.made.get(print_)
    if made is None or print_ in seen:
        return True
    return made.state is not ProductState.BAD and all(
        acceptable(exists, each, seen | {print_}) for each in made.calibrations.values()
    )


def serves_as_made(exists: Arrangement, made: Made) -> bool:
    """Tell whether a product can be taken as it is: it is current, and its frames still count."""
    classes = next((rule.classes for rule in exists.book.rules if rule.name == made.rule), ())
    frames = (exists.frame(key) for key in made.keys)
    return (
        made.state is ProductState.CURRENT
        and all(frame is not None and frame.frame_class in classes for frame in frames)
        and acceptable(exists, made.fingerprint)
    )
