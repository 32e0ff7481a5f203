# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of physical address ranges: half-open, in bytes, always sorted, disjoint and merged.

/proc/iomem and the kernel's resources have inclusive ends; the parsers add the one, and nothing
above them has to think of it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Range:
    """Bytes from `start` up to, not including, `end`; never empty."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"not a range: {self.start:#x} to {self.end:#x}")

    @property
    def size(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        """As /proc/iomem writes it: both ends inclusive."""
        return f"{self.start:#x}-{self.end - 1:#x}"


@dataclass(frozen=True, slots=True, init=False)
class RangeSet:
    """An immutable set of addresses; `|`, `-` and `&` are those of sets."""

    ranges: tuple[Range, ...]

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        merged: list[Range] = []
        for r in sorted(ranges):
            if merged and r.start <= merged[-1].end:
                merged[-1] = Range(merged[-1].start, max(merged[-1].end, r.end))
            else:
                merged.append(r)
        object.__setattr__(self, "ranges", tuple(merged))

    @classmethod
    def of(cls, *pairs: tuple[int, int]) -> RangeSet:
        """From (start, end) pairs, end exclusive; empty pairs count for nothing."""
        return cls(Range(start, end) for start, end in pairs if start < end)

    def __iter__(self) -> Iterator[Range]:
        return iter(self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(r.size for r in self.ranges)

    def __or__(self, other: RangeSet) -> RangeSet:
        return RangeSet((*self.ranges, *other.ranges))

    def __sub__(self, other: RangeSet) -> RangeSet:
        left: list[Range] = []
        holes = iter(other.ranges)
        hole = next(holes, None)
        for r in self.ranges:
            start = r.start
            while hole is not None and hole.end <= start:
                hole = next(holes, None)
            while hole is not None and hole.start < r.end:
                if start < hole.start:
                    left.append(Range(start, hole.start))
                start = max(start, hole.end)
                if hole.end >= r.end:
                    break
                hole = next(holes, None)
            if start < r.end:
                left.append(Range(start, r.end))
        return RangeSet(left)

    def __and__(self, other: RangeSet) -> RangeSet:
        return self - (self - other)

    def covers(self, other: RangeSet) -> bool:
        """True when every address of `other` is here too."""
        return not (other - self)

    def without_slivers(self, least: int) -> RangeSet:
        """Only the ranges of at least `least` bytes."""
        return RangeSet(r for r in self.ranges if r.size >= least)

    def __str__(self) -> str:
        return ", ".join(str(r) for r in self.ranges) or "nothing"
