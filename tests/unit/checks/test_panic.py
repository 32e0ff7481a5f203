# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a crash of the kernel lead to a dump?"""

from __future__ import annotations

from pathlib import Path

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.panic import CHECK

from .machines import KDUMP_TOOLS, RELEASE, Case, answer_of

SYSCTL = "proc/sys/kernel"
# Debian's defaults, but for panic_on_oops, which kdump-tools sets.
DEBIAN: dict[str, str | bytes | None] = {
    f"{SYSCTL}/osrelease": f"{RELEASE}\n",
    f"{SYSCTL}/panic": "0\n",
    f"{SYSCTL}/panic_on_oops": "1\n",
    f"{SYSCTL}/softlockup_panic": "0\n",
    f"{SYSCTL}/hung_task_panic": "0\n",
    f"{SYSCTL}/unknown_nmi_panic": "1\n",
}
KGDBOC = "sys/module/kgdboc/parameters/kgdboc"
NOTIFIERS = "root=/dev/vda1 crash_kexec_post_notifiers quiet\n"
NONE_LOADED = {**DEBIAN, "sys/kernel/kexec_crash_loaded": "0\n", f"{SYSCTL}/panic_on_oops": "0\n"}

CASES = (
    Case("Debian with kdump-tools", Answer.OK, "so does any oops", DEBIAN),
    Case(
        "an oops is survived",
        Answer.WARNING,
        "panic_on_oops is 0",
        {**DEBIAN, f"{SYSCTL}/panic_on_oops": "0\n"},
    ),
    Case("others first", Answer.WARNING, "post_notifiers", {**DEBIAN, "proc/cmdline": NOTIFIERS}),
    Case(
        "others not first",
        Answer.OK,
        "so does any oops",
        {**DEBIAN, "proc/cmdline": NOTIFIERS.replace(" quiet", "=0 quiet")},
    ),
    Case("a debugger", Answer.PROBLEM, "debugger", {**DEBIAN, KGDBOC: "ttyS0,115200\n"}),
    Case("a debugger that is not set", Answer.OK, "any oops", {**DEBIAN, KGDBOC: "\n"}),
    Case(
        "a debugger that stands back",
        Answer.OK,
        "so does any oops",
        {**DEBIAN, KGDBOC: "ttyS0\n", f"{SYSCTL}/panic": "10\n"},
    ),
    Case("no crash image", Answer.NOT_APPLICABLE, "no crash image is loaded", NONE_LOADED),
    Case(
        "one is configured",
        Answer.WARNING,
        "panic_on_oops is 0",
        {**NONE_LOADED, **KDUMP_TOOLS},
    ),
    Case("not collected", Answer.CANNOT_TELL, "panic_on_oops was not"),
)


def test_what_is_a_choice_is_named_and_no_fault(tmp_path: Path) -> None:
    finding = answer_of(CHECK, CASES[0], tmp_path)
    assert "kernel.softlockup_panic" in finding.explanation
    assert "kernel.unknown_nmi_panic" not in finding.explanation
