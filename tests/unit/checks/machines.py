# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines as `kexecwatchctl collect` would bring them, for the checks to look at.

A check's module of tests has CASES: a machine for each answer that the check can give, which
test_every_check.py sees to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kexecwatchd.checks.check import Answer, Check, Finding
from kexecwatchd.checks.doctor import examine
from kexecwatchd.checks.host import ABOUT, COLLECTED, PROFILE, Host
from kexecwatchd.profiles import find
from tests.unit.kernel.trees import populate

RELEASE = "6.12.48+deb13-amd64"

#: kdump-tools with its defaults, and the kernel that they find.
KDUMP_TOOLS: Mapping[str, str | bytes] = {
    "usr/sbin/kdump-config": "",
    "etc/default/kdump-tools": (
        "USE_KDUMP=1\n"
        "KDUMP_KERNEL=/var/lib/kdump/vmlinuz\n"
        "KDUMP_INITRD=/var/lib/kdump/initrd.img\n"
        "# acpi_no_memhotplug\n"
    ),
    f"boot/vmlinuz-{RELEASE}": "",
}

#: What every x86 machine has; a case's own files come over it.
COMMON: Mapping[str, str | bytes] = {
    "proc/sys/kernel/arch": "x86_64\n",
    "proc/sys/kernel/osrelease": f"{RELEASE}\n",
    "proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro crashkernel=512M\n",
    "sys/kernel/kexec_loaded": "0\n",
    "sys/kernel/kexec_crash_loaded": "1\n",
}


@dataclass(frozen=True)
class Case:
    """A machine, the answer to expect, and words that its summary must have.

    `files` below its root, over those in COMMON (None: not there); `asks`: what each Source tells,
    by name, as JSON; the distribution's tool is found in `files`. `about`: what collect noted
    ({"left_out": {name: why}}).
    """

    name: str
    answer: Answer
    says: str
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    asks: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def host_of(case: Case, root: Path) -> Host:
    """The case's machine, collected below `root`."""
    files = {**COMMON, **case.files}
    populate(root, {name: content for name, content in files.items() if content is not None})
    told = {PROFILE.name: TypeAdapter(PROFILE.type).dump_python(find(root), mode="json")}
    collected = {
        f"{COLLECTED}/{name}.json": json.dumps(told) for name, told in {**told, **case.asks}.items()
    }
    populate(root, {f"{COLLECTED}/{ABOUT}": json.dumps(dict(case.about)), **collected})
    return Host(root, live=False)


def answer_of(check: Check, case: Case, root: Path) -> Finding:
    """Ask, and hold the answer against what the case expects."""
    finding = examine(host_of(case, root), check)
    assert (finding.answer, case.says in finding.summary) == (case.answer, True), finding
    return finding
