# SPDX-License-Identifier: GPL-2.0-or-later
"""Will the next boot reserve the crash kernel's memory again?

"[RFD] kdump, kaslr: how to fix the failure of reservation of crashkernel low memory due to physical
kaslr" (d.hatayama, December 2019): KASLR puts the kernel anywhere in memory, and now and then right
into the only room below 4 GiB that the crash kernel could have had. The kernel was not changed
since. The rules are those of kaslr.py and crashplace.py; this boot is held against them first:
where they do not explain it, nothing is said of the next.

They are exact where the kernel unpacks itself, which is how it starts on a BIOS. The EFI stub (6.6
and later) chooses among what firmware calls free at that moment (efi_random_alloc() in
drivers/firmware/efi/libstub/randomalloc.c), and the kernel spares firmware's boot services until
later (efi_reserve_boot_services()). No file shows either, so there it is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources.bootloader import to_set
from kexecwatchd.checks.sources.bootlog import BOOT_LOG
from kexecwatchd.checks.sources.runningkernel import RUNNING_KERNEL
from kexecwatchd.crashplace import LOW_MAX
from kexecwatchd.kernel import (
    boot_params,
    bootlog,
    crashkernel,
    iomem,
    kconfig,
    kexec_state,
    meminfo,
    srat,
)
from kexecwatchd.kernel.boot_params import BootParams
from kexecwatchd.kernel.crashkernel import BadCrashkernel, Request
from kexecwatchd.kernel.memparse import words
from kexecwatchd.odds import MIB, Boot, Model, Odds, largest_low, largest_size, model, remedy
from kexecwatchd.ranges import Range, RangeSet
from kexecwatchd.sizes import human

_WHY = (
    "At each boot, KASLR puts the kernel at another place in memory, and only then is the crash"
    " kernel's memory reserved: in one piece, and what devices of 32 bits need of it below 4 GiB."
    " When the kernel lies in the middle of the only room for that, nothing is reserved, and there"
    " are no crash dumps until the machine boots again."
)
_NOT_UNDERSTOOD = (
    "The kernel reads crashkernel= before it reserves anything, and reserves nothing when it cannot"
    " make sense of it."
)
_SAME = (
    "KASLR is switched off (nokaslr), or not built into this kernel, so the kernel lies at the same"
    " place at each boot, and the same memory is free for a crash kernel."
)


@dataclass(frozen=True, slots=True)
class NextBoot:
    """What this boot shows of the next. `kernel`: the kernel's size in bytes. `estimate`: why what
    is counted is no more than that; "" = it is exact."""

    model: Model
    request: Request
    reserved: RangeSet
    release: str
    kernel: int
    estimate: str

    @property
    def odds(self) -> Odds:
        return self.model.odds(self.request)


def look(host: Host) -> Finding:
    if not crashkernel.asked(host.cmdline):
        return Finding(Answer.NOT_APPLICABLE, "no crashkernel= asks for any")
    if host.machine != "x86_64":
        raise CannotTell(f"only the rules of x86-64 are known here, not those of {host.machine}")
    params = boot_params.read(host.root)
    if params is None:
        raise CannotTell("what the boot loader passed on was not collected (boot_params)")
    reserved = iomem.read_memory_map(host.root).crash_regions
    memory = params.memory(host.cmdline)
    try:
        request = crashkernel.parse(host.cmdline, memory.size)
    except BadCrashkernel as error:
        if reserved:
            raise CannotTell(f"memory is reserved, although {error}") from None
        size = to_set("a size, such as crashkernel=512M,")
        return Finding(Answer.PROBLEM, f"no: {error}", _NOT_UNDERSTOOD, size)
    if request is None:
        return Finding(Answer.NOT_APPLICABLE, "crashkernel= asks for 0 bytes here")
    if params.kexec:
        raise CannotTell("kexec started this kernel; how the boot loader starts one is not seen")
    if not params.randomised:
        return _without_kaslr(request, bool(reserved))
    return _with_kaslr(host, params, request, reserved)


def _without_kaslr(request: Request, reserved: bool) -> Finding:
    if reserved:
        return Finding(Answer.OK, "yes: without KASLR each boot is like this one", _SAME)
    return Finding(
        Answer.PROBLEM,
        "no: nothing is reserved, and without KASLR each boot is like this one",
        _SAME,
        to_set(f"a smaller crashkernel=, or {_with_little_below(request)},"),
    )


def _with_kaslr(host: Host, params: BootParams, request: Request, reserved: RangeSet) -> Finding:
    seen = next_boot(host, params, request, reserved)
    kernel = iomem.read_kernel(host.root)
    if kernel is None:
        raise CannotTell("/proc/iomem does not say where the kernel lies")
    if seen.estimate or seen.model.explains(request, kernel.start, reserved):
        return _counted(seen)
    return _unexplained(bool(reserved))


def next_boot(host: Host, params: BootParams, request: Request, reserved: RangeSet) -> NextBoot:
    """Raises CannotTell, OSError or ValueError."""
    running = host.ask(RUNNING_KERNEL)
    boot = Boot(
        params,
        host.cmdline,
        running.size,
        running.file,
        immovable=_immovable(host),
        la57=kexec_state.la57(host.root),
        cma=meminfo.amounts(host.root).get("CmaTotal", 0),
    )
    estimate = _estimate(host, params, request)
    return NextBoot(model(boot), request, reserved, host.release, running.size.most, estimate)


def _immovable(host: Host) -> tuple[Range, ...]:
    """What limits KASLR where memory can be hot-removed (CONFIG_MEMORY_HOTREMOVE)."""
    if "acpi=off" in host.cmdline.split() or kconfig.is_set(host.root, "MEMORY_HOTREMOVE") is False:
        return ()
    return srat.read_immovable(host.root)


def _estimate(host: Host, params: BootParams, request: Request) -> str:
    names = {name for name, _ in words(host.cmdline)}
    if params.efi:
        return "EFI firmware keeps memory for itself that no file shows"
    if params.unplaced:
        return "the boot loader passed on records whose places the kernel does not show"
    for name in ("movable_node", "hugetlb_cma"):
        if name in names:
            return f"how {name} changes where memory is taken from is not known here"
    if request.low is None and not request.base:
        try:
            log = host.ask(BOOT_LOG)
        except (CannotTell, OSError):
            return "whether memory is encrypted, for which more is reserved, is not known"
        if any("Memory Encryption Features active" in line for line in log):
            return "with memory encryption the kernel reserves more below 4 GiB"
        if not bootlog.whole(log):
            return "the boot log has lost whether memory is encrypted, for which more is reserved"
    return ""


def _unexplained(reserved: bool) -> Finding:
    if reserved:
        raise CannotTell("the known rules do not explain this boot, so they tell nothing of a next")
    return Finding(
        Answer.PROBLEM,
        "this boot reserved nothing, for a reason that is not KASLR",
        _WHY + " By the rules of KASLR and of the reservation, this boot should have got it.",
        "See what the check of the reservation says: kexecwatchctl check reservation",
    )


def _counted(seen: NextBoot) -> Finding:
    odds = seen.odds
    facts: dict[str, Fact] = {
        "kernel": seen.release,
        "places": odds.places,
        "failing_at_least": odds.least,
        "failing_at_most": odds.most,
        "exact": not seen.estimate and odds.least == odds.most,
    }
    about = f" This is an estimate: {seen.estimate}." if seen.estimate else ""
    if not odds.most:
        return _none_found(seen, facts)
    if odds.most == odds.places and seen.estimate and seen.reserved:
        raise CannotTell(f"{seen.estimate}, and what is known does not explain this boot")
    usual = 2 * odds.most > odds.places
    answer = Answer.PROBLEM if usual or not seen.reserved else Answer.WARNING
    return Finding(
        answer,
        _summary(seen, odds),
        f"{_WHY} Of the {odds.places} places that KASLR has for {seen.release} on this machine,"
        f" {_count(odds)} leave no room for what crashkernel= asks for.{about} {_what_fits(seen)}",
        _remedy(seen),
        facts,
    )


def _none_found(seen: NextBoot, facts: Mapping[str, Fact]) -> Finding:
    if not seen.estimate:
        places = f"the {seen.odds.places} places that KASLR has for {seen.release}"
        return Finding(Answer.OK, f"yes, from each of {places}", _WHY, facts=facts)
    if seen.reserved:
        return Finding(
            Answer.CANNOT_TELL,
            f"{seen.estimate}; but at most about {_ratio(_at_most(seen))} fail",
            f"{_WHY} As long as the kernel lies elsewhere than what this boot reserved, that"
            " memory can be reserved again.",
            facts=facts,
        )
    return Finding(
        Answer.PROBLEM,
        f"this boot reserved nothing, and how often that happens is not known: {seen.estimate}",
        _WHY,
        to_set(_with_little_below(seen.request)),
        facts,
    )


def _summary(seen: NextBoot, odds: Odds) -> str:
    if odds.most == odds.places:
        return "no: there is no room, wherever KASLR puts the kernel"
    start = "" if seen.reserved else "this boot reserved nothing; "
    about = "about " if seen.estimate or odds.least < odds.most else ""
    return (
        f"{start}{about}{_ratio(odds)} will reserve nothing, depending on where KASLR puts the"
        " kernel"
    )


def _ratio(odds: Odds) -> str:
    """1 in 230 boots; where it is frequent 44 % of boots, and never all where some do not."""
    if odds.most * 10 <= odds.places:
        return f"1 in {odds.places / max(odds.most, 1):.0f} boots"
    return f"{min(100 * odds.most // odds.places, 99)} % of boots"


def _with_little_below(request: Request) -> str:
    return f"crashkernel={-(-request.size // MIB)}M,high crashkernel=128M,low"


def _count(odds: Odds) -> str:
    return f"{odds.most}" if odds.least == odds.most else f"{odds.least} to {odds.most}"


def _at_most(seen: NextBoot) -> Odds:
    """As many places as are in the way of what this boot reserved."""
    near = RangeSet.of(*((max(r.start - seen.kernel + 1, 0), r.end) for r in seen.reserved))
    count = seen.model.slots.within(near)
    return Odds(seen.model.slots.count, 0, count)


def _what_fits(seen: NextBoot) -> str:
    size = largest_size(seen.model, seen.request.size)
    low = largest_low(seen.model, seen.request.size, LOW_MAX)
    sizes = [f"up to {human(size)} in all"] if size else []
    sizes += [f"up to {human(low)} below 4 GiB beside the rest above"] if low else []
    return f"What fits from all of them: {' or '.join(sizes) or 'nothing'}."


def _remedy(seen: NextBoot) -> str:
    better = remedy(seen.model, seen.request)
    if better:
        return to_set(_setting(better))
    size = largest_size(seen.model, seen.request.size)
    if size:
        enough = " Whether that is enough: kexecwatchctl check capture-memory."
        return to_set(f"crashkernel={size // MIB}M") + enough
    if seen.model.without_kaslr(seen.request):
        return (
            "Boot with nokaslr on the kernel's command line: where the kernel lies then, there is"
            " room. It takes away a protection against attacks on the kernel."
        )
    return "This machine has no room for so much. " + to_set("a smaller crashkernel=")


def _setting(request: Request) -> str:
    sizes = {"high": request.size, "low": request.low or 0, "cma": request.cma}
    return " ".join(
        f"crashkernel={-(-size // MIB)}M,{kind}" for kind, size in sizes.items() if size
    )


CHECK = Check(
    name="next-boot",
    question="Will the next boot reserve it again?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,
    files=(
        "proc/cmdline",
        "proc/cpuinfo",
        "proc/meminfo",
        "proc/sys/kernel/osrelease",
        "proc/config.gz",
        "boot/config-*",
        "usr/lib/modules/*/config",
    ),
    addresses=(
        "proc/iomem",
        "sys/kernel/boot_params/data",
        "sys/kernel/boot_params/setup_data/*/type",
        "sys/kernel/boot_params/setup_data/*/data",
        "sys/firmware/acpi/tables/SRAT",
    ),
    asks=(RUNNING_KERNEL, BOOT_LOG),
)
