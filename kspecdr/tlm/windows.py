"""A frame on the rows about each fiber, and what every fiber brings to these rows.

Shares are evaluated once a frame, and the cosmic-ray test, the scattered light and the extraction all work
on the same few rows, in single precision.
"""

from dataclasses import dataclass, replace

import numpy as np

from kspecdr.arrays import Bools, Floats, Ints
from kspecdr.products import MaskBit
from kspecdr.tlm.light import gather, scatter, variance_without_light
from kspecdr.tlm.profile import GAUSSIAN, REACH, Profile, shares_on

CORE_WIDTHS = 4.0  # core widths to either side that tell a fiber's light
LARGEST_HALF = 8  # rows to either side


@dataclass(frozen=True)
class Windows:
    """The profiles of all fibers on the rows about each of them."""

    first: Ints  # (n_fiber, n_column) lowest row of the window; may lie outside the frame
    own: Floats  # (n_fiber, n_window, n_column) of the light of the window's fiber in each pixel
    others: dict[int, Floats]  # by the step m from fiber i to i + m: of that fiber's light on the rows of i
    center: Floats  # (n_fiber, n_column) row
    width: Floats  # (n_fiber, n_column) core width, px
    profile: Profile

    @classmethod
    def of(cls, center: Floats, width: Floats, wings: Floats = GAUSSIAN) -> "Windows":
        """Evaluate the profiles.

        Parameters
        ----------
        center, width : (n_fiber, n_column)
            Row and core width (sigma, px) of the fibers on this very frame.
        wings : (n, N_WING) or (0,)
            See `kspecdr.tlm.profile`.
        """
        half = half_window(center, width)
        profile = Profile.of(wings, np.float32)
        first = np.floor(center + 0.5).astype(int) - half
        n_window, reach = 2 * half + 1, REACH * float(np.max(width))
        others: dict[int, Floats] = {}
        for m in range(1, len(center)):
            if float(np.min(np.abs(center[m:] - center[:-m]))) - half - 0.5 > reach:
                break
            for step in (m, -m):
                here, there = pair(step)
                others[step] = shares_on(first[here], n_window, center[there], width[there], profile)
        return cls(first, shares_on(first, n_window, center, width, profile), others, center, width, profile)

    @property
    def n_window(self) -> int:
        """Rows of a window."""
        return int(self.own.shape[1])

    def on_rows(self, rows: Ints) -> "Windows":
        """Return some rows of the windows; `first` is then only what the rows are counted from."""
        others = {m: share[:, rows] for m, share in self.others.items()}
        return replace(self, own=self.own[:, rows], others=others)

    def model(self, light: Floats) -> Floats:
        """Return what fibers of `light` (n_fiber, n_column) bring to all pixels of the windows, as `own`."""
        return self.own * light[:, None].astype(np.float32) + self.of_others(light)

    def of_others(self, light: Floats) -> Floats:
        """Return what fibers of `light` (n_fiber, n_column) bring to the windows of others, as `own`."""
        total = np.zeros_like(self.own)
        single = light[:, None].astype(np.float32)
        for m, share in self.others.items():
            here, there = pair(m)
            total[here] += share * single[there]
        return total

    def light_image(self, light: Floats, n_row: int) -> Floats:
        """Lay spectra (n_fiber, n_column) over the rows by their profiles, (n_row, n_column); NaN is no light."""
        half = int(np.ceil(REACH * float(np.max(self.width))))
        first = np.floor(self.center + 0.5).astype(int) - half
        share = shares_on(first, 2 * half + 1, self.center, self.width, self.profile)
        return scatter(share * np.nan_to_num(light)[:, None].astype(np.float32), first, n_row)

    def on_frame(self, hit: Bools, shape: tuple[int, ...]) -> Bools:
        """Return pixels of the windows on the frame, (n_row, n_column); those past it are lost."""
        fiber, step, column = np.nonzero(hit)
        row = self.first[fiber, column] + step
        inside = (row >= 0) & (row < shape[0])
        plane = np.zeros(shape, dtype=bool)
        plane[row[inside], column[inside]] = True
        return plane


def half_window(center: Floats, width: Floats) -> int:
    """Return the rows on either side of a fiber that tell its light: its core, and the gap to the next one."""
    core = np.ceil(CORE_WIDTHS * float(np.median(width)))
    gap = round(float(np.median(np.diff(center[:, center.shape[1] // 2]))) / 2) if len(center) > 1 else LARGEST_HALF
    return int(np.clip(max(core, gap), 2, LARGEST_HALF))


def pair(m: int) -> tuple[slice, slice]:
    """Return the fibers that have a neighbour `m` further, and those neighbours."""
    return (slice(None, -m), slice(m, None)) if m > 0 else (slice(-m, None), slice(None, m))


@dataclass(frozen=True)
class Seen:
    """A frame in the windows of the fibers, all (n_fiber, n_window, n_column)."""

    flux: Floats  # electron; 0 where bad
    dark_variance: Floats  # that the pixels would have without light, electron**2
    bits: Ints  # of MaskBit
    good: Bools

    @classmethod
    def of(cls, flux: Floats, variance: Floats, mask: Ints, windows: Windows) -> "Seen":
        """Take a frame's flux, variance (with the photon noise of the datum) and mask, (n_row, n_column)."""
        first, n_window = windows.first, windows.n_window
        light = gather(flux, first, n_window, outside=np.nan).astype(np.float32, copy=False)
        noise = gather(variance, first, n_window, outside=np.nan).astype(np.float32, copy=False)
        bits = gather(mask, first, n_window, outside=MaskBit.NO_DATA)
        good = (bits == 0) & np.isfinite(light) & np.isfinite(noise)
        return cls(np.where(good, light, np.float32(0)), variance_without_light(light, noise, good), bits, good)

    def less(self, light: Floats) -> "Seen":
        """Return the same pixels with `light` (n_fiber, n_window, n_column) taken off."""
        return replace(self, flux=np.where(self.good, self.flux - light, np.float32(0)))
