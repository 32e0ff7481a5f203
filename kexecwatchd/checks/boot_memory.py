# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the next kernel told of the memory that is there? It is told of what was there at boot.

Sources: x86: e820_table_kexec in arch/x86/kernel/e820.c, which kexec_file_load(2) hands on, and
which hotplug does not change. arm64: the next kernel asks firmware (device tree, UEFI memory map)
as if it were the first, and must be booted from memory that is described there: "kexec/
memory_hotplug: Prevent removal and accidental use" (March 2020); what was there at boot cannot be
removed (prevent_bootmem_remove_notifier() in arch/arm64/mm/mmu.c). Which memory that is:
kexecwatchd/bootmemory.py.
"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.checks.sources.look import LOOK, NOT_RECORDED, Look
from kexecwatchd.kernel import kexec_state
from kexecwatchd.sizes import human

_X86 = (
    "A kernel that is started by kexec asks no firmware: it is told of the memory that was there"
    " when this one booted. What was added since it finds through ACPI. But what was removed since"
    " it takes for memory, and dies early, without a word."
)
_ARM64 = (
    "A kernel that is started by kexec learns of memory from what firmware described at boot, and"
    " only later of memory that was added since. It must lie in memory of the first kind itself:"
    " device tree or UEFI memory map. The loader does not ask for that, and such an image does not"
    " start."
)


def look(host: Host) -> Finding:
    machine = host.machine
    seen = host.ask(LOOK)
    if kexec_state.read(host.root).reboot_loaded is None:
        return Finding(Answer.NOT_APPLICABLE, "this kernel can hold no reboot image")
    if not seen.blocks:
        return Finding(
            Answer.NOT_APPLICABLE, "this kernel has no memory hotplug: memory is as it was at boot"
        )
    if machine == "x86_64":
        return _x86(seen)
    if machine == "aarch64":
        return _arm64(seen)
    raise CannotTell(
        f"what the next kernel is told of is known for x86_64 and arm64, not {machine}"
    )


def _x86(seen: Look) -> Finding:
    if seen.lost is None:
        raise CannotTell(NOT_RECORDED)
    if seen.lost:
        return Finding(
            Answer.PROBLEM,
            f"no: {seen.lost}",
            _X86,
            "Unload the reboot image, if there is one (kexec -u), and boot through the firmware"
            " (systemctl reboot). Where the memory is there again, nothing needs to be done.",
        )
    return Finding(Answer.OK, "yes: all memory of boot is still there", _X86)


def _arm64(seen: Look) -> Finding:
    if not seen.boot_known:
        raise CannotTell(NOT_RECORDED)
    facts: dict[str, Fact] = {"hot_added_bytes": seen.hot_added}
    if seen.hot_added:
        return Finding(
            Answer.WARNING,
            f"not of all: firmware did not describe {human(seen.hot_added)} at boot, and an image"
            " that lies there does not start",
            _ARM64,
            "Load reboot images before memory is added, or below it: kexec -c -l with --mem-max=."
            " kexecwatchctl map shows which memory was added.",
            facts,
        )
    return Finding(Answer.OK, "yes: no memory was added since boot", _ARM64, facts=facts)


CHECK = Check(
    name="boot-memory",
    question="Is the next kernel told of the memory that is there?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,  # the daemon judges each load by itself
    files=bootfiles.LOADED,
    asks=(LOOK,),
)
