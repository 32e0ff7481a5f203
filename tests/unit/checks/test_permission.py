# SPDX-License-Identifier: GPL-2.0-or-later
"""May images be loaded?"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer

from .machines import Case

SYSCTL = "proc/sys/kernel"

CASES = (
    Case("as it comes", Answer.OK, "any number of times"),
    Case(
        "6.19 and later",
        Answer.OK,
        "any number of times",
        {
            "sys/kernel/kexec_loaded": None,
            "sys/kernel/kexec_crash_loaded": None,
            "sys/kernel/kexec/loaded": "0\n",
            "sys/kernel/kexec/crash_loaded": "1\n",
        },
    ),
    Case(
        "switched off",
        Answer.PROBLEM,
        "kexec_load_disabled is 1",
        {f"{SYSCTL}/kexec_load_disabled": "1\n"},
    ),
    Case(
        "used up",
        Answer.PROBLEM,
        "kernel.kexec_load_limit_panic used up",
        {f"{SYSCTL}/kexec_load_limit_panic": "0\n", f"{SYSCTL}/kexec_load_limit_reboot": "-1\n"},
    ),
    Case(
        "counted",
        Answer.WARNING,
        "kernel.kexec_load_limit_reboot = 2",
        {f"{SYSCTL}/kexec_load_limit_panic": "-1\n", f"{SYSCTL}/kexec_load_limit_reboot": "2\n"},
    ),
    Case(
        "built without",
        Answer.PROBLEM,
        "built without kexec",
        {"sys/kernel/kexec_loaded": None, "sys/kernel/kexec_crash_loaded": None},
    ),
    Case(
        "built without crash dumps",
        Answer.PROBLEM,
        "reboot images only",
        {"sys/kernel/kexec_crash_loaded": None},
    ),
    Case(
        "no number",
        Answer.CANNOT_TELL,
        "is no number",
        {f"{SYSCTL}/kexec_load_limit_panic": "many\n"},
    ),
)
