# SPDX-License-Identifier: GPL-2.0-or-later
"""Where x86's physical KASLR may put a kernel: every place, by the decompressor's own rules.

Sources: choose_random_location() and what it calls in arch/x86/boot/compressed/kaslr.c, and
extract_kernel() in misc.c there. It takes each of the places with the same probability. They are
kept as runs of equal steps, so a machine of any size is counted at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecwatchd.kernel.memparse import memparse, words
from kexecwatchd.ranges import Range, RangeSet

GIB = 1 << 30
_MAX_SLOT_AREA = 100
_MAX_MEMMAP_REGIONS = 4
_LOWEST = 512 << 20  # the minimum is this, or where the kernel would unpack itself if that is lower


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line tells the decompressor. `avoid`: memmap=; `limit`: mem=, bytes, None =
    none; `gigantic`: hugepages= of 1 GiB, which are left alone. `off`: why there is no KASLR."""

    avoid: tuple[Range, ...] = ()
    limit: int | None = None
    gigantic: int = 0
    off: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """The kernel. `output`: where it unpacks itself without KASLR. `size`: the room that a place
    must have; `init_size`: what it needs from `output` on while it unpacks; `align`: the step."""

    output: int
    size: int
    init_size: int
    align: int


@dataclass(frozen=True, slots=True)
class SlotArea:
    """`count` places: at `start`, and each `step` bytes further."""

    start: int
    count: int
    step: int

    @property
    def places(self) -> range:
        return range(self.start, self.start + self.count * self.step, self.step)

    def within(self, r: Range) -> int:
        """How many of them begin in `r`."""
        return self._before(r.end) - self._before(r.start)

    def _before(self, address: int) -> int:
        return min(max(-(-(address - self.start) // self.step), 0), self.count)


@dataclass(frozen=True, slots=True)
class Slots:
    """All places."""

    areas: tuple[SlotArea, ...]

    @property
    def count(self) -> int:
        return sum(area.count for area in self.areas)

    def within(self, addresses: RangeSet) -> int:
        """How many of them begin at one of these addresses."""
        return sum(area.within(r) for area in self.areas for r in addresses)

    def __contains__(self, address: int) -> bool:
        return any(address in area.places for area in self.areas)

    def __iter__(self) -> Iterator[int]:
        for area in self.areas:
            yield from area.places


def parse_options(cmdline: str) -> Options:
    """As handle_mem_options() and mem_avoid_memmap() read the command line; their limits are kept:
    a fifth memmap= is not avoided, and more than four in one option switch KASLR off."""
    avoid: list[Range] = []
    limits: list[int] = []
    gigantic, gigantic_next = 0, False
    off = "nokaslr is on the command line" if "nokaslr" in cmdline.split() else ""
    for name, value in words(cmdline):
        if name == "memmap" and value is not None:
            places, sizes, rest = _memmap(value, _MAX_MEMMAP_REGIONS - len(avoid))
            if len(avoid) < _MAX_MEMMAP_REGIONS:
                limits += sizes
                avoid += places
                off = off or ("memmap= lists more than four ranges" if rest else "")
        elif name == "hugepagesz" and value is not None:
            gigantic_next = memparse(value)[0] == GIB
        elif name == "hugepages" and value is not None and gigantic_next:
            gigantic = memparse(value)[0]
        elif name == "mem" and value is not None and value != "nopentium":
            size = memparse(value)[0]
            if not size:
                break
            limits.append(size)
    return Options(tuple(avoid), min(limits, default=None), gigantic, off)


def _memmap(value: str, room: int) -> tuple[list[Range], list[int], bool]:
    """Ranges to avoid, upper limits, and whether there is more than room for."""
    avoid: list[Range] = []
    limits: list[int] = []
    parts = value.split(",")
    while parts and len(avoid) < room:
        part = parts.pop(0)
        size, rest = memparse(part)
        if part.startswith("exactmap") or rest == part:
            return avoid, limits, False
        start = memparse(rest[1:])[0] if rest[:1] in ("#", "$", "!") else 0
        if start and size:
            avoid.append(Range(start, start + size))
        elif not start and size and rest[:1] != "@":
            # Whatever else follows the size, as in memmap=SIZE%START-1: it is taken for a limit.
            limits.append(size)
    return avoid, limits, bool(parts)


def find_slots(
    image: Image,
    ram: Iterable[Range],
    avoid: Iterable[Range],
    options: Options,
    *,
    most: int,
    immovable: tuple[Range, ...] = (),
) -> Slots:
    """Every place for `image`: in the RAM entries of firmware's map, in their order; off `avoid`
    (initrd, command line, setup_data) and where it unpacks itself; below `most`, the end of what it
    can map; in `immovable` memory only, where there is any (kernel/srat.py).

    Without KASLR, or without any room for it, the one place is where it unpacks itself.
    """
    alone = Slots((SlotArea(image.output, 1, image.align),))
    if options.off:
        return alone
    finder = _Finder(
        image,
        limit=min(most, options.limit or most),
        avoid=(
            Range(image.output, image.output + image.init_size),
            *avoid,
            *options.avoid,
        ),
        gigantic=options.gigantic,
    )
    for region in ram:
        for part in _parts(region, immovable):
            finder.look(part)
    return Slots(tuple(finder.areas)) if finder.areas else alone


def _parts(region: Range, immovable: tuple[Range, ...]) -> Iterator[Range]:
    if not immovable:
        yield region
    for r in immovable:
        start, end = max(region.start, r.start), min(region.end, r.end)
        if start < end:
            yield Range(start, end)


class _Finder:
    """__process_mem_region() and process_gb_huge_pages(), which fill up one table of slot areas."""

    def __init__(
        self, image: Image, *, limit: int, avoid: tuple[Range, ...], gigantic: int
    ) -> None:
        self.areas: list[SlotArea] = []
        self._image, self._limit, self._gigantic = image, limit, gigantic
        self._avoid = sorted(avoid)
        self._minimum = _align(min(image.output, _LOWEST), image.align)

    def look(self, entry: Range) -> None:
        end = min(entry.end, self._limit)
        start = max(entry.start, self._minimum)
        while True:
            start = _align(start, self._image.align)
            hit = next((a for a in self._avoid if start < a.end and a.start < end), None)
            if hit is None:
                self._without_gigantic(start, end)
                return
            self._without_gigantic(start, hit.start)
            start = hit.end

    def _without_gigantic(self, start: int, end: int) -> None:
        """Leaves out as many whole GiB as pages of 1 GiB are asked for, from the lowest on."""
        first, last = _align(start, GIB), end & -GIB
        if not self._gigantic or first >= last:
            self._store(start, end)
            return
        self._store(start, first)
        taken = min((last - first) // GIB, self._gigantic)
        self._gigantic -= taken
        self._store(first + taken * GIB, end)

    def _store(self, start: int, end: int) -> None:
        if end - start >= self._image.size and len(self.areas) < _MAX_SLOT_AREA:
            count = 1 + (end - start - self._image.size) // self._image.align
            self.areas.append(SlotArea(start, count, self._image.align))


def _align(address: int, to: int) -> int:
    return -(-address // to) * to
