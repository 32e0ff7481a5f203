# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 27: another tool that reloads too: nothing breaks, it is said, and `takeover` ends it.

Linux 6.1 under Debian 13 with kdump-tools, whose rule works here: udev's service was told to let it
load. Without kexecwatchd that is scenario 19, and so is the rule that cannot work.
"""

from __future__ import annotations

import pytest

from kexecwatchd.checks.check import Answer
from tests.vm.lab import Machine
from tests.vm.scenarios.conftest import Figures
from tests.vm.scenarios.kdumptools import Debian, let_rule_load, plug, said
from tests.vm.scenarios.test_19_kdump_tools import check
from tests.vm.watched import HASTE, Watched, lists

pytestmark = pytest.mark.vm

RULE = "50-kdump-tools.rules"
TREES = "find /etc/udev /usr/lib/udev /var/lib/kexecwatchd/takeover.json -printf '%p %y %l %s\\n'"


def theirs(vm: Machine) -> int:
    """How often kdump-tools has loaded the image since boot."""
    return said(vm, "loaded kdump kernel") - said(vm, "unloaded kdump kernel")


def test_both_reload_and_the_end_is_right(debian: Debian, figures: Figures) -> None:
    with debian("6.1") as vm:
        watched = Watched(vm)
        let_rule_load(vm)
        vm.run("systemctl unmask kexecwatchd 2>&1")
        # By default ours is often under way before their shell has begun; then theirs finds no
        # image loaded, and gives up. Here both are to come about, so ours waits for theirs.
        watched.configure(crash="follow", pacing=f"{HASTE}\nquiet = 10.0\nmax_wait = 60.0")
        watched.start()
        assert watched.wait_state("crash", "current")["foreign"]
        trees = vm.run(TREES, check=False).text

        # Both answer, and whoever was last, the image is right in the end, and stays so.
        at_first = theirs(vm)
        first = plug(vm, "dimm0", "256M")
        by_them = theirs(vm) - at_first
        assert by_them >= 1, "the rule works here"
        image = watched.wait_image("crash", lambda i: i["state"] == "current" and not i["foreign"])
        assert lists(watched.header()["loads"], *first)
        assert 1 <= image["load_count"] <= by_them + 1, "an answer to each of theirs at most"

        # It is said.
        told = check(vm, "rivals")
        assert told["answer"] == Answer.WARNING, told
        assert "so does kexecwatchd" in told["summary"]
        assert "kexecwatchctl takeover" in told["remedy"]

        # With theirs switched off, one of ours is enough.
        vm.run("kexecwatchctl takeover")
        assert watched.status()["switched_off"] == [RULE]
        assert f"Switched off by takeover: {RULE}" in vm.run("kexecwatchctl status").text
        assert check(vm, "rivals")["answer"] == Answer.OK
        at_first, before = theirs(vm), watched.image("crash")
        second = plug(vm, "dimm1", "128M")
        after = watched.wait_reloaded("crash", before)
        assert after["load_count"] == before["load_count"] + 1
        assert theirs(vm) == at_first
        assert lists(watched.header()["loads"], *second)

        # And back: everything is as it was, the rule works again, and all is well with both.
        vm.run("kexecwatchctl takeover --revert")
        assert vm.run(TREES, check=False).text == trees
        assert watched.status()["switched_off"] == []
        third = plug(vm, "dimm2", "128M")
        assert theirs(vm) > at_first
        watched.wait_image("crash", lambda i: i["state"] == "current" and not i["foreign"])
        assert lists(watched.header()["loads"], *third)
        figures(their_loads=by_them, our_loads=image["load_count"])
