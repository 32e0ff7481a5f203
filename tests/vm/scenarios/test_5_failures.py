# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 5: bad files, forbidden loads, no reservation, hidden addresses.

A clear verdict each time, no crash loop, no flood in the journal, and never a machine without the
crash image that it had.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import Watched, lists

pytestmark = pytest.mark.vm

FILES = "/etc/kexecwatchd/files"

DAMAGES = {
    "kernel truncated in place": f"truncate -s 3M {FILES}/vmlinuz",
    "kernel replaced by an empty file": f"rm {FILES}/vmlinuz; : >{FILES}/vmlinuz",
    "kernel removed": f"rm {FILES}/vmlinuz",
    "initrd truncated in place": f"truncate -s 1M {FILES}/initrd",
    "initrd emptied in place": f": >{FILES}/initrd",
    "initrd removed": f"rm {FILES}/initrd",
}


def lay_out(watched: Watched) -> None:
    """Private copies of kernel and initrd, to be damaged."""
    watched.vm.run(
        f"mkdir -p {FILES} && cp -L --remove-destination /lab/vmlinuz /lab/initrd {FILES}/"
    )


def configure(watched: Watched) -> None:
    watched.configure(crash="ensure")
    watched.vm.run(f"sed -i 's,/lab/,{FILES}/,' /etc/kexecwatchd/kexecwatchd.toml")


def quiet_and_running(watched: Watched, entries: int) -> None:
    """The service never died, and wrote no more than a handful of entries."""
    assert watched.vm.run("systemctl show -P NRestarts kexecwatchd").text == "0"
    assert watched.vm.run("systemctl is-active kexecwatchd").text == "active"
    said = [e.message for e in watched.journal()]
    assert len(said) <= entries, "\n".join(said)


def test_damaged_files_leave_the_last_good_pair_loaded(guest: Guest, figures: Figures) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        lay_out(watched)
        configure(watched)
        watched.start()
        before = watched.wait_state("crash", "current")
        poller = vm.spawn("exec python3 /lab/pollarmed.py")
        for number, (damage, command) in enumerate(DAMAGES.items()):
            vm.run(command)
            dimm = vm.plug_dimm(f"d{number}", "128M")
            after = watched.wait_reloaded("crash", before)
            assert after["last_load"]["source"] == "last-good", damage
            assert f"{FILES}/" in after["degraded"], damage
            assert after["loaded"], damage
            screen = vm.run("kexecwatchctl status", check=False).text
            assert "degraded" in screen.lower(), screen
            assert lists(watched.header()["loads"], dimm.start, dimm.end), damage
            lay_out(watched)
            vm.run("systemctl reload kexecwatchd")
            before = watched.wait_reloaded("crash", after)
            assert not before["degraded"]
        poller.signal("TERM")
        armed = json.loads(poller.wait().stdout)
        loads = 2 * len(DAMAGES)
        inside = sum(int(e.fields["UNARMED_USEC"]) / 1e6 for e in watched.loads("crash")[-loads:])
        assert armed["unarmed_seconds"] <= inside * 1.1
        # Loaded, a new configuration, and loaded again from the mended files; what the checks found
        # in the damaged ones, and that it is gone; and some to spare.
        quiet_and_running(watched, entries=8 * len(DAMAGES))
        figures(damages=len(DAMAGES), loads=loads)


def test_control_a_plain_reload_leaves_nothing(bare: Guest) -> None:
    """What every other tool does with a truncated kernel: the old image is gone, none is there."""
    with bare("6.1") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        lay_out(watched)
        vm.run(f": >{FILES}/vmlinuz")
        answer = json.loads(
            vm.run(f"python3 /lab/bareload.py crash --kernel {FILES}/vmlinuz", check=False).text
        )
        assert answer["errno"] != 0
        assert vm.run("cat /sys/kernel/kexec_crash_loaded").text == "0"


def test_no_last_good_pair_keeps_the_image_that_is_there(guest: Guest) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        lay_out(watched)
        configure(watched)
        bare_load(vm, "crash")
        vm.run(f"truncate -s 3M {FILES}/vmlinuz")
        watched.start()
        dimm = vm.plug_dimm("d0", "128M")
        stale = watched.wait_image("crash", lambda i: i["state"] == "stale" and i["last_error"])
        assert stale["loaded"]
        assert stale["foreign"]
        assert stale["drift"]["missing_bytes"] == dimm.size
        assert "vmlinuz" in stale["last_error"]
        assert stale["next_try"] > 0
        assert vm.run("cat /sys/kernel/kexec_crash_loaded").text == "1"
        quiet_and_running(watched, entries=8)


def test_loading_disabled(guest: Guest) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        watched.configure(crash="ensure")
        watched.start()
        watched.wait_state("crash", "current")
        vm.run("sysctl -w kernel.kexec_load_disabled=1")
        vm.plug_dimm("d0", "128M")
        stale = watched.wait_state("crash", "stale")
        assert "kexec_load_disabled" in stale["next_step"]
        assert stale["loaded"]
        for _ in range(5):
            watched.verify()
        assert vm.run("cat /sys/kernel/kexec_crash_loaded").text == "1"
        assert watched.image("crash")["load_count"] == 1
        quiet_and_running(watched, entries=8)
        assert vm.run("kexecwatchctl status", check=False).code == 3


def reason_without(guest: Guest, cmdline: str, state: str) -> dict[str, Any]:
    """Start on a machine whose reservation is wrong; the crash image's status."""
    with guest("6.12", cmdline=cmdline) as watched:
        watched.configure(crash="ensure")
        watched.start()
        image = watched.wait_state("crash", state)
        for _ in range(5):
            watched.verify()
        quiet_and_running(watched, entries=8)
        assert watched.vm.run("kexecwatchctl status", check=False).code == 3
        return image


def test_no_reservation(guest: Guest) -> None:
    image = reason_without(guest, "crashkernel=0", "absent")
    assert "crashkernel=" in image["reason"]
    assert image["load_count"] == 0


def test_reservation_too_small(guest: Guest) -> None:
    image = reason_without(guest, "crashkernel=16M", "failed")
    assert "crashkernel=" in image["reason"]
    assert image["last_load"]["at"] == 0, "refused before the call"


def test_hidden_addresses(guest: Guest) -> None:
    """Without CAP_SYS_ADMIN every address of /proc/iomem reads as zero."""
    with guest("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        vm.put(
            "/etc/systemd/system/kexecwatchd.service.d/less.conf",
            b"[Service]\nCapabilityBoundingSet=~CAP_SYS_ADMIN\n",
        )
        vm.run("systemctl daemon-reload")
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        crash = watched.wait_state("crash", "unknown")
        assert "iomem" in crash["reason"]
        status = watched.verify()
        assert status["problem"]
        assert vm.run("cat /sys/kernel/kexec_crash_loaded").text == "1"
        assert all(i["load_count"] == 0 for i in status["images"])
        quiet_and_running(watched, entries=8)
