# SPDX-License-Identifier: GPL-2.0-or-later
"""Is memory reserved for a crash kernel?

/proc/iomem has the parts ("Crash kernel"), the command line what was asked for, and the kernel's
boot messages why it was not given. Sources: reserve_crashkernel_generic() and parse_crashkernel()
in kernel/crash_reserve.c (6.9 and later; kernel/crash_core.c from 6.7), before that
reserve_crashkernel() in arch/x86/kernel/setup.c, arch/arm64/mm/init.c and arch/riscv/mm/init.c;
Documentation/admin-guide/kdump/kdump.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CONFIG_FILES, CannotTell, Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.checks.sources.bootloader import to_set
from kexecwatchd.checks.sources.bootlog import BOOT_LOG
from kexecwatchd.crashplace import LOW_MAX
from kexecwatchd.kernel import (
    boot_params,
    bootlog,
    crashkernel,
    iomem,
    kexec_state,
)
from kexecwatchd.kernel.crashkernel import BadCrashkernel, Request
from kexecwatchd.kernel.firmware_map import BadFirmwareMap
from kexecwatchd.kernel.memparse import words
from kexecwatchd.model import ImageName, MemoryMap, Mode
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human

_WHAT = (
    "A crash kernel starts in memory that the running kernel has kept off since its boot. It is set"
    " aside by crashkernel= on the command line, early in the boot and never later."
)
_COUNTS = " kexecwatchctl check next-boot counts what fits (x86-64)."
_LESS = to_set("a smaller crashkernel=, or SIZE,high with 128M,low beside it,") + _COUNTS
_FIND = (
    "Find what writes there (grep -rs kexec_crash_size /etc /usr/lib/systemd /usr/local), take that"
    " out, and boot again."
)
_SPELL = "Write it as one of crashkernel=512M, crashkernel=512M,high or crashkernel=2G-:512M."


@dataclass(frozen=True, slots=True)
class _Reason:
    """A message of the kernel (`pattern`), what it means, and what to do."""

    pattern: str
    means: str
    remedy: str


# In the order in which they count: the part that failed, before what comes of it.
_REASONS = (
    _Reason(
        # x86 before 6.7; arm64, and x86 since.
        r"Cannot reserve \d+MB crashkernel low memory|cannot allocate crashkernel low memory",
        "There was room above 4 GiB, but not for the part below that goes with it, and without that"
        " part the kernel gives the other one back. Whether there is room can depend on where KASLR"
        " puts the kernel, and change from boot to boot.",
        to_set("a smaller part below 4 GiB, SIZE,high with 128M,low beside it,") + _COUNTS,
    ),
    _Reason(
        # x86 before 6.7; riscv before 6.7; arm64, and all since.
        r"crashkernel reservation failed - No suitable area|crashkernel: couldn't allocate"
        r"|cannot allocate crashkernel",
        "Nowhere was there so much memory in one piece.",
        _LESS,
    ),
    _Reason(
        # arm64 before 5.15 has its own words.
        r"crashkernel reservation failed - memory is in use"
        r"|cannot reserve crashkernel: (?:region|base)",
        "At the address behind the @ the memory was not free, or there is none.",
        "Leave the @ and the address out: the kernel finds a place by itself.",
    ),
    _Reason(
        r"cra(?:sh|hs)kernel: unrecognized char: ,",
        "This kernel does not know what stands behind the comma; crashkernel=SIZE,cma came with"
        " 6.17, and an older kernel then reserves nothing at all.",
        _SPELL,
    ),
    _Reason(
        r"cra(?:sh|hs)kernel: (?:[mM]emory value expected|unrecognized char|invalid size"
        r"|end <= start|'[-:]' expected)",
        "The kernel could not read crashkernel=, and then reserves nothing.",
        _SPELL,
    ),
    _Reason(
        r"Ignoring crashkernel for a Xen PV domain|crashkernel: ignoring reservation request",
        "This kernel cannot have a crash kernel: it runs as a Xen PV guest, or as a crash kernel.",
        "Take the dump from outside the guest.",
    ),
)


# What it says when it was given: x86 and riscv before 6.7; all since.
_GIVEN = re.compile(r"Reserving \d+MB of memory at|crashkernel: reserved|crashkernel reserved:")


def look(host: Host) -> Finding:
    cmdline = host.cmdline
    if any(name == "elfcorehdr" for name, _ in words(cmdline)):
        return Finding(Answer.NOT_APPLICABLE, "this is a crash kernel itself")
    if kexec_state.read(host.root).crash_loaded is None:
        return Finding(Answer.NOT_APPLICABLE, "this kernel cannot hold a crash image")
    memory = iomem.read_memory_map(host.root)
    regions = memory.crash_regions
    request, bad = _request(host, memory)
    if regions:
        return _reserved(host, regions, request)
    if not crashkernel.asked(cmdline):
        return _not_asked(host)
    if request is None and not bad:
        return Finding(Answer.NOT_APPLICABLE, "no: crashkernel= asks for 0 bytes on this machine")
    return _refused(host, bad)


def _request(host: Host, memory: MemoryMap) -> tuple[Request | None, str]:
    """What is asked for, and why it cannot be granted; neither where that depends on how much
    memory there was and nothing shows it. Raises BadFirmwareMap where nothing is reserved either.
    """
    try:
        return crashkernel.parse(host.cmdline, _boot_memory(host, memory)), ""
    except BadCrashkernel as error:
        return None, str(error)
    except BadFirmwareMap:
        if not memory.crash_regions:
            raise
        return None, ""


def _boot_memory(host: Host, memory: MemoryMap) -> int:
    """Bytes that there were when crashkernel= was read: what was added since does not count in its
    ranges. Only x86 shows what firmware described."""
    params = boot_params.read(host.root)
    if params is None:
        return (memory.system_ram - memory.driver_managed).size
    return params.memory(host.cmdline).size


def _reserved(host: Host, regions: RangeSet, request: Request | None) -> Finding:
    low = sum(r.size for r in regions if r.start < LOW_MAX)
    high = regions.size - low
    cma = kexec_state.read(host.root).crash_cma.size
    facts: dict[str, Fact] = {"below_4_gib": low, "above_4_gib": high, "cma": cma}
    parts = [f"{human(high)} above 4 GiB"] if high else []
    parts += [f"{human(low)} below" if high else human(low)] if low else []
    parts += [f"{human(cma)} of CMA"] if cma else []
    told = ", ".join(parts)
    main = high or low
    if request and main < request.size:
        return Finding(
            Answer.WARNING,
            f"less than asked for: {told}, of {human(request.size)}",
            f"{_WHAT} What is not needed of it can be given back while the machine runs, by writing"
            " to /sys/kernel/kexec_crash_size (/sys/kernel/kexec/crash_size), and it cannot be had"
            " back.",
            _FIND,
            facts,
        )
    if high and not low and host.machine == "x86_64":
        return Finding(
            Answer.WARNING,
            f"only above 4 GiB: {told}",
            f"{_WHAT} Devices of 32 bits reach memory below 4 GiB only; a crash kernel that needs"
            " one of them to write the dump, or its buffers for them (swiotlb), fails without.",
            "Boot with a part below 4 GiB: leave out crashkernel=0,low, and any @ADDRESS.",
            facts,
        )
    if request and request.cma and not cma and _says(host, "CMA reservation failed"):
        return Finding(
            Answer.WARNING,
            f"yes, {told}, but not the CMA that was asked for",
            f"{_WHAT} Of crashkernel=SIZE,cma the crash kernel gets what was found free in boot.",
            "Ask for less CMA.",
            facts,
        )
    return Finding(Answer.OK, f"yes: {told}", _WHAT, facts=facts)


def _not_asked(host: Host) -> Finding:
    if host.config.image(ImageName.CRASH).mode is Mode.OFF:
        return Finding(Answer.NOT_APPLICABLE, "no, and kexecwatchd.toml wants no crash image")
    return Finding(
        Answer.PROBLEM,
        "no: there is no crashkernel= on the command line",
        _WHAT,
        "Add crashkernel=512M to the kernel's command line in the boot loader's configuration (on"
        " Debian: /etc/default/grub, then update-grub), and boot again.",
    )


def _refused(host: Host, bad: str) -> Finding:
    asked = "crashkernel= is given, but nothing is reserved"
    try:
        log = host.ask(BOOT_LOG)
    except (CannotTell, OSError) as error:
        log, why = (), f"the boot messages cannot be read ({error})"
    else:
        why = "" if bootlog.whole(log) else "the log no longer has the beginning of this boot"
    for reason in _REASONS:
        for line in log:
            if re.search(reason.pattern, line):
                means = f"{_WHAT} {reason.means}"
                return Finding(Answer.PROBLEM, f"no: {line}", means, reason.remedy)
    if any(_GIVEN.search(line) for line in log):
        return Finding(
            Answer.PROBLEM,
            "no longer: it was reserved at boot, and given back since",
            f"{_WHAT} Writing 0 to /sys/kernel/kexec_crash_size (/sys/kernel/kexec/crash_size)"
            " gives it back; it cannot be had back.",
            _FIND,
        )
    if bad:
        return Finding(Answer.PROBLEM, f"no: {bad}", _WHAT, _SPELL)
    return Finding(
        Answer.PROBLEM,
        f"no: {asked}" + (f", and {why}" if why else ", and the kernel does not say why"),
        _WHAT,
        f"{_LESS} What the kernel says of it: journalctl -kb | grep -i crashkernel",
    )


def _says(host: Host, message: str) -> bool:
    try:
        return any(message in line for line in host.ask(BOOT_LOG))
    except (CannotTell, OSError):
        return False


CHECK = Check(
    name="reservation",
    question="Is memory reserved for a crash kernel?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=(
        "proc/cmdline",
        *bootfiles.LOADED,
        *CONFIG_FILES,
    ),
    addresses=(
        "proc/iomem",
        "sys/kernel/kexec/crash_cma_ranges",
        "sys/kernel/boot_params/data",
        "sys/kernel/boot_params/setup_data/*/type",
        "sys/kernel/boot_params/setup_data/*/data",
    ),
    asks=(BOOT_LOG,),
)
