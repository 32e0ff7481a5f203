# SPDX-License-Identifier: GPL-2.0-or-later
"""Can the configured kernels be entered from this one?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.paging_levels import CHECK, OUT_OF_REACH, OutOfReach
from tests.unit.kernel.trees import populate

from .machines import KDUMP_TOOLS, RELEASE, Case, answer_of

NAMED = "/boot/vmlinuz"
OTHER = "/boot/vmlinuz-other"
DEBIAN = f"/boot/vmlinuz-{RELEASE}"

LA57 = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme la57 rdpid\n\n"}
FOUR_LEVELS = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme rdpid\n\n"}


def configured(crash: str = "", reboot: str = "", cmdline: str = "quiet") -> dict[str, str]:
    tables = [
        f'[{image}]\nkernel = "{kernel}"\ncmdline = "{cmdline}"\n'
        for image, kernel in (("crash", crash), ("reboot", reboot))
        if kernel
    ]
    return {"etc/kexecwatchd/kexecwatchd.toml": "\n".join(tables)}


def kernel(*, five_level: bool = True, enabled: bool = True) -> dict[str, Any]:
    return {
        "cmdline_size": 2047,
        "five_level": five_level,
        "memory_size": 60 << 20,
        "signed": False,
        "five_level_enabled": enabled,
    }


NEW, BUILT_4_LEVEL = kernel(), kernel(enabled=False)
OLD = kernel(five_level=False, enabled=False)
REACHED = {"crash_region": 0, "ram": 0}
BEYOND = {"crash_region": 256 << 20, "ram": 1 << 40}


def asks(beyond: dict[str, int], **kernels: dict[str, Any] | str) -> dict[str, Any]:
    paths = {"named": NAMED, "other": OTHER, "debian": DEBIAN}
    return {
        "kernels": {paths[name]: found for name, found in kernels.items()},
        OUT_OF_REACH.name: beyond,
    }


CASES = (
    Case(
        "both as the running one",
        Answer.OK,
        "as this one does",
        {**LA57, **configured(NAMED, NAMED)},
        asks(BEYOND, named=NEW),
    ),
    Case(
        "built without 5-level paging, on a machine that is not that large",
        Answer.OK,
        "lie where that reaches",
        {**LA57, **configured(NAMED, NAMED)},
        asks(REACHED, named=BUILT_4_LEVEL),
    ),
    Case(
        "4-level paging runs: the old one will do",
        Answer.OK,
        "this kernel runs with 4-level paging",
        {**FOUR_LEVELS, **configured(NAMED)},
        asks(REACHED, named=OLD),
    ),
    Case(
        "too old",
        Answer.PROBLEM,
        f"{NAMED} (crash image) cannot be entered",
        {**LA57, **configured(NAMED, OTHER)},
        asks(REACHED, named=OLD, other=NEW),
    ),
    Case(
        "too old, for kdump-tools",
        Answer.PROBLEM,
        f"{DEBIAN} (crash image) cannot be entered",
        {**LA57, **KDUMP_TOOLS},
        asks(REACHED, debian=OLD),
    ),
    Case(
        "the second one is too old",
        Answer.PROBLEM,
        f"{OTHER} (reboot image) cannot be entered",
        {**LA57, **configured(NAMED, OTHER)},
        asks(REACHED, named=NEW, other=OLD),
    ),
    Case(
        "a crash region out of reach",
        Answer.PROBLEM,
        "lies above 64 TiB",
        {**LA57, **configured(NAMED, cmdline="no5lvl")},
        asks(BEYOND, named=NEW),
    ),
    Case(
        "a reboot image may come out of reach",
        Answer.WARNING,
        "may be put above 64 TiB",
        {**LA57, **configured(reboot=NAMED)},
        asks(BEYOND, named=BUILT_4_LEVEL),
    ),
    Case(
        "a kernel that is none",
        Answer.CANNOT_TELL,
        "is no kernel to load: the file is empty",
        {**LA57, **configured(NAMED)},
        asks(REACHED, named="the file is empty"),
    ),
    Case("nobody says which", Answer.CANNOT_TELL, "names none", LA57),
    Case(
        "arm64",
        Answer.NOT_APPLICABLE,
        "not aarch64",
        {"proc/sys/kernel/arch": "aarch64\n"},
    ),
)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ((64 << 40) - (2 << 30), OutOfReach(0, 0)),
        ((64 << 40) - (1 << 30), OutOfReach(0, 1 << 30)),
        (64 << 40, OutOfReach(1 << 30, 2 << 30)),
    ],
)
def test_what_is_out_of_reach(tmp_path: Path, start: int, expected: OutOfReach) -> None:
    """2 GiB from `start`, the first of them reserved."""
    middle, end = start + (1 << 30), start + (2 << 30)
    iomem = (
        f"{start:08x}-{end - 1:08x} : System RAM\n  {start:08x}-{middle - 1:08x} : Crash kernel\n"
    )
    populate(tmp_path, {"proc/iomem": iomem})
    assert Host(tmp_path).ask(OUT_OF_REACH) == expected


def test_facts(tmp_path: Path) -> None:
    facts = answer_of(CHECK, CASES[3], tmp_path).facts
    assert facts["la57"] == 1
    assert facts["kernels"] == {
        "crash": {
            "kernel": NAMED,
            "xlf_5level": 0,
            "xlf_5level_enabled": 0,
            "stays_four_level": 1,
        },
        "reboot": {
            "kernel": OTHER,
            "xlf_5level": 1,
            "xlf_5level_enabled": 1,
            "stays_four_level": 0,
        },
    }
