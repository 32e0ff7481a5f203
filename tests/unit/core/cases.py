# SPDX-License-Identifier: GPL-2.0-or-later
"""A small machine as the deciding parts see it: 8 GiB in blocks of 1 GiB, a crash region in the
first one. Tests say what is different."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kexecwatchd import config
from kexecwatchd.config import Config
from kexecwatchd.ledger import ImageRecord, Ledger, Pair
from kexecwatchd.model import (
    Block,
    Blocks,
    BlockState,
    BootMemory,
    CoreHeader,
    Drift,
    ImageName,
    MemoryMap,
    Observation,
    PlacedBy,
    Placement,
    Segment,
    Step,
)
from kexecwatchd.ranges import RangeSet
from kexecwatchd.reconcile import reconcile

GIB = 1 << 30
CRASH, REBOOT = ImageName.CRASH, ImageName.REBOOT
REGION = RangeSet.of((GIB // 4, GIB // 2))
NO_DRIFT = Drift()
PAIR = Pair(kernel="/boot/vmlinuz", initrd="/boot/initrd.img", cmdline="quiet")


def gib(*numbers: int) -> RangeSet:
    """The memory of these blocks."""
    return RangeSet.of(*((n * GIB, (n + 1) * GIB) for n in numbers))


def placed(*numbers: int, source: PlacedBy = PlacedBy.LOG) -> Placement:
    """A segment that fills each of these blocks."""
    return Placement(tuple(Segment(n * GIB, GIB) for n in numbers), source)


def blocks(present: Collection[int] = range(8), offline: Collection[int] = ()) -> Blocks:
    def state(number: int) -> BlockState:
        return BlockState.OFFLINE if number in offline else BlockState.ONLINE

    return Blocks(GIB, {n: Block(n, state(n)) for n in present})


def seen(
    *,
    present: Collection[int] = range(8),
    offline: Collection[int] = (),
    crash: bool | None = True,
    reboot: bool | None = True,
    drift: Drift = NO_DRIFT,
    header: bool = True,
    reserved: bool = True,
    **changes: Any,
) -> Observation:
    """One look; `present` and `offline` are numbers of blocks, `header` that it could be read, and
    `boot_ram` is what was there at boot, by firmware's own map if `boot_ram_sure`."""
    readable = bool(crash) and header
    look: dict[str, Any] = {
        "map": MemoryMap(gib(*present), crash_regions=REGION if reserved else RangeSet()),
        "blocks": blocks(present, offline),
        "crash_loaded": crash,
        "reboot_loaded": reboot,
        "header": CoreHeader(REGION.ranges[0].start, gib(*present), ()) if readable else None,
        "header_problem": "" if header else "the read was refused",
        "drift": drift if readable else NO_DRIFT,
        "fingerprint": "ours" if readable else "",
        "boot": BootMemory(gib(*range(16))),
    }
    if "boot_ram" in changes:
        ram, sure = changes.pop("boot_ram"), changes.pop("boot_ram_sure", True)
        changes["boot"] = None if ram is None else BootMemory(ram, ram if sure else None)
    return Observation(**(look | changes))


def ours(**changes: Any) -> ImageRecord:
    """The record of an image that we loaded when all of the 8 GiB were there."""
    record: dict[str, Any] = {
        "ours": True,
        "pair": PAIR,
        "ram": gib(*range(8)),
        "online": gib(*range(8)),
        "fingerprint": "ours",
        "load_count": 1,
    }
    return ImageRecord(**(record | changes))


def foreign(**changes: Any) -> ImageRecord:
    return ours(ours=False, pair=None, load_count=0, **changes)


def book(crash: ImageRecord | None = None, reboot: ImageRecord | None = None) -> Ledger:
    return Ledger(
        boot_id="this-boot",
        crash=crash or ours(),
        reboot=reboot or ours(fingerprint="", placement=placed(7)),
    )


def configured(crash: str = "ensure", reboot: str = "ensure", files: bool = True) -> Config:
    """Both images with these modes; without files only follow, observe and off are possible."""
    named = {"kernel": PAIR.kernel, "initrd": PAIR.initrd, "cmdline": PAIR.cmdline}
    some = named if files else {}
    return config.from_tables(
        {"crash": {"mode": crash, **some}, "reboot": {"mode": reboot, **some}}, {}
    )


def step_for(
    image: ImageName, look: Observation, ledger: Ledger, settings: Config | None = None
) -> Step:
    steps = reconcile(look, ledger, settings or configured())
    assert [step.image for step in steps] == [CRASH, REBOOT]
    return steps[0] if image is CRASH else steps[1]
