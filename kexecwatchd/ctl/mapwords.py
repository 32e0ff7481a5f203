# SPDX-License-Identifier: GPL-2.0-or-later
"""What a memory map says in words and tables, for the terminal and for the SVG alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexecwatchd.ctl.mapkinds import span_of
from kexecwatchd.ctl.maplayout import Layout
from kexecwatchd.ctl.text import counted
from kexecwatchd.memorypicture import BlockRun, MemoryPicture, range_of, ranges_of
from kexecwatchd.model import MOVABLE, BlockState, Hazard, ImageName
from kexecwatchd.ranges import RangeSet
from kexecwatchd.report import AddressRange
from kexecwatchd.sizes import human

_PLACES = {
    Hazard.GONE: "in memory that is GONE",
    Hazard.OFFLINE: "in offline memory",
    Hazard.MISALIGNED: "where its kernel cannot start",
    Hazard.MOVABLE: "in movable memory",
    Hazard.DRIVER_MANAGED: "in driver-managed memory",
    Hazard.HOT_ADDED: "in hot-added memory",
}
_ZONES = {"": "zone not known", "none": "several zones"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A labelled line of the answer; `bad` says that somebody should look into it."""

    label: str
    text: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """Cells, as many as the table's other rows have, and a remark; `bad` as of a Sentence."""

    cells: tuple[str, ...]
    remark: str = ""
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title. `more`: rows that there are besides."""

    title: str
    rows: Sequence[TableRow]
    more: int = 0


def answer(picture: MemoryPicture) -> list[Sentence]:
    """What matters, in three lines."""
    return [
        Sentence("Memory", _memory(picture)),
        _crash_image(picture),
        _reboot_image(picture),
    ]


def scale(picture: MemoryPicture, layout: Layout, cell: str) -> str:
    """How to read the picture; `cell` is what a cell looks like."""
    blocks = layout.cell // picture.block_size if picture.block_size else 0
    held = f" ({blocks} blocks)" if blocks > 1 else " (one block)" if blocks else ""
    return (
        f"{cell} is {human(layout.cell)}{held} and shows the most important thing there;"
        f" a row is {human(layout.cell * layout.columns)}."
    )


def tables(picture: MemoryPicture, most_rows: int) -> list[Table]:
    """Everything with its addresses; `most_rows` of each but of the images, which are all there."""
    found = [
        Table("Images", _placed(picture)),
        _cut("Missing from a dump", _sized(picture.missing), most_rows),
        _cut("Listed by the crash image, but gone", _sized(picture.extra), most_rows),
        _cut("Memory blocks", list(_blocks(picture)), most_rows),
        _cut("System RAM in /proc/iomem", _ram(picture), most_rows),
    ]
    return [table for table in found if table.rows]


def _memory(picture: MemoryPicture) -> str:
    ram = ranges_of(picture.ranges)
    text = human(ram.size)
    if picture.block_size:
        count = sum(run.last + 1 - run.first for run in picture.blocks)
        text += f" in {counted(count, 'block')} of {human(picture.block_size)}"
    if len(picture.nodes) > 1:
        text += f" on {len(picture.nodes)} nodes"
    runs = [(run, span_of(picture, run)) for run in picture.blocks]
    parts = (
        ("hot-added", RangeSet(r for run, r in runs if run.hot_added)),
        ("driver-managed", RangeSet(range_of(r) for r in picture.ranges if r.driver_managed)),
        ("offline", RangeSet(r for run, r in runs if run.state is not BlockState.ONLINE)),
        ("movable", RangeSet(r for run, r in runs if _is_movable(run.state, run.zone))),
    )
    said = [f"{human((ram & part).size)} {word}" for word, part in parts if ram & part]
    return f"{text}; {', '.join(said)}" if said else text


def _is_movable(state: BlockState, zone: str) -> bool:
    return state is BlockState.ONLINE and zone == MOVABLE


def _crash_image(picture: MemoryPicture) -> Sentence:
    label = "Crash image"
    reserved = ranges_of(picture.crash_regions).size
    room = f"; {human(reserved)} reserved" if reserved else "; nothing is reserved for one"
    if picture.crash_loaded is None:
        return Sentence(label, f"not known whether one is loaded{room}")
    if not picture.crash_loaded:
        return Sentence(label, f"none is loaded{room}")
    if not picture.elfcorehdr:
        return Sentence(label, f"loaded{room}; what it lists could not be read", bad=True)
    missing, extra = ranges_of(picture.missing).size, ranges_of(picture.extra).size
    said = [f"{human(missing)} would be missing from a dump"] if missing else []
    said += [f"{human(extra)} listed, but gone"] if extra else []
    said += _in_danger(picture, ImageName.CRASH)
    listed = ", ".join(said) or "it lists all of memory"
    return Sentence(label, f"loaded{room}; {listed}", bad=bool(said))


def _reboot_image(picture: MemoryPicture) -> Sentence:
    label = "Reboot image"
    if picture.reboot_loaded is None:
        return Sentence(label, "not known whether one is loaded")
    if not picture.reboot_loaded:
        return Sentence(label, "none is loaded")
    count = sum(s.image is ImageName.REBOOT for s in picture.segments)
    if not count:
        return Sentence(label, "loaded; where it lies is not known", bad=True)
    dangers = _in_danger(picture, ImageName.REBOOT)
    # What was hot-added is told by blocks alone, and not by all machines.
    known = all(run.hot_added is not None for run in picture.blocks)
    safe = "none in memory that can go away" + ("" if known else ", as far as known")
    return Sentence(
        label, f"loaded; {counted(count, 'segment')}, {', '.join(dangers) or safe}", bool(dangers)
    )


def _in_danger(picture: MemoryPicture, image: ImageName) -> list[str]:
    """How many segments of that image lie where they must not, each by the worst that is so there:
    "1 in movable memory"."""
    worst = [s.hazards[0] for s in picture.segments if s.image is image and s.hazards]
    return [f"{worst.count(h)} {place}" for h, place in _PLACES.items() if h in worst]


def _placed(picture: MemoryPicture) -> list[TableRow]:
    rows = [TableRow(("crash", "reserved", *_size_of(r))) for r in picture.crash_regions]
    if picture.elfcorehdr and all(s.name != "elfcorehdr" for s in picture.segments):
        rows.append(TableRow(("crash", "elfcorehdr", f"at {picture.elfcorehdr}", "")))
    for s in picture.segments:
        cells = (s.image.value, s.name or "segment", *_size_of(s))
        rows.append(TableRow(cells, ", ".join(s.hazards), bool(s.hazards)))
    return rows


def _sized(ranges: Sequence[AddressRange]) -> list[TableRow]:
    return [TableRow(_size_of(r)) for r in ranges]


def _size_of(listed: AddressRange) -> tuple[str, str]:
    return f"{listed.start}-{listed.end}", human(range_of(listed).size)


def _ram(picture: MemoryPicture) -> list[TableRow]:
    return [
        TableRow(_size_of(r), "driver-managed" if r.driver_managed else "") for r in picture.ranges
    ]


def _blocks(picture: MemoryPicture) -> Iterator[TableRow]:
    """Blocks by node, zone and state, with the System RAM in them."""
    ram = ranges_of(picture.ranges)
    groups: dict[tuple[str, str, str, str], list[BlockRun]] = {}
    for run in picture.blocks:
        node = "no node" if run.node is None else f"node {run.node}"
        new = "hot-added" if run.hot_added else ""
        # What is not online is in no zone; the kernel tells which one it would get.
        zone = _ZONES.get(run.zone, run.zone) if run.state is BlockState.ONLINE else "no zone"
        key = (node, zone, run.state.value, new)
        groups.setdefault(key, []).append(run)
    for (*place, new), runs in groups.items():
        count = sum(run.last + 1 - run.first for run in runs)
        held = ram & RangeSet(span_of(picture, run) for run in runs)
        yield TableRow((*place, counted(count, "block"), human(held.size)), new)


def _cut(title: str, rows: Sequence[TableRow], most: int) -> Table:
    return Table(title, rows[:most], max(len(rows) - most, 0))
