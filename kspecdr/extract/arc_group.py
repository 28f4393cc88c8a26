"""Exposures of one setting solved together, without those that do not show what their names say."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kspecdr.arrays import Bools
from kspecdr.errors import NoSolution
from kspecdr.wavecal.arc_frames import ArcFrame
from kspecdr.wavecal.arc_io import PACKAGED, load_arc_lines
from kspecdr.wavecal.arc_solution import ArcSolution
from kspecdr.wavecal.identify import Guess, solve_fibers
from kspecdr.wavecal.lamp_names import mistaken


def solve_group(
    frames: Sequence[ArcFrame], lamps: Sequence[str], guess: Guess, usable: Bools | None = None
) -> tuple[ArcSolution, dict[int, str]]:
    """Solve exposures together, without those that show another lamp than their own.

    Parameters
    ----------
    frames, guess, usable
        As `solve_fibers` takes them.
    lamps
        Names of the lamps of the frames.

    Returns
    -------
    The solution, its frames counted among those that it rests on; which others were left out, and why.

    Raises
    ------
    NoSolution
        The lines do not determine wavelengths beyond doubt, whichever exposure is left out.
    """
    group = _Group(tuple(frames), tuple(lamps), guess, usable)
    try:
        solution = group.solved(without=())
    except NoSolution:
        wrong = group.impostors()
        if not wrong:
            raise
    else:
        wrong = group.mistaken(solution)
    if len(wrong) == len(frames):
        raise NoSolution("; ".join(f"{frames[k].name}: {why}" for k, why in wrong.items()))
    return (group.solved(without=wrong) if wrong else solution), wrong


@dataclass(frozen=True)
class _Group:
    """Exposures that may belong together."""

    frames: tuple[ArcFrame, ...]
    lamps: tuple[str, ...]
    guess: Guess
    usable: Bools | None

    def solved(self, without: Collection[int]) -> ArcSolution:
        """Solve all but some."""
        return solve_fibers([f for k, f in enumerate(self.frames) if k not in without], self.guess, self.usable)

    def mistaken(self, solution: ArcSolution) -> dict[int, str]:
        """Return which exposures show another lamp than their own by this solution, and which."""
        if len(self.frames) == 1:  # what the solution rests on alone cannot contradict it
            return {}
        known = {path.stem: load_arc_lines(path.stem) for path in sorted(PACKAGED.glob("*.arc"))}
        known |= {lamp: frame.lamp for lamp, frame in zip(self.lamps, self.frames, strict=True)}
        pairs = zip(self.frames, self.lamps, strict=True)
        why = [mistaken(frame, solution, lamp, known) for frame, lamp in pairs]
        return {k: reason for k, reason in enumerate(why) if reason}

    def impostors(self) -> dict[int, str]:
        """Return the exposures without which the others can be solved and which by that show another lamp."""
        for k in range(len(self.frames)) if len(self.frames) > 1 else ():
            try:
                wrong = self.mistaken(self.solved(without=(k,)))
            except NoSolution:
                continue
            if k in wrong:
                return wrong
        return {}
