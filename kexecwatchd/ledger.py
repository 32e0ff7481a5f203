# SPDX-License-Identifier: GPL-2.0-or-later
"""What was loaded, when, and under which map: the memory that survives the daemon.

The kernel says whether an image is loaded, not by whom or under which memory map; that is kept
here. One JSON file below /run, replaced atomically, and good for one boot only.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, ValidationError

from kexecwatchd.model import Drift, ImageName, Mode, PlacedBy, Placement, Segment, State
from kexecwatchd.ondisk import Signatures
from kexecwatchd.ranges import RangeSet
from kexecwatchd.report import Decision, Hold


def _to_pairs(ranges: RangeSet) -> list[tuple[int, int]]:
    return [(r.start, r.end) for r in ranges]


def _from_pairs(value: Any) -> RangeSet:
    return value if isinstance(value, RangeSet) else RangeSet.of(*value)


def _drift_to_json(drift: Drift) -> dict[str, Any]:
    return {
        "missing": _to_pairs(drift.missing),
        "extra": _to_pairs(drift.extra),
        "missing_notes": list(drift.missing_notes),
    }


def _drift_from_json(value: Any) -> Drift:
    if isinstance(value, Drift):
        return value
    return Drift(
        _from_pairs(value["missing"]), _from_pairs(value["extra"]), tuple(value["missing_notes"])
    )


def _segments_to_json(segments: tuple[Segment, ...]) -> list[tuple[int, int, str, int]]:
    return [(s.mem, s.memsz, s.name, s.alignment) for s in segments]


def _segments_from_json(value: Any) -> tuple[Segment, ...]:
    return tuple(s if isinstance(s, Segment) else Segment(*s) for s in value)


def _placement_to_json(placement: Placement | None) -> dict[str, Any] | None:
    if placement is None:
        return None
    return {
        "segments": _segments_to_json(placement.segments),
        "source": placement.source.value,
        "elfcorehdr": placement.elfcorehdr,
    }


def _placement_from_json(value: Any) -> Placement | None:
    if value is None or isinstance(value, Placement):
        return value
    return Placement(
        _segments_from_json(value["segments"]), PlacedBy(value["source"]), value["elfcorehdr"]
    )


Ranges = Annotated[RangeSet, PlainValidator(_from_pairs), PlainSerializer(_to_pairs)]
DriftRecord = Annotated[Drift, PlainValidator(_drift_from_json), PlainSerializer(_drift_to_json)]
Segments = Annotated[
    tuple[Segment, ...], PlainValidator(_segments_from_json), PlainSerializer(_segments_to_json)
]
PlacementRecord = Annotated[
    Placement | None, PlainValidator(_placement_from_json), PlainSerializer(_placement_to_json)
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Frozen):
    """The files and command line of an image, as configured."""

    kernel: str
    initrd: str = ""
    cmdline: str


class Intent(_Frozen):
    """Written before a load, taken back after it: what an interrupted daemon was about to do.

    `why` is the load's reason, `at_wall` when it began, in Unix seconds. `tried`: see ImageRecord.
    """

    pair: Pair
    fingerprint_before: str
    ram: Ranges
    online: Ranges
    why: str = ""
    at_wall: float = 0
    tried: Signatures | None = None


class LoadRecord(_Frozen):
    """The last load tried. `ended` is CLOCK_BOOTTIME, `ended_wall` Unix time, both in seconds."""

    ended: float
    ended_wall: float
    seconds: float
    succeeded: bool
    reason: str
    source: str


class LastGood(_Frozen):
    """Our copy of the last files that loaded. The signatures are of the originals."""

    pair: Pair
    kernel_signature: str
    initrd_signature: str = ""


class Landing(_Frozen):
    """Where kexec_file_load(2) put a reboot image when these files were configured (it may have
    been the last good ones), and under which System RAM."""

    pair: Pair
    ram: Ranges
    segments: Segments


class NoDetour(_Frozen):
    """kexec-tools failed to put a reboot image below this address, under this System RAM."""

    ram: Ranges
    below: int
    error: str


class Prediction(StrEnum):
    """Whether the kernel's log agreed with our prediction of where it would load."""

    NONE = ""  # there were not both
    AGREES = "agrees"
    DISAGREES = "disagrees"


class Told(_Frozen):
    """The last verdict that was told, and why nothing was done about it."""

    state: State
    why: str


class HoldRecord(_Frozen):
    """A hold, and the connection that it ends with, in the words of the bus adapter."""

    holder: str
    hold: Hold


# What a load owes that failed, in case it took the old image along.
LOAD_FAILED = "the load before failed"

# What a load owes of which nothing tells whether it came about.
INTERRUPTED = "the load before was interrupted"

# What a load owes whose place was predicted from a map that changed meanwhile.
MAP_MOVED = "memory changed while it was being loaded"


class ImageRecord(_Frozen):
    """What we know of one image beyond what the kernel tells.

    `ram` and `online` are the memory map under which it was loaded, or first seen when it is
    foreign; None while none is loaded. `placement` is None where it is not known, `below` the limit
    that the last load by kexec-tools had, `cma` that the last one by kexec_file_load(2) might use
    CMA, `no_cma` the System RAM under which that did not help.
    `owed` says why we are to load one although none is loaded. `uncured` is drift that our last
    load left although the map stood still: loading again would not help. `mode` is what somebody
    wants it to be until the next boot, None while the configured one is in force.
    """

    ours: bool = False
    pair: Pair | None = None
    ram: Ranges | None = None
    online: Ranges | None = None
    placement: PlacementRecord = None
    below: int | None = None
    cma: bool = False
    no_cma: Ranges | None = None
    prediction: Prediction = Prediction.NONE
    fingerprint: str = ""
    intent: Intent | None = None
    owed: str = ""
    landing: Landing | None = None
    no_detour: NoDetour | None = None
    uncured: DriftRecord = Drift()
    degraded: str = ""
    last_good: LastGood | None = None
    tried: Signatures | None = None
    copied: bool = False
    load_count: int = 0
    last_load: LoadRecord | None = None
    failures: int = 0
    last_error: str = ""
    next_try: float = 0
    next_unload: float = 0
    last_action: str = ""
    last_action_wall: float = 0
    state: State | None = None
    since_wall: float = 0
    mode: Mode | None = None
    told: Told | None = None


class Ledger(_Frozen):
    """`unarmed_seconds`: how long all loads and unloads of this boot took. `decisions`: the last
    ones, the oldest first. `hold_count`: how many holds there have been."""

    boot_id: str
    crash: ImageRecord = ImageRecord()
    reboot: ImageRecord = ImageRecord()
    refused_flags: int = 0  # of kexec_file_load(2), which this kernel does not know
    unarmed_seconds: float = 0
    decisions: tuple[Decision, ...] = ()
    holds: tuple[HoldRecord, ...] = ()
    hold_count: int = 0

    def of(self, image: ImageName) -> ImageRecord:
        return self.crash if image is ImageName.CRASH else self.reboot

    def with_image(self, image: ImageName, **changes: Any) -> Ledger:
        """The ledger with some fields of one image's record changed."""
        return self.model_copy(update={image.value: self.of(image).model_copy(update=changes)})


def read(path: Path, boot_id: str) -> tuple[Ledger, str]:
    """The ledger of this boot, or a fresh one and, where there should have been one, why.

    A ledger of another boot, or one that cannot be understood, counts as none: what the kernel
    holds is then foreign until we replace it, which is the careful reading.
    """
    fresh = Ledger(boot_id=boot_id)
    try:
        ledger = Ledger.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return fresh, ""
    except (OSError, ValidationError, KeyError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        return fresh, f"{path} could not be used ({first}); loaded images count as foreign"
    return (ledger, "") if ledger.boot_id == boot_id else (fresh, "")


def write(path: Path, ledger: Ledger) -> None:
    """Replace the file: after a kill at any moment it holds the old ledger or the new one."""
    # Always the same name: there is one daemon, and what a kill left behind is written over.
    new = path.with_name(f".{path.name}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(ledger.model_dump_json().encode())
    os.replace(new, path)
