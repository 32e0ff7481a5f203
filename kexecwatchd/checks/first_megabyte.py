# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the first megabyte right in the dump? x86: the capture kernel uses it, too.

Sources: "x86/kdump: always reserve the low 1MiB when the crashkernel option is specified" (LKML,
October 2019; 6f599d84231f in 5.5, after which the kernel's own loader lists nothing below
1 MiB); f1d4d47c5851 (5.13), since when reserve_real_mode() in arch/x86/realmode/init.c reserves it
on every machine; kexec/arch/i386/crashdump-x86.c, which has purgatory copy it. That SME is active:
print_mem_encrypt_feature_info() in arch/x86/mm/mem_encrypt.c; the flag of /proc/cpuinfo is there
wherever firmware allows SME, before 6.0 also where the kernel did not activate it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kexecwatchd.addresses import without_addresses
from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host, Source
from kexecwatchd.checks.sources.bootlog import BOOT_LOG
from kexecwatchd.kernel import bootlog, elfcorehdr, iomem, kexec_state, pageflags
from kexecwatchd.kernel.kcore import Kcore
from kexecwatchd.model import MemoryMap
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human

_FIRST = RangeSet.of((0, 1 << 20))
_ACTIVE = re.compile(r"active:.*\bSME\b|\(SME\) active")


@dataclass(frozen=True, slots=True)
class FirstMegabyte:
    """Sizes are bytes.

    `reserved`: the running kernel keeps all of it from use; None = it does not show that. `loaded`:
    there is a crash image. `listed`: what of the megabyte its elfcorehdr lists; `copied`: what of
    that purgatory copies at the crash. `problem`: why elfcorehdr could not be read, "" = it could.
    """

    reserved: bool | None
    loaded: bool
    listed: int = 0
    copied: int = 0
    problem: str = ""


def _look(host: Host) -> FirstMegabyte:
    memory = iomem.read_memory_map(host.root)
    try:
        reserved = pageflags.all_reserved(host.root, memory.system_ram & _FIRST)
    except FileNotFoundError:
        reserved = None
    if not kexec_state.read(host.root).crash_loaded:
        return FirstMegabyte(reserved, loaded=False)
    try:
        listed, copied = _listed(host, memory)
    except (OSError, ValueError) as error:
        problem = without_addresses(str(error))
        return FirstMegabyte(reserved, loaded=True, problem=problem)
    return FirstMegabyte(reserved, loaded=True, listed=listed, copied=copied)


def _listed(host: Host, memory: MemoryMap) -> tuple[int, int]:
    with Kcore(host.root) as core:
        header = elfcorehdr.find(core, memory.crash_regions, None, host.machine)
    return (header.loads & _FIRST).size, (header.copied & _FIRST).size


FIRST_MEGABYTE = Source("first-megabyte", FirstMegabyte, _look)

_WHY = (
    "A capture kernel needs the first megabyte for itself: CPUs start there. Whatever the crashed"
    " kernel had in it must have been copied before, or must not matter."
)
_RESERVED = f"{_WHY} This kernel uses none of it, so a dump loses nothing there."
_GARBAGE = (
    "The memory is encrypted (SME), and purgatory, which copies it at the crash, runs without that:"
    " what it copies is garbage."
)
_NEWER = (
    "Boot a kernel of 5.13 or newer, or of 5.5 or newer with crashkernel= on its command line: they"
    " keep out of the first megabyte."
)


def look(host: Host) -> Finding:
    if host.machine not in ("x86_64", "i686"):
        return Finding(
            Answer.NOT_APPLICABLE, f"only x86 capture kernels need it, not {host.machine}'s"
        )
    seen = host.ask(FIRST_MEGABYTE)
    log = host.ask(BOOT_LOG)
    sme = _sme(host, log)
    reserved = seen.reserved
    if reserved is None and any("low 1MiB" in line for line in log):
        reserved = True
    facts: dict[str, Fact] = {
        "reserved": _word(reserved),
        "sme": _word(sme),
        "listed_bytes": seen.listed,
        "copied_bytes": seen.copied,
    }
    if reserved:
        return Finding(
            Answer.OK, "yes: this kernel keeps out of it", _explain(seen, sme), facts=facts
        )
    if not seen.loaded:
        raise CannotTell("no crash image is loaded, and this kernel does not keep out of it")
    if seen.problem:
        raise CannotTell(f"what the crash image lists cannot be read: {seen.problem}")
    if reserved is None and not seen.copied:
        raise CannotTell("this kernel does not show whether it keeps out of it (/proc/kpageflags)")
    return _used(seen, sme, facts)


def _explain(seen: FirstMegabyte, sme: bool | None) -> str:
    if sme and seen.copied:
        return (
            f"{_RESERVED} The crash image has purgatory copy {human(seen.copied)} of it. {_GARBAGE}"
            " Here that is memory without anything in it."
        )
    return _RESERVED


def _used(seen: FirstMegabyte, sme: bool | None, facts: dict[str, Fact]) -> Finding:
    """The kernel has something there, or may have."""
    if not seen.copied:
        how = f"lists {human(seen.listed)} of it" if seen.listed else "does not list it"
        return Finding(
            Answer.WARNING,
            f"no: this kernel uses it, and the crash image {how} without a copy of it",
            f"{_WHY} Here it is not copied: the dump lacks it, or has what the capture kernel wrote"
            " there.",
            f"{_NEWER} Or load the crash image with kexec-tools (kexec -c -p), which copy it.",
            facts,
        )
    if sme is False:
        return Finding(
            Answer.OK,
            f"yes: purgatory copies {human(seen.copied)} of it at the crash",
            _WHY,
            facts=facts,
        )
    copied = f"this kernel uses it, and purgatory copies {human(seen.copied)} of it at the crash"
    remedy = f"{_NEWER} Or boot this one with mem_encrypt=off."
    if sme:
        return Finding(
            Answer.PROBLEM,
            f"no: garbage in the dump: {copied}, without SME, which is active",
            f"{_WHY} {_GARBAGE} Seen in such dumps: invalid freepointers of slabs.",
            remedy,
            facts,
        )
    return Finding(
        Answer.WARNING,
        f"perhaps not: {copied}; whether SME is active is not known",
        f"{_WHY} With SME it would be garbage. The CPU has SME, and this kernel's flag for it does"
        " not tell whether it is active; what would tell is lost from the boot log.",
        remedy,
        facts,
    )


def _sme(host: Host, log: tuple[str, ...]) -> bool | None:
    """Whether AMD's memory encryption is active; None = not known."""
    if any(_ACTIVE.search(line) for line in log):
        return True
    if not kexec_state.cpu_flag("sme", host.root) or bootlog.whole(log):
        return False
    return None


def _word(known: bool | None) -> str:
    return "not known" if known is None else "yes" if known else "no"


CHECK = Check(
    name="first-megabyte",
    question="Is the first megabyte right in the dump?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,  # it may have to search the crash region for elfcorehdr
    files=("proc/cpuinfo",),
    asks=(FIRST_MEGABYTE, BOOT_LOG),
)
