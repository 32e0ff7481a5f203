# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the kernel let anyone load an image? kernel.kexec_load_disabled and the load limits.

Sources: Documentation/admin-guide/sysctl/kernel.rst; kexec_load_permitted() in kernel/kexec_core.c.
Both are one-way: neither can be taken back before the next boot.
"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.kernel import kexec_state

_ONE_WAY = (
    "Each load, failed ones and unloads included, needs the kernel's permission. When it is gone, a"
    " crash image that is loaded stays as it is: after memory was added or removed it cannot be"
    " brought up to date before the next boot."
)
_REMEDY = (
    "Find what sets it (grep -r kexec_load /etc/sysctl.d /usr/lib/sysctl.d /etc/sysctl.conf), take"
    " that out, and boot again: none of these can be taken back while the kernel runs."
)


def look(host: Host) -> Finding:
    if not host.path("proc/sys/kernel").is_dir():
        raise CannotTell("nothing of /proc/sys/kernel was collected")
    state = kexec_state.read(host.root)
    limits = {
        "kernel.kexec_load_limit_panic": state.limit_panic,
        "kernel.kexec_load_limit_reboot": state.limit_reboot,
    }
    facts = {"kexec_load_disabled": int(state.load_disabled), **limits}
    if state.crash_loaded is None:
        return Finding(
            Answer.PROBLEM,
            "no images at all: this kernel was built without kexec"
            if state.reboot_loaded is None
            else "reboot images only: this kernel was built without CONFIG_CRASH_DUMP",
            "For each kind of image that it can hold, a kernel has a file below /sys/kernel"
            " (kexec_loaded and kexec_crash_loaded, or kexec/loaded and kexec/crash_loaded); it is"
            " missing here.",
            "Boot a kernel that was built with CONFIG_KEXEC_FILE and CONFIG_CRASH_DUMP.",
        )
    if state.load_disabled:
        return Finding(
            Answer.PROBLEM, "no: kernel.kexec_load_disabled is 1", _ONE_WAY, _REMEDY, facts
        )
    used_up = [name for name, left in limits.items() if left == 0]
    if used_up:
        return Finding(
            Answer.PROBLEM, f"no: {' and '.join(used_up)} used up", _ONE_WAY, _REMEDY, facts
        )
    counted = [f"{name} = {left}" for name, left in limits.items() if left > 0]
    if counted:
        return Finding(
            Answer.WARNING,
            f"only so many times more: {', '.join(counted)}",
            _ONE_WAY,
            _REMEDY,
            facts,
        )
    return Finding(Answer.OK, "yes, any number of times", facts=facts)


CHECK = Check(
    name="permission",
    question="May images be loaded?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK}),
    files=(
        "sys/kernel/kexec_*loaded",
        "sys/kernel/kexec/*loaded",
        "proc/sys/kernel/kexec_load_*",
        "sys/kernel/security/lockdown",
    ),
)
