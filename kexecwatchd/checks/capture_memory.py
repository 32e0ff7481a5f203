# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the capture kernel have enough memory?

What it will need (capturememory.py, with the source of each part) against what is reserved. The
thread: "Add writing support to vmcore for reusing oldmem", LKML, September 2020, about capture
kernels that run out of memory.
"""

from __future__ import annotations

from pathlib import Path

from kexecwatchd import capturememory
from kexecwatchd.capturememory import Capture, Estimate
from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.checks.sources.bootfiles import KERNELS, BootFiles
from kexecwatchd.checks.sources.bootloader import to_set
from kexecwatchd.checks.sources.initrdgroups import INITRD, capture_files
from kexecwatchd.checks.sources.reserved import RESERVATION, Reservation
from kexecwatchd.kernel.bootimage import BootImage
from kexecwatchd.kernel.cpus import parse_cpu_list
from kexecwatchd.kernel.initrd_contents import Contents
from kexecwatchd.sizes import human

_POSSIBLE = Path("sys/devices/system/cpu/possible")
_MIB = 1 << 20
# swiotlb_init_remap() in kernel/dma/swiotlb.c; where the kernel lies is random (KASLR). Seen in the
# lab: 6.12 dies with 127 MiB, with 135 MiB, and comes up with 130 MiB.
_LUCK = (
    "The buffers for DMA ask for {} in one piece, and take half of that, or less, where there is no"
    " such piece. So a capture kernel that has too little may still start: when its own place,"
    " which is random, happens to leave no piece that large."
)


def look(host: Host) -> Finding:
    files = capture_files(host)
    if files is None:
        return Finding(
            Answer.NOT_APPLICABLE,
            f"no kernel and initrd for a crash image are known of here{host.config.crash.none}",
        )
    if host.machine != "x86_64":
        raise CannotTell(f"what a capture kernel needs is known of x86-64, not of {host.machine}")
    reservation = host.ask(RESERVATION)
    if not reservation.total:
        return Finding(Answer.NOT_APPLICABLE, "no memory is reserved for a capture kernel")
    kernel = host.ask(KERNELS).get(files.kernel, "it was not looked at")
    if isinstance(kernel, str):
        raise CannotTell(f"{files.kernel}: {kernel}")
    capture = _capture(host, files, kernel, reservation)
    return _judged(host, capturememory.estimate(capture), capture, reservation)


def _capture(host: Host, files: BootFiles, kernel: BootImage, reservation: Reservation) -> Capture:
    contents: Contents | None = None
    if files.initrd is not None:
        told = host.ask(INITRD)
        if isinstance(told, str):
            raise CannotTell(told)
        contents = told
    words = dict(word.partition("=")[::2] for word in files.cmdline.split())
    cpus = len(parse_cpu_list((host.root / _POSSIBLE).read_text(encoding="ascii")))
    possible = _number(words, "nr_cpus", cpus)
    same = kernel.release == host.release and reservation.image
    return Capture(
        init_size=kernel.memory_size,
        image=reservation.image if same else kernel.memory_size,
        packed=contents.packed if contents else 0,
        pages=contents.pages if contents else 0,
        files=contents.files if contents else 0,
        buffers=contents.buffers if contents else 0,
        possible=possible,
        online=_number(words, "maxcpus", possible),
        bounce=_bounce(words, reservation),
        tmpfs="root" not in words or "tmpfs" in words.get("rootfstype", ""),
    )


def _number(words: dict[str, str], name: str, most: int) -> int:
    """nr_cpus= and maxcpus=; 0 and what is no number leave it at the most."""
    value = words.get(name, "")
    return min(int(value), most) if value.isdecimal() and int(value) else most


def _bounce(words: dict[str, str], reservation: Reservation) -> int:
    """pci_swiotlb_detect() in arch/x86/kernel/pci-dma.c: where memory above 4 GiB is there or could
    come. Of that a capture kernel knows by its own region and by ACPI's table of nodes."""
    first, *rest = words.get("swiotlb", "").split(",")
    if first == "noforce" or "noforce" in rest or words.get("iommu") == "off":
        return 0
    if not reservation.srat and not reservation.high:
        return 0
    return int(first) * capturememory.SLOT if first.isdecimal() else capturememory.BOUNCE


def _judged(host: Host, estimate: Estimate, capture: Capture, reservation: Reservation) -> Finding:
    facts: dict[str, Fact] = {
        "reserved": reservation.total,
        "needed": estimate.needed,
        "needed_to_load": estimate.loaded,
        "comfortable": estimate.comfortable,
        "parts": [[part.name, part.size] for part in estimate.parts],
        "reserve": [[part.name, part.size] for part in estimate.reserve],
    }
    needed, reserved = estimate.needed, reservation.total
    ask = (
        f"{to_set(_setting(host, estimate, reservation))} Whether it always fits: kexecwatchctl"
        f" check next-boot. {_left_out(capture)}"
    )
    if estimate.loaded > reservation.main:
        return Finding(
            Answer.PROBLEM,
            f"no: {_whole(estimate.loaded)} in one piece are needed to load it, and"
            f" {human(reservation.main)} are reserved for that",
            _explanation(estimate),
            ask,
            facts,
        )
    if needed - capture.bounce > reserved:
        return Finding(
            Answer.PROBLEM,
            f"no: about {_whole(needed)} are needed to start it, {human(reserved)} are reserved",
            _explanation(estimate),
            ask,
            facts,
        )
    if needed > reserved:
        return Finding(
            Answer.WARNING,
            f"by luck only: about {_whole(needed)} are needed to start it, {human(reserved)} are"
            " reserved",
            f"{_LUCK.format(human(capture.bounce))} {_explanation(estimate)}",
            ask,
            facts,
        )
    if estimate.comfortable > reserved:
        return Finding(
            Answer.WARNING,
            f"it is tight: about {_whole(needed)} to start it, which leaves little of the"
            f" {human(reserved)} reserved for drivers and the dump",
            _explanation(estimate),
            ask,
            facts,
        )
    return Finding(
        Answer.OK,
        f"yes: about {_whole(needed)} to start it, of {human(reserved)} reserved",
        _explanation(estimate),
        facts=facts,
    )


def _whole(size: int) -> str:
    """An estimate is no more exact than that."""
    return f"{-(-size // _MIB)} MiB"


def _explanation(estimate: Estimate) -> str:
    parts = "; ".join(f"{part.name} {human(part.size)}" for part in estimate.parts)
    reserve = ", ".join(f"{part.name} {human(part.size)}" for part in estimate.reserve)
    return (
        "A capture kernel has only the memory that was reserved. When that does not do, it dies"
        ' with "System is deadlocked on memory", or loses files of its initrd, and there is no'
        f" dump. What it takes until its user space runs, largest first: {parts}. What comes then"
        f" cannot be known beforehand; set aside for it: {reserve}."
    )


def _setting(host: Host, estimate: Estimate, reservation: Reservation) -> str:
    """crashkernel= with room for all of it, in the form that is in use."""
    if not reservation.high:
        return f"crashkernel={capturememory.rounded(estimate.comfortable) // _MIB}M"
    size = capturememory.rounded(max(estimate.comfortable - reservation.low, estimate.loaded))
    high = ",high" if ",high" in host.cmdline else ""
    low = f" crashkernel={reservation.low // _MIB}M,low" if ",low" in host.cmdline else ""
    return f"crashkernel={size // _MIB}M{high}{low}"


def _left_out(capture: Capture) -> str:
    words = []
    if capture.possible > 1:
        words.append("start it with nr_cpus=1")
    if capture.tmpfs and capture.pages > 32 * _MIB:
        words.append("have a root= on its command line, so that its RAM file system has no limit")
    words.append("make its initrd smaller (kexecwatchctl check initrd says what is in it)")
    return f"To need less: {'; '.join(words)}."


CHECK = Check(
    name="capture-memory",
    question="Does the capture kernel have enough memory?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,
    files=(
        *bootfiles.FILES,
        str(_POSSIBLE),
        "proc/cmdline",
        "proc/sys/kernel/arch",
        "proc/sys/kernel/osrelease",
    ),
    asks=(KERNELS, INITRD, RESERVATION),
)
