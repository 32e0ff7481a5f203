# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel made of files: what it shows below a root, and what its kexec system calls do.

It behaves as booted x86_64 kernels were seen to: the crash image is dropped before the new files
are read, a reboot image is put top-down into the highest System RAM whatever its state, a removed
block's range leaves /proc/iomem last, and the kernel's own update of elfcorehdr knows nothing of
removed memory. It has no clock: a load takes the time that `while_loading` makes it take.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kexecwatchd.kernel import lease
from kexecwatchd.kernel.kexec_file import (
    KEXEC_FILE_DEBUG,
    KEXEC_FILE_NO_CMA,
    KEXEC_FILE_ON_CRASH,
    KEXEC_FILE_UNLOAD,
)
from kexecwatchd.loaders.kexec_tools import Finished
from kexecwatchd.ranges import Range, RangeSet
from tests.unit.kernel.trees import crash_header, populate

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK = 128 * MIB
BOOT_RAM = RangeSet.of((0x1000, 0x9F000), (MIB, GIB))
CRASH_REGION = Range(0x30000000, 0x30000000 + 4 * MIB)
KERNEL_TEXT = Range(0x1000000, 0x2000000)
DIMM = 32  # the block that the first DIMM begins with: 4 GiB

CMDLINE = "root=/dev/vda1 ro"
INIT_SIZE = MIB


def bzimage(mark: bytes = b"one", init_size: int = INIT_SIZE) -> bytes:
    """A kernel file that the kernel's own loader would take; `mark` tells it from others."""
    image = bytearray(2 * 512 + 4096)
    image[1024 : 1024 + len(mark)] = mark
    image[0x1F1] = 1
    struct.pack_into("<I", image, 0x1F4, 4096 // 16)
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    image[0x211] = 1
    struct.pack_into("<I", image, 0x230, 0x200000)
    struct.pack_into("<H", image, 0x236, 0x6B)
    struct.pack_into("<I", image, 0x238, 2047)
    struct.pack_into("<I", image, 0x260, init_size)
    return bytes(image)


def cpio(content: bytes = b"init") -> bytes:
    """A whole initramfs with one file."""

    def member(name: bytes, data: bytes) -> bytes:
        fields = (1, 0o100755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08x" % value for value in fields)
        text = header + name + b"\0"
        text += bytes(-len(text) % 4) + data
        return text + bytes(-len(text) % 4)

    return member(b"init", content) + member(b"TRAILER!!!", b"")


@dataclass(frozen=True)
class Call:
    """A system call as it was made; `error` is 0 for success. `tools`: kexec_load(2)."""

    image: str
    unload: bool
    cmdline: str
    error: int
    tools: bool = False


@dataclass
class FakeKernel:
    """`debug`: knows KEXEC_FILE_DEBUG (6.8). `crash_hotplug`: updates elfcorehdr itself (6.6).
    `cma`: memory that reboot images are put into first, bottom-up; its flag is known (6.17).
    `acpi`: DIMMs show as ACPI memory devices. `tools`: kexec-tools are installed.

    `uevent(subsystem, action, name)` is told each event. `while_loading(image)` runs inside each
    load, after the old crash image is gone; it may raise. `errors` are the results of the next
    loads, one each: 0 or an errno, given after the old crash image is gone; `busy` is how many of
    the next calls find the lock taken.
    """

    root: Path
    debug: bool = True
    crash_hotplug: bool = False
    auto_online: bool = True
    acpi: bool = False
    tools: bool = False
    new_paths: bool = False
    cpus: int = 2
    uevent: Callable[[str, str, str], None] = lambda subsystem, action, name: None
    while_loading: Callable[[str], None] = lambda image: None
    errors: list[int] = field(default_factory=list)
    busy: int = 0
    calls: list[Call] = field(default_factory=list)
    ram: RangeSet = BOOT_RAM
    driver_managed: RangeSet = field(default_factory=RangeSet)
    cma: Range | None = None
    region: Range | None = CRASH_REGION
    blocks: dict[int, str] = field(default_factory=dict)
    zones: dict[int, str] = field(default_factory=dict)
    segments: RangeSet = field(default_factory=RangeSet)
    lines: int = 0

    def __post_init__(self) -> None:
        self._own_header = False
        populate(
            self.root,
            {
                "proc/meminfo": f"CmaTotal: {self.cma.size >> 10 if self.cma else 0} kB\n",
                "proc/cmdline": f"{CMDLINE}\n",
                "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme\n\n",
                "proc/sys/kernel/random/boot_id": "a-boot\n",
                "proc/sys/kernel/osrelease": "6.12.48\n",
                "proc/sys/kernel/kexec_load_disabled": "0\n",
                "proc/sys/kernel/kexec_load_limit_panic": "-1\n",
                "proc/sys/kernel/kexec_load_limit_reboot": "-1\n",
                "sys/kernel/vmcoreinfo": "2fff000 1024\n",
                "sys/devices/system/memory/block_size_bytes": f"{BLOCK:x}\n",
                "dev/kmsg": "",
                "run/kexecwatchd/.keep": "",
                "boot/vmlinuz": bzimage(),
                "boot/initrd.img": cpio(),
            },
        )
        if self.tools:
            populate(self.root, {"usr/sbin/kexec": "the program\n"})
        for number in range(GIB // BLOCK):
            self._make_block(number, "online")
        for number in range(self.cpus):
            self._make_cpu(number)
        self._show_cpus()
        self.show_map()
        self._show_kcore()
        self.set_loaded("crash", False)
        self.set_loaded("reboot", False)

    # What it shows

    def path(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, text: str) -> None:
        self.path(name).write_text(text)

    def number(self, name: str) -> int:
        return int(self.path(f"proc/sys/kernel/{name}").read_text())

    def _loaded_file(self, image: str) -> str:
        word = {"crash": "crash_loaded", "reboot": "loaded"}[image]
        return f"sys/kernel/kexec/{word}" if self.new_paths else f"sys/kernel/kexec_{word}"

    def loaded(self, image: str) -> bool:
        return self.path(self._loaded_file(image)).read_text() == "1\n"

    def set_loaded(self, image: str, loaded: bool) -> None:
        populate(self.root, {self._loaded_file(image): f"{int(loaded)}\n"})

    def show_map(self, hidden: bool = False) -> None:
        """Write /proc/iomem; `hidden`: as it reads without CAP_SYS_ADMIN."""
        lines = []
        for r in self.ram:
            managed = RangeSet([r]) & self.driver_managed
            lines.append((r, 0, "System RAM (virtio_mem)" if managed else "System RAM"))
            if RangeSet([r]).covers(RangeSet([KERNEL_TEXT])):
                lines.append((KERNEL_TEXT, 2, "Kernel code"))
            if self.region and RangeSet([r]).covers(RangeSet([self.region])):
                lines.append((self.region, 2, "Crash kernel"))
        text = ""
        for r, indent, name in lines:
            start, end = (0, 0) if hidden else (r.start, r.end - 1)
            text += f"{' ' * indent}{start:08x}-{end:08x} : {name}\n"
        self.write("proc/iomem", text)

    def _show_kcore(self) -> None:
        region = self.region or CRASH_REGION
        header = struct.pack(
            "<16sHHIQQQIHHHHHH",
            *(b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0),
        )
        program = struct.pack(
            "<IIQQQQQQ", 1, 7, 4096, 0xFFFF880000000000, region.start, region.size, region.size, 0
        )
        path = self.path("proc/kcore")
        path.write_bytes(header + program)
        os.truncate(path, 4096 + region.size)

    def put(self, address: int, data: bytes) -> None:
        """Write into the crash region."""
        assert self.region is not None
        fd = os.open(self.path("proc/kcore"), os.O_WRONLY)
        os.pwrite(fd, data, 4096 + address - self.region.start)
        os.close(fd)

    def log(self, text: str) -> None:
        self.lines += 1
        with self.path("dev/kmsg").open("a") as log:
            log.write(f"6,{self.lines},{self.lines * 1000},-;{text}\n")

    # Memory and CPUs

    def _make_block(self, number: int, state: str) -> None:
        self.blocks[number] = state
        zone = self.zones.get(number, "Normal")
        place = f"sys/devices/system/memory/memory{number}"
        populate(self.root, {f"{place}/state": state + "\n", f"{place}/valid_zones": zone + "\n"})
        self._show_zones()

    def _show_zones(self) -> None:
        """/proc/zoneinfo, the Movable zone alone: from the first of its blocks to the last."""
        movable = [
            n for n, s in self.blocks.items() if s == "online" and self.zones.get(n) == "Movable"
        ]
        text = "Node 0, zone  Movable\n"
        pages = BLOCK // os.sysconf("SC_PAGE_SIZE")
        if movable:
            spanned = (max(movable) - min(movable) + 1) * pages
            text += f"  spanned  {spanned}\n  present  {len(movable) * pages}\n"
            text += f"  start_pfn:           {min(movable) * pages}\n"
        populate(self.root, {"proc/zoneinfo": text})

    def set_state(self, number: int, state: str) -> None:
        """online or offline, with its event, and with the kernel's own update before it."""
        self._make_block(number, state)
        self._update_own_header()
        self.uevent("memory", state, f"memory{number}")

    def add_dimm(self, first: int = DIMM, count: int = 4, zone: str = "Normal") -> None:
        """Hot-add: `add` for each block, then `online` for each where that is automatic."""
        numbers = range(first, first + count)
        self.ram |= RangeSet.of((first * BLOCK, (first + count) * BLOCK))
        self.show_map()
        if self.acpi:
            populate(self.root, {f"sys/bus/acpi/devices/PNP0C80:{first:02x}/status": "15\n"})
        for number in numbers:
            self.zones[number] = zone
            self._make_block(number, "offline")
            self.uevent("memory", "add", f"memory{number}")
        if self.auto_online:
            for number in numbers:
                self.set_state(number, "online")

    def remove_blocks(self, first: int = DIMM, count: int = 4) -> None:
        """The end of a removal: `remove` for each block; /proc/iomem follows in leave_map."""
        for number in range(first, first + count):
            del self.blocks[number]
            self._show_zones()
            shutil.rmtree(self.path(f"sys/devices/system/memory/memory{number}"))
            self.uevent("memory", "remove", f"memory{number}")

    def leave_map(self, first: int = DIMM, count: int = 4) -> None:
        """The range leaves /proc/iomem, and nobody is told."""
        self.ram -= RangeSet.of((first * BLOCK, (first + count) * BLOCK))
        self.show_map()

    def remove_dimm(self, first: int = DIMM, count: int = 4) -> None:
        """All of a removal at once."""
        for number in range(first, first + count):
            self.set_state(number, "offline")
        self.remove_blocks(first, count)
        self.leave_map(first, count)

    def _make_cpu(self, number: int) -> None:
        place = f"sys/devices/system/cpu/cpu{number}"
        address = 0x3F000000 + number * 0x1000
        populate(
            self.root,
            {f"{place}/crash_notes": f"{address:x}\n", f"{place}/crash_notes_size": "368"},
        )

    def _show_cpus(self) -> None:
        populate(self.root, {"sys/devices/system/cpu/present": f"0-{self.cpus - 1}\n"})

    def add_cpu(self) -> None:
        self._make_cpu(self.cpus)
        self.cpus += 1
        self._show_cpus()
        self._update_own_header()
        self.uevent("cpu", "add", f"cpu{self.cpus - 1}")

    # The images

    def header(self) -> bytes:
        """The elfcorehdr of the present map."""
        low = RangeSet.of((0, MIB))
        reserved = RangeSet([self.region]) if self.region else RangeSet()
        loads = {r.start: r.size for r in self.ram - low - reserved}
        return crash_header({**loads, KERNEL_TEXT.start: KERNEL_TEXT.size}, self._notes())

    def _notes(self) -> Mapping[int, int]:
        notes = {0x3F000000 + number * 0x1000: 368 for number in range(self.cpus)}
        return {**notes, 0x2FFF000: 1024}

    def _update_own_header(self) -> None:
        """crash_handle_hotplug_event(): from the resource tree, whatever is about to leave it."""
        if self.crash_hotplug and self._own_header and self.loaded("crash") and self.region:
            self.put(self.region.start, self.header())

    def load(self, kernel_fd: int, initrd_fd: int | None, cmdline: str, flags: int) -> None:
        """kexec_file_load(2), as kexecwatchd.kernel.kexec_file.load calls it."""
        image = "crash" if flags & KEXEC_FILE_ON_CRASH else "reboot"
        try:
            self._permit(image, flags)
            if image == "crash":
                self.set_loaded("crash", False)
            self.while_loading(image)
            self._load(image, kernel_fd, initrd_fd, cmdline, flags)
        except OSError as error:
            self.calls.append(Call(image, False, cmdline, error.errno or 0))
            raise
        self.calls.append(Call(image, False, cmdline, 0))

    def unload(self, flags: int) -> None:
        """kexec_file_load(2) with KEXEC_FILE_UNLOAD."""
        image = "crash" if flags & KEXEC_FILE_ON_CRASH else "reboot"
        try:
            self._permit(image, flags | KEXEC_FILE_UNLOAD)
        except OSError as error:
            self.calls.append(Call(image, True, "", error.errno or 0))
            raise
        self.set_loaded(image, False)
        self.calls.append(Call(image, True, "", 0))

    def _permit(self, image: str, flags: int) -> None:
        """What is asked before anything is touched, in the kernel's order."""
        name = "kexec_load_limit_" + ("panic" if image == "crash" else "reboot")
        limit = self.number(name)
        if self.number("kexec_load_disabled") or limit == 0:
            raise OSError(errno.EPERM, "not permitted")
        if limit > 0:
            self.write(f"proc/sys/kernel/{name}", f"{limit - 1}\n")
        if flags & KEXEC_FILE_DEBUG and not self.debug:
            raise OSError(errno.EINVAL, "unknown flag")
        if flags & KEXEC_FILE_NO_CMA and not self.cma:
            raise OSError(errno.EINVAL, "unknown flag")
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, "locked")

    def _load(
        self, image: str, kernel_fd: int, initrd_fd: int | None, cmdline: str, flags: int
    ) -> None:
        debug = bool(flags & KEXEC_FILE_DEBUG)
        error = self.errors.pop(0) if self.errors else 0
        if error:
            raise OSError(error, os.strerror(error))
        if any(fd is not None and lease.open_for_writing(fd) for fd in (kernel_fd, initrd_fd)):
            raise OSError(errno.ETXTBSY, "open for writing")
        kernel = os.pread(kernel_fd, 1 << 24, 0)
        initrd = os.pread(initrd_fd, 1 << 24, 0) if initrd_fd is not None else b""
        if not kernel or (initrd_fd is not None and not initrd):
            raise OSError(errno.EINVAL, "an empty file")
        if kernel[0x202:0x206] != b"HdrS":
            raise OSError(errno.ENOEXEC, "no bzImage")
        if image == "crash":
            self._place_crash(kernel, initrd, cmdline, debug)
        else:
            self._place_reboot(initrd, debug, no_cma=bool(flags & KEXEC_FILE_NO_CMA))
        self.set_loaded(image, True)

    def _place_crash(self, kernel: bytes, initrd: bytes, cmdline: str, debug: bool) -> None:
        if self.region is None:
            raise OSError(errno.EADDRNOTAVAIL, "no reservation")
        self.put(self.region.start, self.header())
        # boot_params with its random seed and the command line, purgatory's digests
        seed = len(self.calls).to_bytes(8, "little")
        line = f"elfcorehdr=0x{self.region.start:x} {cmdline}".encode()
        tail = seed + b"\0" + line + b"\0" + kernel[1024:1040] + initrd[-64:]
        self.put(self.region.end - 4096, tail.ljust(4096, b"\0"))
        self._own_header = True
        if debug:
            self.log(
                f"kexec: Loaded ELF headers at 0x{self.region.start:x} bufsz=0x1000 memsz=0x1000"
            )
            self._log_segments(RangeSet([Range(self.region.end - 4096, self.region.end)]), 1)

    def _place_reboot(self, initrd: bytes, debug: bool, no_cma: bool = True) -> None:
        """In CMA; or top-down in the highest System RAM, driver-managed memory left out."""
        held = self.segments if self.loaded("reboot") else RangeSet()
        placed = self._highest(self.ram - self.driver_managed, initrd)
        size = placed.size
        free = RangeSet([self.cma]) - held if self.cma and not no_cma else RangeSet()
        roomy = [r for r in free if r.size >= size]
        self.segments = RangeSet.of((roomy[0].start, roomy[0].start + size)) if roomy else placed
        if debug:
            self.log("kexec_file: kernel: 00000000 kernel_size: 0x1000")
            if roomy:
                # Named in CMA alone, where it matters: elsewhere a real one is aligned.
                start = self.segments.ranges[0].start
                self.log(f"kexec-bzImage64: Loaded 64bit kernel at 0x{start:x} bufsz=0x1 memsz=0x1")
            self._log_segments(self.segments, 0)

    def _highest(self, allowed: RangeSet, initrd: bytes) -> RangeSet:
        size = INIT_SIZE + (len(initrd) + 4095) // 4096 * 4096 + 0x8000
        holes = [r for r in allowed if r.size >= size]
        if not holes:
            raise OSError(errno.EADDRNOTAVAIL, "no hole")
        top = max(holes).end
        return RangeSet([Range(top - size, top)])

    def load_with_tools(
        self, program: int, arguments: Sequence[str], inherited: Sequence[int]
    ) -> Finished:
        """`kexec -c -l`, as kexecwatchd.loaders.kexec_tools.run starts it."""
        given = dict(a.removeprefix("--").split("=", 1) for a in arguments if "=" in a)
        kernel = self._read(arguments[-1], inherited)
        initrd = self._read(given["initrd"], inherited) if "initrd" in given else b""
        if kernel[0x202:0x206] != b"HdrS":
            return Finished(255, f"Cannot determine the file type of {arguments[-1]}\n")
        below = RangeSet.of((0, int(given["mem-max"], 16) + 1))
        try:
            segments = self._highest((self.ram - self.driver_managed) & below, initrd)
        except OSError:
            text = "Could not find a free area of memory of 0x1000 bytes...\nlocate_hole failed\n"
            return Finished(1, text)
        said = f"nr_segments = {len(segments.ranges)}\n"
        for number, r in enumerate(segments):
            said += (
                f"segment[{number}].mem   = {r.start:#x}\nsegment[{number}].memsz = {r.size:#x}\n"
            )
        error = 0
        try:
            self._permit("reboot", 0)
            self.while_loading("reboot")
            error = self.errors.pop(0) if self.errors else 0
        except OSError as refusal:
            error = refusal.errno or 0
        self.calls.append(Call("reboot", False, given["command-line"], error, tools=True))
        if error:
            return Finished(255, f"{said}kexec_load failed: {os.strerror(error)}\n{said}")
        self.segments = segments
        self.set_loaded("reboot", True)
        return Finished(0, said)

    def _read(self, name: str, inherited: Sequence[int]) -> bytes:
        fd = int(name.removeprefix("/proc/self/fd/"))
        assert fd in inherited, "the program does not get this one"
        return os.pread(fd, 1 << 24, 0)

    def _log_segments(self, segments: RangeSet, kind: int) -> None:
        self.log(f"kexec_file: nr_segments = {len(segments.ranges)}")
        for number, r in enumerate(segments):
            self.log(
                f"kexec_file: segment[{number}]: buf=0x0000000000000000 bufsz=0x{r.size:x}"
                f" mem=0x{r.start:x} memsz=0x{r.size:x}"
            )
        self.log(
            f"kexec_file: kexec_file_load: type:{kind}, start:0x3fffb000 head:0x104b28002 flags:0x8"
        )

    def load_crash_by_kexec_tools(self) -> None:
        """kexec_load(2): elfcorehdr near the region's end, and no updates by the kernel."""
        assert self.region is not None
        self.put(self.region.start, bytes(4096))
        self.put(self.region.end - 8192, self.header().ljust(4096, b"\0"))
        line = f"{CMDLINE} elfcorehdr={(self.region.end - 8192) >> 10}K".encode()
        self.put(self.region.end - 4096, line.ljust(4096, b"\0"))
        self._own_header = False
        self.set_loaded("crash", True)

    def load_reboot_by_someone(self) -> None:
        self._place_reboot(cpio(), debug=False)
        self.set_loaded("reboot", True)

    def listed(self) -> RangeSet:
        """What the crash image's header lists at the region's start."""
        assert self.region is not None
        data = self.path("proc/kcore").read_bytes()[4096 : 4096 + 65536]
        (count,) = struct.unpack_from("<H", data, 56)
        headers = struct.iter_unpack("<IIQQQQQQ", data[64 : 64 + 56 * count])
        return RangeSet(Range(h[4], h[4] + h[6]) for h in headers if h[0] == 1)

    def loads(self, image: str) -> list[Call]:
        """The successful loads of an image."""
        return [c for c in self.calls if c.image == image and not c.unload and not c.error]

    def unloads(self, image: str) -> list[Call]:
        return [c for c in self.calls if c.image == image and c.unload and not c.error]
