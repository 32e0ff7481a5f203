# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 9, Linux 6.12: a crash image that kexec-tools loaded through kexec_load."""

from __future__ import annotations

import pytest

from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.watched import CRASH_CMDLINE, Watched, lists, touches

pytestmark = pytest.mark.vm


def load_with_kexec_tools(watched: Watched) -> None:
    watched.vm.run(
        f"kexec -c -p /lab/vmlinuz --initrd=/lab/initrd --command-line='{CRASH_CMDLINE}'"
    )
    assert watched.vm.run("cat /sys/devices/system/memory/crash_hotplug").text == "0"


def test_recognised_compared_and_replaced_when_it_drifts(guest: Guest, figures: Figures) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        load_with_kexec_tools(watched)
        region = int(vm.run("grep 'Crash kernel' /proc/iomem").text.split("-")[0], 16)
        assert watched.header()["address"] != region, "it is not where the kernel's own load is"
        watched.configure(crash="follow")
        watched.start()
        first = watched.wait_state("crash", "current")
        assert first["foreign"]
        assert first["load_count"] == 0
        assert first["proof"] == "read-back"
        dimm = vm.plug_dimm("d0", "512M")
        ours = watched.wait_image(
            "crash", lambda i: i["state"] == "current" and i["load_count"] > 0
        )
        assert ours["load_count"] == 1
        assert not ours["foreign"]
        assert lists(watched.header()["loads"], dimm.start, dimm.end)
        # And back: what somebody else loads over ours is seen to be his.
        load_with_kexec_tools(watched)
        watched.verify()
        assert watched.image("crash")["foreign"]
        figures(reloads=1)


def test_without_files_of_ours_it_is_only_reported(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        load_with_kexec_tools(watched)
        vm.put("/etc/kexecwatchd/kexecwatchd.toml", b'[crash]\nmode = "follow"\n')
        watched.start()
        watched.wait_state("crash", "current")
        dimm = vm.plug_dimm("d0", "512M")
        stale = watched.wait_state("crash", "stale")
        assert stale["drift"]["missing_bytes"] == dimm.size
        assert "no kernel is configured" in stale["next_step"]
        assert stale["load_count"] == 0


def test_control_without_the_daemon_it_stays_as_it_was(bare: Guest) -> None:
    with bare("6.12") as watched:
        load_with_kexec_tools(watched)
        dimm = watched.vm.plug_dimm("d0", "512M")
        assert not touches(watched.header()["loads"], dimm.start, dimm.end)
