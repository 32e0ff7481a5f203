# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 19, a plain Debian 13 with kdump-tools: `check` tells the truth about its udev rule.

The kernel of most of it is that of Debian 12, which does not follow hot-added memory by itself;
Debian 13's own comes last. kexecwatchd is there to be asked, but masked: its service never runs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from tests.vm.lab import Machine
from tests.vm.scenarios.conftest import Figures
from tests.vm.scenarios.kdumptools import Debian, failures, let_rule_load, plug
from tests.vm.watched import Watched, lists

OTHERS = ("permission", "lockdown", "boot-files", "read-back", "panic", "dump-target")


def ask(vm: Machine, *names: str) -> list[dict[str, Any]]:
    """What `kexecwatchctl check` answers, to these questions or to all."""
    report = json.loads(vm.run(f"kexecwatchctl check --json {' '.join(names)}", check=False).text)
    results: list[dict[str, Any]] = report["results"]
    return results


def check(vm: Machine, name: str) -> dict[str, Any]:
    """The answer to one question."""
    return ask(vm, name)[0]


@pytest.mark.vm
def test_its_rule_cannot_work_and_check_says_so(debian: Debian, figures: Figures) -> None:
    with debian("6.1") as vm:
        watched = Watched(vm)

        told, *others = ask(vm, "rivals", *OTHERS)
        assert told["answer"] == Answer.PROBLEM, told
        assert "kdump-tools means to, and cannot" in told["summary"]
        assert told["facts"]["blocked_rules"] == ["/usr/lib/udev/rules.d/50-kdump-tools.rules"]
        assert told["facts"]["denied_system_calls"] == ["kexec_load", "kexec_file_load"]

        # And nothing else that stands in the way of dumps elsewhere is said of a plain Debian.
        assert {other["answer"] for other in others} == {Answer.OK}, others

        # It is so: the rule ran, failed, and the image does not know of the memory.
        first = plug(vm, "dimm0", "256M")
        failed = failures(vm)
        assert failed >= 2, "the rule runs for each block of 128 MiB"
        assert not lists(watched.header()["loads"], *first)

        # With a DIMM there, kdump-tools' own command line is no good either; without, all was well.
        told = check(vm, "boot-files")
        assert told["answer"] == Answer.PROBLEM, told
        assert "lacks acpi_no_memhotplug" in told["summary"]

        # Control: the very command of the rule works where udev's filter is not.
        vm.run("kdump-config try-reload")
        assert lists(watched.header()["loads"], *first)

        # What `check` proposes makes it work, and it says that, too.
        let_rule_load(vm)
        told = check(vm, "rivals")
        assert told["answer"] == Answer.OK, told
        assert "kdump-tools does" in told["summary"]
        second = plug(vm, "dimm1", "128M")
        assert failures(vm) == failed
        assert lists(watched.header()["loads"], *second)

        # Nothing of kexecwatchd's had a hand in it.
        assert vm.run("systemctl is-active kexecwatchd", check=False).text.strip() == "inactive"
        figures(failed_reloads=failed, blocks=2)


@pytest.mark.vm
def test_on_debian_13_s_own_kernel_the_rule_fails_too_and_the_kernel_does_part_of_it(
    debian: Debian,
) -> None:
    with debian("6.12") as vm:
        told = check(vm, "rivals")
        assert told["answer"] == Answer.WARNING, told
        assert "cannot: udev's service forbids it; the kernel does part of it" in told["summary"]
        dimm = plug(vm, "dimm0", "128M")
        assert failures(vm) >= 1
        assert lists(Watched(vm).header()["loads"], *dimm)
