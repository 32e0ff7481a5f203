# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots that are only looked at until the crash kernel's memory is reserved, or is not.

A second or two each, so there can be many: the kernel says by itself where it lies and what it
reserved (memblock=debug on the early console), and no more of the boot is waited for. One boot goes
on to a shell and brings the files that `kexecwatchctl check` reads, as a root directory.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd.crashplace import Reserved
from kexecwatchd.kernel import boot_params
from kexecwatchd.ranges import Range
from tests.unit.kernel.trees import populate
from tests.vm.lab import Lab, LabError, cpio, host, kernels
from tests.vm.lab.report import limit
from tests.vm.lab.spec import accelerator

MIB = 1 << 20

_FILES = (
    "proc/iomem", "proc/cmdline", "proc/cpuinfo", "proc/meminfo", "proc/sys/kernel/arch",
    "proc/sys/kernel/osrelease", "sys/kernel/boot_params/data", "sys/firmware/acpi/tables/SRAT",
    "sys/kernel/kexec_crash_loaded",
)  # fmt: skip
_INIT = f"""#!/bin/busybox sh
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
show() {{ echo "=== $1"; busybox hexdump -v -e '64/1 "%02x" "\\n"' $2; }}
for f in {" ".join(_FILES)}; do [ -e /$f ] && show $f /$f; done
busybox grep -m 3 -E ' (_text|__brk_base|_end)$' /proc/kallsyms >/symbols
show proc/kallsyms /symbols
busybox dmesg | busybox sed 's/^[^]]*\\] //; s/^/6,0,0,-;/' >/log
show dev/kmsg /log
echo "=== end"
busybox poweroff -f
"""

_DUMP = re.compile(r"MEMBLOCK configuration")
_TAKEN = re.compile(r"reserved\[0x[0-9a-f]+\]\s+\[0x([0-9a-f]+)-0x[0-9a-f]+\]")
_NEW = re.compile(r"crashkernel (low memory )?reserved: 0x([0-9a-f]+) - 0x([0-9a-f]+)")
_OLD = re.compile(r"Reserving (\d+)MB of (low )?memory at (\d+)MB for crashkernel")
_REFUSED = re.compile(r"cannot allocate crashkernel|Cannot reserve \d+MB crashkernel")


@dataclass(frozen=True)
class Seen:
    """One boot: where the kernel lay, what it reserved (None: nothing), its own words for it."""

    place: int
    reserved: Reserved | None
    message: str


class Boots:
    """A kernel of the lab on a machine with so many MiB of `memory` below 4 GiB and above.

    `directory` is for the initrd and for the files of look(). The machine has slots for DIMMs, and
    with them an SRAT.
    """

    def __init__(
        self, lab: Lab, kernel: str, directory: Path, memory: tuple[int, int], cmdline: str
    ) -> None:
        self.kernel = kernels.fetch(lab.cache, kernel)
        self._initrd = directory / "initrd.img"
        self._initrd.write_bytes(_archive())
        self._root = directory / "root"
        self._cmdline = cmdline
        self._machine = [
            "-machine", f"pc,max-ram-below-4g={memory[0]}M",
            "-m", f"{sum(memory)}M,slots=4,maxmem=8G", "-smp", "1",
        ]  # fmt: skip

    def look(self) -> Path:
        """Boot to the end; the root directory with the machine's files, and with its kernel."""
        files: dict[str, str] = {}
        with self._console(f"console=ttyS0 quiet {self._cmdline}") as lines:
            name = ""
            for line in lines:
                if line == "=== end":
                    break
                if line.startswith("=== "):
                    name = line[4:]
                    files[name] = ""
                elif re.fullmatch("[0-9a-f ]+", line) and name:
                    files[name] += line
            else:
                raise LabError(f"the guest ended before it had shown its files, after {name!r}")
        populate(self._root, {name: bytes.fromhex(text) for name, text in files.items()})
        populate(
            self._root,
            {f"boot/vmlinuz-{self.kernel.release}": self.kernel.vmlinuz.read_bytes()},
        )
        return self._root

    def boot(self) -> Seen:
        """Boot until memory is reserved, or refused; after look()."""
        params = boot_params.read(self._root)
        assert params
        assert params.initrd
        taken: list[int] = []
        parts: list[Range] = []
        dumps = 0
        early = f"earlyprintk=ttyS0 memblock=debug edd=off {self._cmdline}"
        with self._console(early) as lines:
            for line in lines:
                dumps += bool(_DUMP.search(line))
                if dumps == 1 and (match := _TAKEN.search(line)):
                    taken.append(int(match[1], 16))
                if part := _part(line):
                    parts.append(part)
                last = bool(parts) and " low " not in line and part is not None
                if last or _REFUSED.search(line):
                    break
            else:
                raise LabError("the guest ended before it reserved anything")
        (place,) = (at for at in taken if at >= MIB and at != params.initrd.start)
        if not last:
            return Seen(place, None, line)
        *low, main = parts
        return Seen(place, Reserved(main, *low), line)

    @contextmanager
    def _console(self, cmdline: str) -> Iterator[Iterator[str]]:
        """The lines on the guest's console; it ends with the block."""
        argv = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", *self._machine, *accelerator(), "-serial", "stdio",
            "-kernel", str(self.kernel.vmlinuz), "-initrd", str(self._initrd), "-append", cmdline,
        ]  # fmt: skip
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        ) as qemu:
            guard = threading.Timer(limit(300), qemu.kill)
            guard.start()
            try:
                assert qemu.stdout
                yield (line.rstrip() for line in qemu.stdout)
            finally:
                guard.cancel()
                qemu.kill()


def _part(line: str) -> Range | None:
    if match := _NEW.search(line):
        return Range(int(match[2], 16), int(match[3], 16))
    if match := _OLD.search(line):
        start = int(match[3]) * MIB
        return Range(start, start + int(match[1]) * MIB)
    return None


def _archive() -> bytes:
    archive = cpio.Archive()
    for directory in ("bin", "dev", "proc", "sys"):
        archive.directory(directory)
    archive.char_device("dev/console", 5, 1)
    archive.file("bin/busybox", host.BUSYBOX.read_bytes(), 0o755)
    archive.file("init", _INIT.encode(), 0o755)
    return gzip.compress(archive.finish(), compresslevel=1, mtime=0)
