# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon tells the world: the one definition behind JSON, D-Bus and the screen.

`Status` has sizes and counts and may be read by anyone. `Details` adds physical addresses and is
for root alone. Fields are only ever added; a changed meaning raises `schema_version`.
Times are Unix seconds (wall clock), 0 where there is none; sizes are bytes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kexecwatchd.model import Action, Drift, ImageName, Mode, State
from kexecwatchd.ranges import Range, RangeSet

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DriftSizes(_Frozen):
    """How far an image is from the machine, without addresses."""

    missing_bytes: int = Field(0, description="RAM that the image does not list: lost from a dump")
    missing_ranges: int = Field(0, description="number of such ranges")
    extra_bytes: int = Field(
        0, description="listed but no longer there: reading it can hang a dump"
    )
    extra_ranges: int = Field(0, description="number of such ranges")
    missing_notes: int = Field(0, description="CPU notes (and vmcoreinfo) that the image lacks")


def sizes_of(drift: Drift) -> DriftSizes:
    """A drift without its addresses."""
    return DriftSizes(
        missing_bytes=drift.missing.size,
        missing_ranges=len(drift.missing.ranges),
        extra_bytes=drift.extra.size,
        extra_ranges=len(drift.extra.ranges),
        missing_notes=len(drift.missing_notes),
    )


class LastLoad(_Frozen):
    """The last load that we tried."""

    at: float = Field(0, description="when it ended; 0 = never")
    seconds: float = Field(0, description="how long the system call took")
    succeeded: bool = Field(False, description="whether the kernel took it")
    reason: str = Field("", description="why we loaded")
    source: str = Field("", description="configured, or last-good")


class ImageStatus(_Frozen):
    """One image."""

    image: ImageName = Field(description="crash or reboot")
    mode: Mode = Field(description="what the daemon may do with it: ensure, follow, observe or off")
    configured_mode: Mode = Field(
        description="the configuration's; another one than mode while what SetMode said holds"
    )
    state: State = Field(description="current, stale, unsafe, absent, failed or unknown")
    reason: str = Field(description="why the state is what it is, in a sentence")
    covered: bool = Field(description="it is what its mode asks for: nobody needs to worry")
    loaded: bool = Field(description="the kernel holds one")
    foreign: bool = Field(description="loaded by someone else")
    guarded: bool = Field(
        False,
        description="unsafe, and kept because when_unsafe is guard: its memory can go away, and it"
        " is unloaded the moment that goes offline",
    )
    degraded: str = Field("", description="loaded, but not from the configured files: why")
    proof: str = Field(
        "",
        description="what the verdict rests on: read-back, placement (the kernel's log), loader,"
        " prediction, ledger or boot memory",
    )
    since: float = Field(0, description="when the state became what it is")
    drift: DriftSizes = Field(DriftSizes(), description="how far it is from the machine")
    in_progress: str = Field(
        "", description="what is being done with it now: load, unload or discard; empty = nothing"
    )
    in_progress_since: float = Field(0, description="when that began")
    load_count: int = Field(0, description="successful loads since boot")
    last_load: LastLoad = Field(LastLoad(), description="the last load that was tried")
    last_error: str = Field("", description="the last failure, until a load succeeds")
    last_action: str = Field("", description="what was last done, and why")
    last_action_at: float = Field(0, description="when that was")
    next_step: str = Field("", description="what happens next, in a sentence")
    next_try: float = Field(0, description="when that is due; 0 = nothing planned")
    start_obstacle: str = Field(
        "",
        description="why kexecwatchctl exec would refuse to start it; empty = it would not,"
        " and always for the crash image",
    )


class Hold(_Frozen):
    """Somebody works on the machine, and nothing is loaded meanwhile."""

    number: int = Field(description="what Release takes")
    who: str = Field(description="what holds, as it says itself")
    why: str = Field(description="what for, as it says itself")
    since: float = Field(description="when it was taken")


class Decision(_Frozen):
    """One thing that was decided: what was seen, what was done about it, and how that ended."""

    number: int = Field(description="counts from 1 in each boot")
    at: float = Field(description="when it was decided")
    image: ImageName | None = Field(None, description="which image; none = both")
    action: Action = Field(
        description="verdict (a new one, and nothing is done), load, unload, discard, set-mode,"
        " hold, release or configure"
    )
    state: State | None = Field(None, description="what was seen: the image's state")
    reason: str = Field("", description="why the state was that")
    drift: DriftSizes = Field(DriftSizes(), description="how far the image was from the machine")
    why: str = Field("", description="why this was done, or why nothing is")
    by: str = Field("", description="who asked for it (uid N); empty = the daemon itself")
    succeeded: bool = Field(True, description="whether it came about")
    error: str = Field("", description="what went wrong")
    errno: int = Field(0, description="the kernel's error number, 0 = none")
    source: str = Field("", description="which files were loaded: configured or last-good")
    result: State | None = Field(None, description="the image's state after it")
    result_reason: str = Field("", description="why the state is that")
    seconds: float = Field(0, description="from the decision to the look that followed it")
    unarmed_seconds: float = Field(
        0, description="of these, how long a panic would have written no dump: the system calls"
    )


class History(_Frozen):
    """What was decided in this boot, the oldest first."""

    schema_version: int = SCHEMA_VERSION
    decisions: list[Decision]


class CheckResult(_Frozen):
    """One question of the doctor (kexecwatchd/checks/) and its answer, without addresses."""

    name: str
    question: str
    answer: str = Field(description="problem, warning, cannot tell, ok or not applicable")
    summary: str = Field(description="the answer in one line")
    explanation: str = Field("", description="what it means, in a paragraph")
    remedy: str = Field("", description="what to do, with the exact setting")
    facts: dict[str, Any] = Field({}, description="the numbers behind it; sizes in bytes")


class CheckReport(_Frozen):
    """What `kexecwatchctl check --json` prints."""

    schema_version: int = SCHEMA_VERSION
    version: str = Field(description="of kexecwatchctl")
    root: str = Field("", description="the directory of a collected machine; empty = this one")
    results: list[CheckResult]


class Setting(_Frozen):
    """A key of kexecwatchd.toml as it counts."""

    table: str = Field(description="crash, reboot or pacing")
    key: str = Field(description="its name in the table")
    value: str | float | None = Field(description="what it is; null = it is not set")
    file: str = Field(description="the file that sets it; empty = the default")


class Profile(_Frozen):
    """The distribution's kdump tool, where [crash] names no kernel and goes by what that says."""

    tool: str = Field(description="its name")
    obstacle: str = Field(description="why it names none either; empty = [crash] has its files")
    added: str = Field(description="what kexecwatchd adds to its command line; empty = nothing")


class ConfigReport(_Frozen):
    """What `kexecwatchctl config --json` prints."""

    schema_version: int = SCHEMA_VERSION
    settings: list[Setting] = Field(description="every key; none where there are problems")
    problems: list[str] = Field(description="what is wrong with the files, a line each")
    notes: list[str] = Field(
        [], description="in what the running daemon differs from the files, a line each"
    )
    profile: Profile | None = Field(
        None, description="whose files [crash] has where it names none; null = nobody's"
    )


class Status(_Frozen):
    """Everything that may be read without rights.

    Without `daemon_version` no daemon says it: kexecwatchctl has looked itself.
    """

    schema_version: int = Field(
        SCHEMA_VERSION, description="of the JSON; fields that are only added do not change it"
    )
    daemon_version: str = Field(description="of the daemon that says this")
    kernel_release: str = Field(description="as uname -r has it")
    looked_at: float = Field(description="when the machine was last looked at")
    problem: str = Field("", description="what keeps the daemon from looking properly")
    config_error: str = Field("", description="why a changed configuration was not taken")
    configured_at: float = Field(0, description="when the configuration in force was read")
    unarmed_seconds: float = Field(
        0,
        description="since boot, how long a panic would have written no dump because an image was"
        " being loaded or unloaded",
    )
    holds: list[Hold] = Field([], description="who keeps the daemon from loading, and why")
    images: list[ImageStatus]
    switched_off: list[str] = Field(
        [], description="another tool's udev rules that kexecwatchctl takeover switched off"
    )
    checks: list[CheckResult] = Field(
        [], description="what the daemon itself asks of kexecwatchctl check, as last answered"
    )

    @property
    def covered(self) -> bool:
        """Both images are what their modes ask for; what checks find does not count."""
        return all(image.covered for image in self.images)

    @property
    def check_problems(self) -> list[str]:
        """A line for each problem that a check found: its name and what it says."""
        return self._found("problem")

    @property
    def check_warnings(self) -> list[str]:
        """The same of the warnings."""
        return self._found("warning")

    def _found(self, answer: str) -> list[str]:
        return [f"{c.name}: {c.summary}" for c in self.checks if c.answer == answer]


class ImageMode(_Frozen):
    """What the daemon may do with one image."""

    image: ImageName = Field(description="crash or reboot")
    mode: Mode = Field(description="the mode in force: ensure, follow, observe or off")
    configured_mode: Mode = Field(
        description="the configuration's; another one than mode while what was set by hand holds"
    )


class ModeReport(_Frozen):
    """What `kexecwatchctl mode --json` prints."""

    schema_version: int = SCHEMA_VERSION
    modes: list[ImageMode]


class AddressRange(_Frozen):
    """Inclusive ends, in hexadecimal, as /proc/iomem writes them."""

    start: str
    end: str


def address_of(r: Range) -> AddressRange:
    """A range as people see it."""
    return AddressRange(start=f"{r.start:#x}", end=f"{r.end - 1:#x}")


def addresses_of(ranges: RangeSet) -> list[AddressRange]:
    return [address_of(r) for r in ranges]


class RiskDetails(_Frozen):
    """What of a segment lies where it must not."""

    hazard: str = Field(
        description="gone, offline, misaligned, movable, driver-managed or hot-added"
    )
    parts: list[AddressRange]
    memory_blocks: list[int] = Field(description="the N of memoryN in /sys/devices/system/memory")


class SegmentDetails(AddressRange):
    """Where a part of an image is copied to when it starts."""

    name: str = Field("", description="what is in it, where that is known")
    risks: list[RiskDetails] = []


class ImageDetails(_Frozen):
    """An image's addresses."""

    image: ImageName
    missing: list[AddressRange] = []
    extra: list[AddressRange] = []
    missing_notes: list[str] = []
    segments: list[SegmentDetails] = []
    placed_by: str = Field(
        "",
        description="who says where the segments are: log (the kernel), loader (kexec-tools) or"
        " prediction (the kernel's rules)",
    )
    prediction: str = Field(
        "", description="whether the kernel's log of the last load agrees or disagrees with them"
    )
    elfcorehdr: str = Field("", description="where the header was found")


class Details(_Frozen):
    """Addresses, for root alone."""

    schema_version: int = SCHEMA_VERSION
    images: list[ImageDetails]


class StatusDocument(Status):
    """What `kexecwatchctl status --json` and `verify --json` print."""

    details: Details | None = Field(None, description="the addresses; only for root, by verify")


class MonitorLine(_Frozen):
    """What `kexecwatchctl monitor --json` prints, each on a line of its own."""

    schema_version: int = SCHEMA_VERSION
    at: float = Field(description="when it was learned")
    event: Literal["status", "decision", "gone", "back"] = Field(
        description="status: the images or holds as they are now; decision: what was decided;"
        " gone, back: the daemon"
    )
    status: Status | None = Field(None, description="with status")
    decision: Decision | None = Field(None, description="with decision")
