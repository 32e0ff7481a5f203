# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the machine for a MemoryPicture, without the daemon; only its ledger is read.

Every memory block's zone is read, a file each: for a person who asks, not for the daemon's looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from kexecwatchd import ownlook
from kexecwatchd.kernel import nodes
from kexecwatchd.kernel.blocks import BlockReader
from kexecwatchd.ledger import Ledger
from kexecwatchd.memorypicture import MemoryPicture, Survey, picture_of
from kexecwatchd.model import ImageName, Observation, Segment


class SurveyError(Exception):
    """The machine's memory cannot be seen; the text says what was tried and what came back."""


def survey(root: Path = Path("/"), machine: str = "") -> MemoryPicture:
    """The picture of now. Raises SurveyError.

    `machine`: the architecture, as for Observer.
    """
    try:
        own = ownlook.look(root, machine)
        on_node = nodes.of_blocks(root)
    except (OSError, ValueError) as error:
        raise SurveyError(f"the machine's memory cannot be looked at: {error}") from error
    seen = own.seen
    if seen.map is None:
        raise SurveyError(seen.problem)
    reboot = _segments(own.known, ImageName.REBOOT)
    return picture_of(
        Survey(
            memory=seen.map,
            blocks=seen.blocks,
            zones=_zones(root, seen),
            nodes=on_node,
            boot_ram=seen.boot.ram if seen.boot else None,
            crash_loaded=seen.crash_loaded,
            reboot_loaded=seen.reboot_loaded,
            crash_segments=_segments(own.known, ImageName.CRASH),
            reboot_segments=reboot,
            header=seen.header,
            drift=seen.drift,
            notes=(*_notes(seen, reboot), *([own.trouble] if own.trouble else [])),
        )
    )


def _notes(seen: Observation, reboot: tuple[Segment, ...]) -> Iterator[str]:
    if seen.reboot_loaded and not reboot:
        yield "where the reboot image lies: kexecwatchd did not load it, or was not told"
    if seen.crash_loaded and seen.header is None:
        yield f"what the crash image lists: {seen.header_problem}"
    if not seen.blocks.size:
        yield "which memory is offline or movable: the kernel shows no memory blocks"
    if seen.boot is None:
        yield "which memory was hot-added: kexecwatchd has not recorded what was there at boot"


def _segments(known: Ledger, image: ImageName) -> tuple[Segment, ...]:
    placement = known.of(image).placement
    return placement.segments if placement else ()


def _zones(root: Path, seen: Observation) -> Mapping[int, str]:
    reader = BlockReader(root)
    return {number: reader.zone(number) for number in seen.blocks.by_number}
