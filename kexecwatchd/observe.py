# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at the machine: reads the kernel's interfaces and puts them into an Observation.

Nothing is decided here. What cannot be read is said in the observation, never guessed.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kexecwatchd import bootmemory, takeover
from kexecwatchd.addresses import without_addresses
from kexecwatchd.kernel import (
    acpi_memory,
    cpus,
    crash_cmdline,
    elfcorehdr,
    iomem,
    kexec_state,
    meminfo,
    zoneinfo,
)
from kexecwatchd.kernel.blocks import BlockReader
from kexecwatchd.kernel.kcore import Kcore
from kexecwatchd.kernel.kexec_file import KEXEC_FILE_DEBUG, KEXEC_FILE_NO_CMA
from kexecwatchd.kernel.kexec_state import KexecState
from kexecwatchd.ledger import Ledger
from kexecwatchd.loaders import kexec_tools
from kexecwatchd.model import (
    MOVABLE,
    Blocks,
    BootMemory,
    CoreHeader,
    Drift,
    ImageFiles,
    MemoryMap,
    Observation,
)
from kexecwatchd.outlook import Outlook
from kexecwatchd.ranges import RangeSet
from kexecwatchd.takeover import TakeoverError

# How much of the crash region's end identifies the image: x86 places purgatory (with the digests
# of all segments) and the command line there, arm64 the device tree with its random seeds.
FINGERPRINT_BYTES = 128 << 10

# How often a look is begun anew because memory changed under it.
CONSISTENT_TRIES = 3

# Seconds: much longer than the kernel needs to write a new elfcorehdr.
KERNEL_UPDATE = 0.02


class Observer:
    """Looks; keeps only the memory blocks' states between looks, since there can be thousands."""

    def __init__(self, root: Path = Path("/"), machine: str = "") -> None:
        self._root = root
        self._machine = machine or platform.machine()
        self._blocks = BlockReader(root)
        self._outlook = Outlook(root, self._machine)
        self._boot: BootMemory | None = None

    def blocks(self, changed: Iterable[int] | None) -> Blocks:
        """The memory blocks, with the states of `changed` (None: all) read afresh.

        Raises OSError or ValueError.
        """
        return self._blocks.read(changed)

    def look(
        self,
        ledger: Ledger,
        changed: Iterable[int] | None = None,
        reboot_files: ImageFiles | None = None,
    ) -> Observation:
        """Everything. `changed`: the blocks to read afresh besides new ones; None means all.
        `reboot_files`: where these would land is to be told too.

        The parts are read one after the other; when the memory map moved meanwhile they do not
        belong together, and everything is read again. Under a storm without end the last try
        stands: the next look is close.
        """
        for _ in range(CONSISTENT_TRIES):
            seen = self._look_once(ledger, changed, reboot_files)
            if seen.map is None or self._memory_map()[0] == seen.map:
                break
        return seen

    def _look_once(
        self, ledger: Ledger, changed: Iterable[int] | None, reboot_files: ImageFiles | None
    ) -> Observation:
        try:
            blocks, movable = self._look_at_blocks(ledger, changed)
            state = self._kexec_state(ledger)
            cma = meminfo.has_cma(self._root)
        except (OSError, ValueError) as error:
            self._blocks = BlockReader(self._root)
            problem = f"the kernel's state cannot be read: {without_addresses(str(error))}"
            nothing = Blocks(size=0, by_number={})
            return Observation(
                None, nothing, crash_loaded=None, reboot_loaded=None, problem=problem
            )
        memory, problem = self._memory_map()
        seen = Observation(
            map=memory,
            blocks=blocks,
            crash_loaded=state.crash_loaded,
            reboot_loaded=state.reboot_loaded,
            problem=problem,
            load_disabled=state.load_disabled,
            limit_panic=state.limit_panic,
            limit_reboot=state.limit_reboot,
            acpi_memory=acpi_memory.memory_present(self._root),
            movable=movable,
            boot=self._boot_memory(),
            cma=cma and not ledger.refused_flags & (KEXEC_FILE_DEBUG | KEXEC_FILE_NO_CMA),
            logs_placement=not ledger.refused_flags & KEXEC_FILE_DEBUG,
            tools_obstacle=kexec_tools.obstacle(self._root),
            switched_off=self._switched_off(),
        )
        if memory is not None and reboot_files is not None:
            seen = self._outlook.add(seen, memory, reboot_files)
        if memory is None or not state.crash_loaded:
            return seen
        placement = ledger.crash.placement
        hint = placement.elfcorehdr if placement else None
        return self._with_header(seen, memory, state, hint)

    def _look_at_blocks(
        self, ledger: Ledger, changed: Iterable[int] | None
    ) -> tuple[Blocks, RangeSet]:
        """All blocks, those that hold the reboot image read afresh, and the movable memory."""
        spans = zoneinfo.movable_spans(self._root)
        blocks = self._blocks.read(changed)
        placement = ledger.reboot.placement
        held = blocks.covering(placement.ranges) if placement else ()
        if changed is not None and held:
            blocks = self._blocks.read(held)
        candidates = blocks.covering(spans - blocks.offline)
        movable = RangeSet(
            blocks.span(n)
            for n in candidates
            if n in blocks.by_number and self._blocks.zone(n) == MOVABLE
        )
        return blocks, movable

    def _kexec_state(self, ledger: Ledger) -> KexecState:
        """What is loaded; a crash image that we know of is not taken to be gone at first sight.

        While the kernel updates the image it has none for a moment
        (arch_crash_handle_hotplug_event() in arch/x86/kernel/crash.c).
        """
        state = kexec_state.read(self._root)
        if ledger.crash.ram is not None and not state.crash_loaded:
            time.sleep(KERNEL_UPDATE)
            state = kexec_state.read(self._root)
        return state

    def _boot_memory(self) -> BootMemory | None:
        """Recorded once, so read once."""
        if self._boot is None:
            self._boot = bootmemory.read(self._root, kexec_state.boot_id(self._root))
        return self._boot

    def _memory_map(self) -> tuple[MemoryMap | None, str]:
        try:
            return iomem.read_memory_map(self._root), ""
        except (OSError, ValueError) as error:
            return None, f"the memory map cannot be read: {without_addresses(str(error))}"

    def _switched_off(self) -> tuple[str, ...]:
        try:
            return tuple(takeover.switched_off(self._root))
        except TakeoverError:
            return ()  # told to whoever takes over, or reverts that

    def _with_header(
        self, seen: Observation, memory: MemoryMap, state: KexecState, hint: int | None
    ) -> Observation:
        """Read the crash image back and compare it with the machine."""
        try:
            with Kcore(self._root) as core:
                header = elfcorehdr.find(core, memory.crash_regions, hint, self._machine)
                fingerprint = _fingerprint(core, memory, header)
                cmdline = crash_cmdline.read(core, memory.crash_regions, header)
            notes = cpus.crash_notes(self._root)
        except (OSError, ValueError) as error:
            return replace(seen, header_problem=without_addresses(str(error)))
        drift: Drift = elfcorehdr.compare(header, memory, state.crash_cma, notes, self._machine)
        return replace(
            seen,
            header=header,
            drift=drift,
            fingerprint=fingerprint,
            crash_cmdline=cmdline,
        )


def _fingerprint(core: Kcore, memory: MemoryMap, header: CoreHeader) -> str:
    """Identifies what is loaded; the elfcorehdr, which the kernel may rewrite, is left out."""
    region = next(r for r in memory.crash_regions if r.start <= header.address < r.end)
    end = region.end
    if header.address >= end - FINGERPRINT_BYTES:
        end = header.address
    start = max(region.start, end - FINGERPRINT_BYTES)
    return hashlib.sha256(core.read(start, end - start)).hexdigest() if start < end else ""
