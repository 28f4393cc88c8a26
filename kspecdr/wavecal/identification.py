"""What the peaks of a lamp spectrum were taken for, and whether that can be trusted."""

from dataclasses import dataclass

import numpy as np

from kspecdr.arrays import Floats, Ints
from kspecdr.wavecal.features import Features
from kspecdr.wavecal.lines import Peaks
from kspecdr.wavecal.pattern import Candidates

LEAST_LINES = 5  # lines that agree in the end
LEAST_MARGIN = 6.0  # log-likelihood above that of the next different solution
LEAST_EVIDENCE = 20.0  # log-likelihood above that of peaks at random, the margin added
CLEAR_MARGIN = 18.0  # with it the pattern is unique however poor: names of lamps that are off, or tables, cost evidence
WORST_EVIDENCE = -30.0  # of such a pattern
ALL_EXPLAINED = 0.9  # share of the peaks, if so many, that no wrong lamp explains: then missing lines say little
MANY_LINES = 15
LEAST_EXPLAINED = 0.6  # share of the peaks, weighted by the logarithm of their heights, that lines explain


@dataclass(frozen=True)
class Identification:
    """Peaks, the peaks that the lamps can show, and how they were brought together."""

    peaks: Peaks
    features: Features  # as bright as they are in this spectrum
    found: Candidates

    @property
    def matched(self) -> Ints:
        """Indices of the peaks that a line explains."""
        return np.flatnonzero(self.found.matched[0])

    @property
    def line(self) -> Ints:
        """Index of the feature that explains each matched peak."""
        line: Ints = self.found.line[0][self.matched]
        return line

    @property
    def evidence(self) -> float:
        """Log-likelihood against peaks at random."""
        return float(self.found.evidence[0])

    @property
    def margin(self) -> float:
        """How much likelier the best pattern is than the next different one."""
        return self.evidence - float(self.found.evidence[1]) if len(self.found) > 1 else np.inf

    @property
    def explained(self) -> float:
        """Share of the peaks that lines explain, weighted by the logarithm of their heights."""
        weight: Floats = 0.5 + np.log(self.peaks.height / self.peaks.height.min())
        return float(weight[self.matched].sum() / weight.sum())

    @property
    def doubt(self) -> str:
        """Why the identification must not be trusted, in a sentence; empty where nothing speaks against it."""
        explained, evidence, margin = self.explained, self.evidence, self.margin
        n_matched = len(self.matched)
        clear = margin >= CLEAR_MARGIN or (explained >= ALL_EXPLAINED and n_matched >= MANY_LINES)
        unique = margin >= LEAST_MARGIN and (clear or evidence + margin >= LEAST_EVIDENCE)
        reasons = {
            f"the lamp's lines explain {explained:.0%} of the light in lines, expected {LEAST_EXPLAINED:.0%}; "
            "check the lamp's name, the central wavelength and the dispersion": explained < LEAST_EXPLAINED,
            f"{n_matched} of {len(self.peaks)} emission lines fit the lamp, expected {LEAST_LINES} or more; "
            "add a lamp or a longer exposure": n_matched < LEAST_LINES,
            f"the lamp's lines explain the spectrum no better than chance (log-likelihood {evidence:.1f}, "
            f"expected above {WORST_EVIDENCE:g}); check the lamp's name": evidence < WORST_EVIDENCE,
            f"the pattern of lines is not unique (log-likelihood {evidence:.1f} above chance, {margin:.1f} above the "
            f"next solution, expected {LEAST_MARGIN:g} or more of the second and {LEAST_EVIDENCE:g} of both); "
            "check the lamp's name, or add a lamp or a longer exposure": not unique,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")
