# SPDX-License-Identifier: GPL-2.0-or-later
"""What a capture kernel sees of the crashed one: /proc/vmcore, read through the agent."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from .agent import Agent, Result

_PAGE = 4096


@dataclass(frozen=True)
class Load:
    """One PT_LOAD of /proc/vmcore: physical start, size in bytes, offset in the file."""

    start: int
    size: int
    offset: int

    @property
    def end(self) -> int:
        """The first physical address behind it."""
        return self.start + self.size


class Capture:
    """The dump as the capture kernel offers it, before any tool has touched it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def run(self, command: str, *, check: bool = True, timeout: float = 300) -> Result:
        """Run a shell command (busybox) in the capture kernel."""
        result = self._agent.run(command, timeout=timeout)
        return result.check() if check else result

    def elf(self) -> list[Load]:
        """The PT_LOAD entries, in the file's order."""
        segments = self._header.iter_segments("PT_LOAD")
        return [Load(s["p_paddr"], s["p_filesz"], s["p_offset"]) for s in segments]

    def notes(self) -> list[tuple[str, str, bytes]]:
        """The notes (owner, type, description): a PRSTATUS per CPU that ran, and VMCOREINFO."""
        return [
            (n["n_name"], str(n["n_type"]), n["n_descdata"])
            for s in self._header.iter_segments("PT_NOTE")
            if isinstance(s, NoteSegment)
            for n in s.iter_notes()
        ]

    def vmcoreinfo(self) -> dict[str, str]:
        """VMCOREINFO's KEY=VALUE lines."""
        text = next(d for owner, _, d in self.notes() if owner == "VMCOREINFO")
        pairs = (line.partition("=") for line in text.decode(errors="replace").splitlines())
        return {key: value for key, _, value in pairs}

    def read_phys(self, address: int, size: int) -> bytes | None:
        """The crashed kernel's memory at a physical address; None if no PT_LOAD covers it all."""
        for load in self.elf():
            if load.start <= address and address + size <= load.end:
                return self._read(load.offset + address - load.start, size)
        return None

    @cached_property
    def _header(self) -> ELFFile:
        """The front of the file up to the end of the notes, which come before all memory."""
        size = _PAGE
        while True:
            elf = ELFFile(io.BytesIO(self._read(0, size)))
            needed = elf["e_phoff"] + elf["e_phnum"] * elf["e_phentsize"]
            if needed <= size:
                needed = max(
                    (s["p_offset"] + s["p_filesz"] for s in elf.iter_segments("PT_NOTE")),
                    default=needed,
                )
            if needed <= size:
                return elf
            size = needed

    def _read(self, offset: int, size: int) -> bytes:
        first, last = offset // _PAGE, (offset + size + _PAGE - 1) // _PAGE
        command = f"dd if=/proc/vmcore bs={_PAGE} skip={first} count={last - first} 2>/dev/null"
        data = self.run(command).stdout
        return data[offset % _PAGE :][:size]
