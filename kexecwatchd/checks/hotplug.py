# SPDX-License-Identifier: GPL-2.0-or-later
"""Does anyone bring the crash image up to date when memory comes or goes?

Sources: CONFIG_CRASH_HOTPLUG (6.6), crash_handle_hotplug_event() in kernel/crash_core.c, which
MEM_OFFLINE reaches before the range leaves /proc/iomem, so that what is removed stays listed (seen
on 6.12 and 7.3). memory/crash_hotplug tells of the image that is loaded now, but takes the kexec
lock: an event that comes meanwhile is lost. It is not read. KEXEC_FILE_DEBUG (6.8):
kexec_file_dbg_print in kernel/kexec_file.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecwatchd.checks import rivals
from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import Host, Source
from kexecwatchd.checks.sources import bootfiles, daemon
from kexecwatchd.kernel import kallsyms, kexec_state, meminfo
from kexecwatchd.model import ImageName

_ADDS = "kexec_add_buffer"  # of every kexec_file_load(2), and of nothing else
_LOGS = "kexec_file_dbg_print"


@dataclass(frozen=True, slots=True)
class Features:
    """`kexec_file_load`: the kernel loads from files itself. `logs_placement`: it can log where."""

    kexec_file_load: bool
    logs_placement: bool


def _look(host: Host) -> Features:
    found = kallsyms.present(host.root, (_ADDS, _LOGS))
    return Features(_ADDS in found, _LOGS in found)


FEATURES = Source("kexec-features", Features, _look)

_WHAT_IT_IS = (
    "A crash image has a list of all memory, made when it was loaded. What is added later is"
    " missing from a dump, and what was removed can hang it, unless the list is made anew."
)
_IN_PART = (
    f"{_WHAT_IT_IS} This kernel rewrites the list by itself when memory goes online or offline, but"
    " it keeps memory that was removed, and an image that kexec -c loaded is left as it is."
)


def look(host: Host) -> Finding:
    if not host.path("sys/devices/system/memory/block_size_bytes").exists():
        return Finding(
            Answer.NOT_APPLICABLE, "this kernel has no memory hotplug: memory stays as it is"
        )
    if not bootfiles.has_crash_image(host):
        return Finding(
            Answer.NOT_APPLICABLE,
            f"no crash image is loaded, nor is one configured{host.config.crash.none}",
        )
    features = host.ask(FEATURES)
    updates = kexec_state.updates_itself(host.root)
    watched = daemon.tends(host, ImageName.CRASH)
    facts: dict[str, Fact] = {
        "kexec_file_load": int(features.kexec_file_load),
        "kexec_file_debug": int(features.logs_placement),
        "crash_hotplug": int(updates),
        "cma": int(meminfo.has_cma(host.root)),
        "kexecwatchd": int(watched),
    }
    if watched and features.kexec_file_load:
        also = ", beside what the kernel does itself" if updates else ""
        return Finding(Answer.OK, f"yes: kexecwatchd does{also}", facts=facts)
    # Their rules leave it to a kernel that updates the image itself.
    if not updates and (others := rivals.working(host)):
        return Finding(Answer.OK, f"yes: {rivals.names(others)} does", _WHAT_IT_IS, facts=facts)
    if not features.kexec_file_load:
        return Finding(
            Answer.WARNING,
            "not by kexecwatchd: this kernel has no kexec_file_load",
            f"{_WHAT_IT_IS} kexecwatchd loads crash images by kexec_file_load only. Here it says"
            " when one is out of date, and someone else must load it.",
            "Load it again after each change (kexec -c -p), or run a kernel with"
            " CONFIG_KEXEC_FILE.",
            facts,
        )
    if updates:
        return Finding(
            Answer.WARNING,
            "in part: the kernel does, but it keeps listing memory that was removed",
            _IN_PART,
            daemon.tend_crash(host),
            facts,
        )
    return Finding(
        Answer.WARNING,
        "neither the kernel nor kexecwatchd does",
        f"{_WHAT_IT_IS} This kernel does not do that (CONFIG_CRASH_HOTPLUG is of 6.6).",
        daemon.tend_crash(host),
        facts,
    )


CHECK = Check(
    name="hotplug",
    question="Does anyone bring the crash image up to date when memory comes or goes?",
    look=look,
    answers=frozenset({Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    cheap=False,  # /proc/kallsyms has 10 MB
    files=(
        "proc/meminfo",
        "sys/devices/system/memory/block_size_bytes",
        "sys/kernel/crash_elfcorehdr_size",
        "sys/kernel/kexec/crash_elfcorehdr_size",
        *bootfiles.CRASH_IMAGE,
        *daemon.FILES,
        *rivals.FILES,
    ),
    asks=(FEATURES,),
)
