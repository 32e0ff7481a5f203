# SPDX-License-Identifier: GPL-2.0-or-later
"""Can kexecwatchd prove what it says? It needs to read back what the kernel holds.

/proc/kcore shows what the loaded crash image lists; /proc/kallsyms how this kernel places a reboot
image; /dev/kmsg where it placed one. Sources: open_kcore() in fs/proc/kcore.c (CAP_SYS_RAWIO,
lockdown=confidentiality, CONFIG_PROC_KCORE); kallsyms_show_value() in kernel/ksyms_common.c
(kernel.kptr_restrict); check_syslog_permissions() in kernel/printk/printk.c. kernel.dmesg_restrict
does not keep root out. Each is opened, not guessed from settings.
"""

from __future__ import annotations

from itertools import islice

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import Host, Source
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.kernel import kexec_state
from kexecwatchd.kernel.kcore import Kcore
from kexecwatchd.kernel.kmsg import KernelLog

_NO_KCORE = "it is not there: the kernel was built without CONFIG_PROC_KCORE"
_PLACEMENT = {"kallsyms": "proc/kallsyms", "kmsg": "dev/kmsg"}


def _look(host: Host) -> dict[str, str]:
    return {"kcore": _kcore(host), "kallsyms": _kallsyms(host), "kmsg": _kmsg(host)}


def _kcore(host: Host) -> str:
    try:
        Kcore(host.root).close()
    except FileNotFoundError:
        return _NO_KCORE
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or "it is no ELF core"
    return ""


def _kallsyms(host: Host) -> str:
    try:
        with host.path("proc/kallsyms").open(encoding="ascii", errors="replace") as lines:
            hidden = all(int(line.split()[0], 16) == 0 for line in islice(lines, 100))
    except FileNotFoundError:
        return "it is not there: the kernel was built without CONFIG_KALLSYMS"
    except OSError as error:
        return error.strerror or "it cannot be read"
    return "all its addresses are hidden" if hidden else ""


def _kmsg(host: Host) -> str:
    try:
        KernelLog(host.root).close()
    except OSError as error:
        return error.strerror or "it cannot be read"
    return ""


READABLE: Source[dict[str, str]] = Source("read-back", dict[str, str], _look)
"""kcore, kallsyms and kmsg: why root cannot read it; "" where it can."""


def look(host: Host) -> Finding:
    told = host.ask(READABLE)
    state = kexec_state.read(host.root)
    if state.crash_loaded is None and state.reboot_loaded is None:
        return Finding(Answer.NOT_APPLICABLE, "this kernel can hold no images")
    facts: dict[str, Fact] = {**told, "lockdown": state.lockdown}
    if why := told["kcore"]:
        locked = state.lockdown == "confidentiality"
        because = "lockdown=confidentiality forbids it" if locked else why
        return Finding(
            Answer.WARNING,
            f"not of the crash image: /proc/kcore cannot be read ({because})",
            "What the loaded crash image lists can only be seen in the kernel's own memory, through"
            " /proc/kcore. Without it kexecwatchd can load images, but not tell whether one that is"
            " loaded fits, least of all one that another tool loaded, or that the kernel changed.",
            _remedy(why, locked=locked),
            facts,
        )
    hidden = [f"/{name} ({told[key]})" for key, name in _PLACEMENT.items() if told[key]]
    if hidden:
        return Finding(
            Answer.WARNING,
            f"not all of the reboot image: {' and '.join(hidden)} cannot be used",
            "/proc/kallsyms tells by which rules this kernel chooses the place of a reboot image,"
            " so that one which would land in memory that can go away is not loaded at all; the"
            " kernel's log tells where one was put. Without them kexecwatchd learns less, or later,"
            " and calls unknown what it cannot see.",
            "sysctl -w kernel.kptr_restrict=1, where it is 2 (and in /etc/sysctl.d): root still"
            " reads the symbols, other users do not. The log needs CAP_SYSLOG.",
            facts,
        )
    return Finding(Answer.OK, "yes: all that it needs to read is open to root", facts=facts)


def _remedy(why: str, *, locked: bool) -> str:
    if locked:
        return "Boot with lockdown=integrity."
    if why == _NO_KCORE:
        return "Boot a kernel with CONFIG_PROC_KCORE."
    return "Run this as root, outside containers."


CHECK = Check(
    name="read-back",
    question="Can kexecwatchd see what the kernel holds?",
    look=look,
    answers=frozenset({Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=(*bootfiles.LOADED, "sys/kernel/security/lockdown"),
    asks=(READABLE,),
)
