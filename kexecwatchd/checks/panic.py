# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a crash of the kernel lead to a dump? The settings that come between the two.

Sources: Documentation/admin-guide/sysctl/kernel.rst and kernel-parameters.txt; panic() in
kernel/panic.c; kexec_should_crash() in kernel/crash_core.c; kgdb_panic() in
kernel/debug/debug_core.c (that one read in 6.1 and 6.12, not seen: Debian's kernels have no kgdb).

kernel.panic only matters after the crash image was tried. Lockups, hung tasks, warnings and unknown
NMIs do not panic by default, which is a choice and no fault; the explanation names the settings.
"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.kernel.memparse import words

_SYSCTL = "proc/sys/kernel"
_KGDBOC = "sys/module/kgdboc/parameters/kgdboc"
# What panics only on request, and what that catches.
_OPTIONAL = {
    "softlockup_panic": "a CPU that is stuck in the kernel",
    "hardlockup_panic": "a CPU that does not even take interrupts",
    "hung_task_panic": "a process that hangs in the kernel",
    "panic_on_rcu_stall": "RCU stalls",
    "unknown_nmi_panic": "the NMI button of many servers",
    "panic_on_warn": "warnings of the kernel",
}


def look(host: Host) -> Finding:
    if not host.path(_SYSCTL).is_dir():
        raise CannotTell("nothing of /proc/sys/kernel was collected")
    if not bootfiles.has_crash_image(host):
        return Finding(Answer.NOT_APPLICABLE, "no crash image is loaded, nor is one configured")
    settings = {name: _number(host, name) for name in (*_OPTIONAL, "panic_on_oops", "panic")}
    facts: dict[str, Fact] = {
        f"kernel.{name}": value for name, value in settings.items() if value is not None
    }
    if _debugger(host) and settings["panic"] == 0:
        return Finding(
            Answer.PROBLEM,
            "no: a panic stops in the kernel debugger, before the crash image is started",
            "A terminal for the kernel debugger is set (kgdboc), and kernel.panic is 0. A panic"
            " then hands over to the debugger and waits for somebody to type, and the crash kernel"
            " starts only when they go on.",
            "Take kgdboc= off the kernel's command line, or set kernel.panic to another number than"
            " 0 (sysctl -w kernel.panic=10, and the same in a file in /etc/sysctl.d): the debugger"
            " then stands back.",
            facts,
        )
    if settings["panic_on_oops"] is None:
        raise CannotTell("/proc/sys/kernel/panic_on_oops was not collected")
    if settings["panic_on_oops"] == 0:
        return Finding(
            Answer.WARNING,
            "not after most faults of the kernel: kernel.panic_on_oops is 0",
            "When the kernel trips over its own bug (an oops), it kills the process that it worked"
            " for and goes on, with whatever is now locked or wrong. Only a panic starts the crash"
            " kernel. The tools of Debian and SUSE set this when they load a crash image.",
            "sysctl -w kernel.panic_on_oops=1, and the same line (kernel.panic_on_oops = 1) in a"
            " file in /etc/sysctl.d.",
            facts,
        )
    if _others_first(host):
        return Finding(
            Answer.WARNING,
            "yes, but crash_kexec_post_notifiers has other code run first",
            "The kernel's command line asks that drivers are told of the panic, and the log is"
            " stored, before the crash kernel starts. Each of them runs in a kernel that is broken"
            " already, and one that hangs costs the dump.",
            "Take crash_kexec_post_notifiers off the kernel's command line, unless you need what"
            " these drivers do (pstore, a hypervisor's report) more than the dump.",
            facts,
        )
    off = [name for name in _OPTIONAL if settings[name] == 0]
    explanation = "A panic, and every oops, starts the crash kernel."
    if off:
        choices = "; ".join(f"{_OPTIONAL[name]} (kernel.{name})" for name in off)
        explanation += f" Other trouble leaves no dump unless its setting is 1: {choices}."
    return Finding(Answer.OK, "yes: a panic does, and so does any oops", explanation, facts=facts)


def _number(host: Host, name: str) -> int | None:
    """None: not built into this kernel."""
    try:
        return int(host.path(f"{_SYSCTL}/{name}").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def _others_first(host: Host) -> bool:
    """The last one counts; it is read as kstrtobool() in lib/kstrtox.c does."""
    given = [value for name, value in words(host.cmdline) if name == "crash_kexec_post_notifiers"]
    return bool(given) and not (given[-1] or "").lower().startswith(("0", "n", "f", "of"))


def _debugger(host: Host) -> bool:
    try:
        return bool(host.path(_KGDBOC).read_text(encoding="ascii", errors="replace").strip("\n\0 "))
    except FileNotFoundError:
        return False


CHECK = Check(
    name="panic",
    question="Does a crash of the kernel lead to a dump?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=(
        *bootfiles.CRASH_IMAGE,
        f"{_SYSCTL}/panic_on_oops",
        f"{_SYSCTL}/panic",
        *(f"{_SYSCTL}/{name}" for name in _OPTIONAL),
        _KGDBOC,
    ),
)
