# SPDX-License-Identifier: GPL-2.0-or-later
"""Does anyone bring the crash image up to date when memory comes or goes?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.hotplug import CHECK, FEATURES, Features
from tests.unit.kernel.trees import populate

from .machines import Case, answer_of
from .test_rivals import FEDORA, PLAIN, RULES, UDEVD, UNIT

RUNNING = {"sys/fs/cgroup/system.slice/kexecwatchd.service/cgroup.procs": "701\n"}
TOML = "etc/kexecwatchd/kexecwatchd.toml"
FILES = 'kernel = "/boot/vmlinuz"\ncmdline = "quiet"\n'
FOLLOW = {TOML: f"[crash]\n{FILES}"}

# /sys/devices/system/memory/crash_hotplug is a directory here: to read it would raise.
V6_1 = {
    "proc/meminfo": "CmaTotal:              0 kB\n",
    "sys/devices/system/memory/block_size_bytes": "8000000\n",
}
V6_12 = {
    **V6_1,
    "sys/devices/system/memory/crash_hotplug/never": "",
    "sys/kernel/crash_elfcorehdr_size": "462848\n",
}
V7_3 = {**V6_1, "sys/kernel/kexec/crash_elfcorehdr_size": "462848\n"}


def features(*, file_load: bool = True, logs: bool = True) -> dict[str, Any]:
    return {FEATURES.name: {"kexec_file_load": file_load, "logs_placement": logs}}


CASES = (
    Case("not looked at", Answer.CANNOT_TELL, "kexec-features: it was not collected", V6_12),
    Case(
        "6.12, kexecwatchd runs",
        Answer.OK,
        "kexecwatchd does, beside what the kernel does",
        {**V6_12, **RUNNING, **FOLLOW},
        features(),
    ),
    Case(
        "6.1, kexecwatchd runs",
        Answer.OK,
        "yes: kexecwatchd does",
        {**V6_1, **RUNNING, **FOLLOW},
        features(logs=False),
    ),
    Case(
        "7.3, kexecwatchd does not run",
        Answer.WARNING,
        "in part",
        {**V7_3, **FOLLOW},
        features(),
    ),
    Case(
        "6.12, kexecwatchd may only look",
        Answer.WARNING,
        "in part",
        {**V6_12, **RUNNING, TOML: f'[crash]\nmode = "observe"\n{FILES}'},
        features(),
    ),
    Case(
        "6.12, kexecwatchd knows no kernel to load",
        Answer.WARNING,
        "in part",
        {**V6_12, **RUNNING, TOML: '[crash]\nmode = "follow"\n'},
        features(),
    ),
    Case(
        "5.14 with kdump-utils, whose rule hands it over",
        Answer.OK,
        "yes: kdump-utils does",
        {**V6_1, f"{RULES}/98-kexec.rules": FEDORA, UNIT: UDEVD},
        features(),
    ),
    Case(
        "6.1 with kdump-tools, whose rule may not",
        Answer.WARNING,
        "neither the kernel nor kexecwatchd",
        {**V6_1, **PLAIN},
        features(),
    ),
    Case(
        "a machine that nobody asked for a dump",
        Answer.NOT_APPLICABLE,
        "no crash image is loaded",
        {**V6_1, "sys/kernel/kexec_crash_loaded": "0\n"},
        features(),
    ),
    Case("6.1 alone", Answer.WARNING, "neither the kernel nor kexecwatchd", V6_1, features()),
    Case(
        "Debian's arm64 kernel",
        Answer.WARNING,
        "no kexec_file_load",
        {**V6_1, **RUNNING, **FOLLOW, "proc/sys/kernel/arch": "aarch64\n"},
        features(file_load=False, logs=False),
    ),
    Case("no memory hotplug", Answer.NOT_APPLICABLE, "no memory hotplug"),
)


def test_facts(tmp_path: Path) -> None:
    case = Case(
        "CMA",
        Answer.WARNING,
        "in part",
        {**V7_3, "proc/meminfo": "CmaTotal:         196608 kB\n"},
        features(),
    )
    assert answer_of(CHECK, case, tmp_path).facts == {
        "kexec_file_load": 1,
        "kexec_file_debug": 1,
        "crash_hotplug": 1,
        "cma": 1,
        "kexecwatchd": 0,
    }


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        # As 6.1, 6.12 and arm64's 6.12 (where the system call's own symbol is there all the same).
        ("0 T kexec_add_buffer\n0 T __x64_sys_kexec_file_load\n", Features(True, False)),
        ("0 T kexec_add_buffer\n0 B kexec_file_dbg_print\n", Features(True, True)),
        ("0 W __arm64_sys_kexec_file_load\n", Features(False, False)),
    ],
)
def test_features(tmp_path: Path, symbols: str, expected: Features) -> None:
    populate(tmp_path, {"proc/kallsyms": symbols})
    assert Host(tmp_path).ask(FEATURES) == expected
