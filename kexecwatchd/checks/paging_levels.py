# SPDX-License-Identifier: GPL-2.0-or-later
"""Can the configured kernels be entered from this one? 4-level and 5-level paging of x86_64.

Sources: bzImage64_probe() in arch/x86/kernel/kexec-bzimage64.c, which asks for XLF_5LEVEL and for
nothing else; arch/x86/boot/compressed/pgtable_64.c, which switches to 4-level paging where a kernel
was built or told to; kexec-tools' bzImage64_probe(), which asks for neither; "Add restrictions for
kexec/kdump jumping between 5-level and 4-level kernel" (LKML, April 2019), f2d08c5d3bcf (5.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host, Source
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.checks.sources.bootfiles import KERNELS, BootFiles
from kexecwatchd.kernel import iomem, kexec_state
from kexecwatchd.kernel.bootimage import FOUR_LEVEL_END, BootImage
from kexecwatchd.model import ImageName
from kexecwatchd.ranges import RangeSet
from kexecwatchd.sizes import human


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """What of the memory lies above the 64 TiB that 4-level paging reaches, in bytes."""

    crash_region: int
    ram: int


def _look(host: Host) -> OutOfReach:
    memory = iomem.read_memory_map(host.root)
    reach = RangeSet.of((0, FOUR_LEVEL_END))
    return OutOfReach((memory.crash_regions - reach).size, (memory.system_ram - reach).size)


OUT_OF_REACH = Source("out-of-4-level-reach", OutOfReach, _look)

_WHAT_IT_IS = (
    "This kernel runs with 5-level paging. A kernel says whether it can be entered from there"
    " (XLF_5LEVEL; 5.3 and later do). One that was built without CONFIG_X86_5LEVEL, or that has"
    " no5lvl on its command line, goes back to 4-level paging when it starts, and must lie in the"
    f" first {human(FOUR_LEVEL_END)} for that."
)
_REFUSED = (
    f"{_WHAT_IT_IS} kexec_file_load refuses a kernel without XLF_5LEVEL, but has dropped the crash"
    " image by then that was loaded before: the machine is left without one. kexecwatchd refuses it"
    " first. kexec-tools with kexec -c load it without a word, and it cannot start."
)
_NEWER = (
    "Configure a kernel of 5.3 or newer for it. If it must be this one, boot the running kernel"
    " with no5lvl on its command line."
)
_FIVE_LEVEL = (
    "Configure a kernel with CONFIG_X86_5LEVEL, without no5lvl on its command line; or boot the"
    " running kernel with no5lvl, which then uses the first 64 TiB of memory only."
)


def look(host: Host) -> Finding:
    if host.machine != "x86_64":
        return Finding(
            Answer.NOT_APPLICABLE, f"only x86_64 switches paging levels, not {host.machine}"
        )
    five_level = kexec_state.la57(host.root)
    chosen = bootfiles.chosen(host)
    kernels = host.ask(KERNELS) if chosen else {}
    images: dict[str, Fact] = {f.image.value: _facts(f, kernels[f.kernel]) for f in chosen}
    facts: dict[str, Fact] = {"la57": int(five_level), "kernels": images}
    if not five_level:
        return Finding(
            Answer.OK,
            "yes: this kernel runs with 4-level paging, from where any can be entered",
            facts=facts,
        )
    if not chosen:
        raise CannotTell(
            "this kernel runs with 5-level paging, and nobody knows which kernel would be loaded:"
            f" kexecwatchd.toml names none{host.config.crash.none}"
        )
    beyond = host.ask(OUT_OF_REACH)
    found = [_judge(files, kernels[files.kernel], beyond) for files in chosen]
    worst = min(found, key=lambda finding: list(Answer).index(finding.answer))
    return Finding(worst.answer, worst.summary, worst.explanation, worst.remedy, facts)


def _judge(files: BootFiles, kernel: BootImage | str, beyond: OutOfReach) -> Finding:
    name = f"{files.kernel} ({files.image.value} image)"
    if isinstance(kernel, str):
        return Finding(Answer.CANNOT_TELL, f"{name} is no kernel to load: {kernel}")
    if not kernel.five_level:
        return Finding(
            Answer.PROBLEM,
            f"no: {name} cannot be entered with 5-level paging, which this kernel runs with",
            _REFUSED,
            _NEWER,
        )
    if not kernel.stays_four_level(files.cmdline):
        return Finding(Answer.OK, "yes, and they run with 5-level paging as this one does")
    if files.image is ImageName.CRASH and beyond.crash_region:
        return Finding(
            Answer.PROBLEM,
            f"no: {name} runs with 4-level paging, and its memory lies above"
            f" {human(FOUR_LEVEL_END)}",
            f"{_WHAT_IT_IS} Nobody refuses it: it would be loaded, and not start after a crash. The"
            " kernel itself reserves no memory up there; crashkernel=SIZE@START does.",
            f"Take @START out of crashkernel= and boot again. Or: {_FIVE_LEVEL}",
        )
    if files.image is ImageName.REBOOT and beyond.ram:
        return Finding(
            Answer.WARNING,
            f"perhaps not: {name} runs with 4-level paging, and may be put above"
            f" {human(FOUR_LEVEL_END)}",
            f"{_WHAT_IT_IS} {human(beyond.ram)} of this machine's memory lie above it. Since 6.8"
            " the kernel puts a reboot image into the highest memory there is, as kexec-tools do,"
            " and neither asks what the image can reach.",
            f"{_FIVE_LEVEL} By hand: kexec -c -l --mem-max={FOUR_LEVEL_END - 1}",
        )
    return Finding(Answer.OK, "yes: they run with 4-level paging, and lie where that reaches")


def _facts(files: BootFiles, kernel: BootImage | str) -> dict[str, Fact]:
    if isinstance(kernel, str):
        return {"kernel": files.kernel, "problem": kernel}
    return {
        "kernel": files.kernel,
        "xlf_5level": int(bool(kernel.five_level)),
        "xlf_5level_enabled": int(bool(kernel.five_level_enabled)),
        "stays_four_level": int(kernel.stays_four_level(files.cmdline)),
    }


CHECK = Check(
    name="paging-levels",
    question="Can the configured kernels be entered from this one?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=("proc/cpuinfo", *bootfiles.FILES),
    asks=(KERNELS, OUT_OF_REACH),
)
