# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 24: the units run with little, say what they keep and why, and are held to it.

That nothing is missing is what every other scenario shows, since all run the units as they are
shipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.vm.lab.machine import Machine
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.watched import ROOT

pytestmark = pytest.mark.vm

UNITS = tuple(sorted(path.name for path in (ROOT / "systemd").glob("*.service")))
DROP_IN = "/etc/systemd/system/kexecwatchd.service.d/test.conf"

# As the service's mount namespace shows them.
WRITABLE = ("/run/kexecwatchd", "/var/lib/kexecwatchd", "/tmp", "/var/tmp")
CLOSED = (
    *("/", "/boot", "/etc", "/usr", "/var", "/var/lib", "/home", "/root", "/run", "/run/systemd"),
    *("/proc/sys/kernel/kexec_load_disabled", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run"),
    *("/sys/devices/system/memory/auto_online_blocks", "/sys/kernel/debug", "/sys/kernel/tracing"),
)


def exposure(vm: Machine, unit: str) -> float:
    """What systemd-analyze makes of a unit: 0 is best, 10 worst."""
    said = vm.run(f"systemd-analyze security --no-pager {unit}").text
    (level,) = re.findall(rf"Overall exposure level for {unit}: ([0-9.]+) ", said)
    return float(level)


def left_open(vm: Machine, unit: str) -> Iterator[str]:
    """The names of what systemd-analyze finds open in a unit, as the unit is to explain them."""
    found = json.loads(vm.run(f"systemd-analyze security --no-pager --json=short {unit}").text)
    for item in found:
        if item["set"] is False and item["exposure"]:
            setting, separator, value = item["name"].partition("=~")
            # "CapabilityBoundingSet=~CAP_SYS_(PTRACE|…)", "User=/DynamicUser=", "ProcSubset=".
            yield from [value] if separator else re.findall(r"\w+", setting)


def test_it_is_less_exposed_than_logind(guest: Guest, figures: Figures) -> None:
    with guest("6.12") as watched:
        levels = {u: exposure(watched.vm, u) for u in (*UNITS, "systemd-logind.service")}
        figures(**levels)
        limit = levels.pop("systemd-logind.service")
        assert all(level < limit for level in levels.values()), levels


def test_what_is_left_open_is_explained(guest: Guest) -> None:
    with guest("6.12") as watched:
        for unit in UNITS:
            lines = (ROOT / "systemd" / unit).read_text().splitlines()
            comments = "\n".join(line for line in lines if line.startswith("#"))
            names = list(left_open(watched.vm, unit))
            assert names
            assert not [n for n in names if not re.search(rf"(?<![\w@]){n}(?!\w)", comments)], unit


def test_it_can_write_nothing_but_its_own(guest: Guest) -> None:
    with guest("6.12") as watched:
        watched.configure(crash="observe")
        watched.start()
        pid = watched.vm.run("systemctl show -P MainPID kexecwatchd").text
        tests = "; ".join(f"test -w {path} && echo {path}" for path in (*WRITABLE, *CLOSED))
        # As root with all capabilities: what is closed is closed by the mounts.
        assert watched.vm.run(tests, check=False).text.split() == [*WRITABLE, *CLOSED]
        seen = watched.vm.run(f"nsenter -t {pid} -m sh -c '{tests}'", check=False)
        assert seen.text.split() == list(WRITABLE)


def test_control_a_call_that_a_filter_denies_is_noticed(guest: Guest) -> None:
    """The C library does without rseq(2) quietly, so only the lab's look at the end tells."""
    with ExitStack() as stack:
        watched = stack.enter_context(guest("6.12"))
        watched.vm.put(DROP_IN, b"[Service]\nSystemCallFilter=~rseq\n")
        watched.vm.run("systemctl daemon-reload")
        watched.configure(crash="observe")
        watched.start()
        watched.wait_status(lambda status: bool(status["images"]))
        with pytest.raises(AssertionError, match="denied by the units' SystemCallFilter"):
            stack.close()
