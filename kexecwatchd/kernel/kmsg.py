# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel log (/dev/kmsg), and what a load with KEXEC_FILE_DEBUG writes there.

Format: Documentation/ABI/testing/dev-kmsg. The log is the only place where the kernel says where it
put an image's segments (SYSCALL_DEFINE5(kexec_file_load), kernel/kexec_file.c, 6.8 and later).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kexecwatchd.model import Segment

# More than PRINTK_MESSAGE_MAX with every byte escaped; a buffer too small for a record is EINVAL.
_RECORD_MAX = 16384
# A log that is written to faster than we read must not hold us here.
_RECORDS_MAX = 100_000

_PREFIX = re.compile(r"(\d+),\d+,\d+,[^;]*;(.*)")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")

_BEGIN = re.compile(r"(?:.*: )?kernel: \S+ kernel_size: 0x[0-9a-f]+")
_HEADER = re.compile(r"(?:.*: )?Loaded (?:ELF headers|elf core header) at 0x([0-9a-f]+)\b.*")
_LOADED = re.compile(
    r"(?:.*: )?Loaded (purgatory|boot_param, command line and misc|64bit kernel|initrd)"
    r" at 0x([0-9a-f]+)\b.*"
)
_COUNT = re.compile(r"(?:.*: )?nr_segments = (\d+)")
_SEGMENT = re.compile(
    r"(?:.*: )?segment\[(\d+)\]: buf=\S+ bufsz=0x[0-9a-f]+ mem=0x([0-9a-f]+) memsz=0x([0-9a-f]+)"
)
_DONE = re.compile(r"(?:.*: )?kexec_file_load: type:(\d+), start:.*")

TYPE_CRASH = 1
# The words of bzImage64_load() (arch/x86/kernel/kexec-bzimage64.c), and ours.
_NAMES = {
    "purgatory": "purgatory",
    "boot_param, command line and misc": "boot parameters",
    "64bit kernel": "kernel",
    "initrd": "initrd",
}


@dataclass(frozen=True, slots=True)
class LoggedLoad:
    """Where a load put its segments. `type`: 0 reboot (KEXEC_TYPE_DEFAULT), 1 crash.

    Segments have names where the log says what was loaded at their address (x86).
    `elfcorehdr`: a crash image's header; None where the log does not say.
    """

    type: int
    segments: tuple[Segment, ...]
    elfcorehdr: int | None = None


class KernelLog:
    """Reads what the kernel logs from `mark` on; close it, or use it as a context manager.

    The constructor raises OSError (EPERM: kernel.dmesg_restrict without CAP_SYSLOG).
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._fd = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._fd)

    def mark(self) -> None:
        """From here on."""
        os.lseek(self._fd, 0, os.SEEK_END)

    def since_mark(self) -> tuple[list[str], bool]:
        """The kernel's own lines since `mark` or the last call, without prefix and escapes.

        False with them when some are lost, because the kernel overwrote them before we came.
        Lines that programs wrote to the log are left out. Raises OSError.
        """
        records: list[bytes] = []
        complete = True
        for _ in range(_RECORDS_MAX):
            try:
                record = os.read(self._fd, _RECORD_MAX)
            except BlockingIOError:
                return _lines(records), complete
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                complete = False
                continue
            if not record:
                return _lines(records), complete
            records.append(record)
        return _lines(records), False


def parse_line(line: str) -> str | None:
    """The text of a line of /dev/kmsg; None for what is no message of the kernel itself: a
    key=value line of the message before, another facility, or no such format."""
    match = _PREFIX.fullmatch(line)
    if not match or int(match[1]) >> 3:
        return None
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), match[2])


def parse_load(lines: Iterable[str]) -> LoggedLoad | None:
    """The last load whose placement `lines` tell completely, or None.

    Complete: as many segments as nr_segments says, in order, and the line that ends a load. A load
    that failed has no such line. What stands before each message (the kernel file's pr_fmt) may
    change.
    """
    found: LoggedLoad | None = None
    count: int | None = None
    header: int | None = None
    names: dict[int, str] = {}
    segments: list[Segment] = []
    for line in lines:
        if _BEGIN.fullmatch(line):
            count, header, names, segments = None, None, {}, []
        elif match := _LOADED.fullmatch(line):
            names[int(match[2], 16)] = _NAMES[match[1]]
        elif match := _HEADER.fullmatch(line):
            header = int(match[1], 16)
        elif match := _COUNT.fullmatch(line):
            count, segments = int(match[1]), []
        elif match := _SEGMENT.fullmatch(line):
            mem = int(match[2], 16)
            segment = Segment(mem, int(match[3], 16), names.get(mem, ""))
            if int(match[1]) == len(segments) and segment.memsz:
                segments.append(segment)
            else:
                count = None
        elif match := _DONE.fullmatch(line):
            if count and count == len(segments):
                kind = int(match[1])
                address = header if kind == TYPE_CRASH else None
                found = LoggedLoad(kind, tuple(segments), address)
            count, header, names, segments = None, None, {}, []
    return found


def _lines(records: Iterable[bytes]) -> list[str]:
    text = b"".join(records).decode("utf-8", "replace")
    parsed = (parse_line(line) for line in text.split("\n"))
    return [line for line in parsed if line is not None]
