# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 15, Linux 6.12: between "loaded" and "executed" the reboot image is looked at once more.

And what that look and the verdicts rest on: the memory of the boot, recorded at a real one.
"""

from __future__ import annotations

import json

import pytest

from tests.vm.lab import MachineDied
from tests.vm.lab.machine import Machine
from tests.vm.scenarios.conftest import ROOMY, Guest
from tests.vm.scenarios.measure import bare_load, first_json
from tests.vm.watched import Watched

pytestmark = pytest.mark.vm

GUARD = 'when_unsafe = "guard"\n'
GATE = "kexecwatchd-kexec-check.service"
# With systemd 257 a plain reboot is a kexec, too, as soon as an image is loaded.
both_ways = pytest.mark.parametrize("command", ["systemctl kexec", "systemctl reboot"])
NEW_KERNEL = "Starting new kernel"  # what machine_kexec() says last
SYSTEM = "root=/dev/vda rw console=ttyS0 crashkernel=256M"  # the lab's own way to boot

# Waits for an inhibitor lock of ours and prints what systemd-inhibit shows then.
SEE_LOCK = """
import json, os, pathlib, subprocess, time
place = pathlib.Path("/run/systemd/inhibit")
def ours():
    for file in place.iterdir():
        try:
            if not file.name.endswith(".ref") and "WHO=kexecwatchd" in file.read_text():
                return True
        except FileNotFoundError:
            pass
    return False
while not ours():
    time.sleep(0.01)
loaded = open("/sys/kernel/kexec_loaded").read().strip()
shown = subprocess.run(["systemd-inhibit", "--list"], capture_output=True, text=True).stdout
while ours():
    time.sleep(0.01)
print(json.dumps({"loaded": loaded, "shown": shown}), flush=True)
"""


def test_exec_starts_an_image_that_is_fit(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        watched.configure(reboot="ensure", more=GUARD)
        watched.start()
        watched.wait_state("reboot", "current")
        assert "may be started: kexecwatchctl exec" in vm.run("kexecwatchctl status").text
        said = vm.run("kexecwatchctl exec --dry-run")
        assert "systemctl kexec" in said.text
        assert watched.image("reboot")["loaded"]
        start = vm.console.position()
        vm.agent.post("kexecwatchctl exec")
        assert vm.agent.wait_ready("second:") == "second:second"
        assert "kexecwatchd: kexec goes on: the reboot image is current" in vm.console.text(start)


def orphaned_in_a_dimm(watched: Watched) -> None:
    """Leave a reboot image of ours in a DIMM, kill the daemon, and take the DIMM away."""
    vm = watched.vm
    vm.plug_dimm("d0", "512M")
    watched.configure(reboot="ensure", more=GUARD)
    # Without kexec-tools the image goes where the kernel puts it.
    vm.run("mv /usr/sbin/kexec /usr/sbin/kexec-away")
    watched.start()
    watched.wait_image("reboot", lambda i: bool(i["loaded"] and not i["next_try"]))
    answer = json.loads(vm.run("kexecwatchctl verify --json", check=False).text)
    details = next(i for i in answer["details"]["images"] if i["image"] == "reboot")
    dimm = vm.run("grep -B0 'System RAM' /proc/iomem | tail -1").text.split()[0].split("-")
    low, high = (int(end, 16) for end in dimm)
    assert all(low <= int(s["start"], 16) <= high for s in details["segments"])
    assert details["segments"]
    vm.run("systemctl kill --signal=KILL kexecwatchd; systemctl stop kexecwatchd")
    vm.run("mv /usr/sbin/kexec-away /usr/sbin/kexec")
    vm.unplug_dimm("d0")
    assert vm.run("cat /sys/kernel/kexec_loaded").text == "1"
    assert vm.run("systemctl is-active kexecwatchd", check=False).text != "active"


def at_the_end(vm: Machine, command: str = "systemctl kexec") -> str:
    """Run it, wait for the machine's end, and return what the console showed."""
    start = vm.console.position()
    vm.agent.post(command)
    with pytest.raises(MachineDied):
        vm.agent.wait_ready("second:")
    assert vm.wait_exit() == "guest-reset"
    return vm.console.text(start)


@both_ways
def test_the_gate_unloads_an_image_whose_memory_went(guest: Guest, command: str) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        orphaned_in_a_dimm(watched)
        said = at_the_end(watched.vm, command)
        assert "kexecwatchd: the reboot image was unloaded" in said
        assert "full reboot" in said
        assert NEW_KERNEL not in said


def test_the_gate_forces_a_reboot_where_it_cannot_unload(guest: Guest) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        orphaned_in_a_dimm(watched)
        watched.vm.run("echo 1 >/proc/sys/kernel/kexec_load_disabled")
        said = at_the_end(watched.vm)
        assert "kexecwatchd: forcing a full reboot" in said
        assert "systemd-shutdown" in said
        assert NEW_KERNEL not in said


@both_ways
def test_control_without_the_gate_the_machine_dies_in_the_new_kernel(
    guest: Guest, command: str
) -> None:
    with guest("6.12", memory=ROOMY) as watched:
        orphaned_in_a_dimm(watched)
        watched.vm.run(f"systemctl mask {GATE}")
        said = at_the_end(watched.vm, command)
        assert NEW_KERNEL in said
        assert "LAB: second kernel" not in said


def test_a_gate_that_cannot_run_stops_nothing(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "reboot")
        vm.run("rm /usr/lib/python3/dist-packages/kexecwatchd/startcheck.py")
        vm.run("rm /usr/lib/python3/dist-packages/kexecwatchd/__pycache__/startcheck.*")
        vm.agent.post("systemctl kexec")
        assert vm.agent.wait_ready("second:") == "second:second"


def test_exec_refuses_what_is_not_proven_and_what_is_unsafe(guest: Guest) -> None:
    """Of an image that someone else loaded, and that the daemon may only look at."""
    with guest("6.12", memory=ROOMY) as watched:
        vm = watched.vm
        vm.plug_dimm("d0", "512M")
        bare_load(vm, "reboot")
        watched.configure(reboot="observe", more=GUARD)
        watched.start()
        unknown = vm.run("kexecwatchctl exec", check=False)
        assert unknown.code == 3
        assert b"nothing proves" in unknown.stderr
        vm.unplug_dimm("d0")
        unsafe = vm.run("kexecwatchctl exec", check=False)
        assert unsafe.code == 3
        assert b"went offline or away" in unsafe.stderr
        assert "refused" in vm.run("kexecwatchctl status", check=False).text
        vm.run("systemctl stop kexecwatchd")
        assert vm.run("kexecwatchctl exec", check=False).code == 4
        assert vm.run("cat /sys/kernel/kexec_loaded").text == "1"
        assert vm.stage == "system"


def test_a_boot_records_its_memory_before_any_can_come(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        # Booted with the units this time, where the snapshot got them later.
        bare_load(vm, "reboot", SYSTEM)
        vm.agent.post("systemctl kexec")
        vm.agent.wait_ready("system")
        vm.run("systemctl is-system-running --wait", check=False)
        dimm = vm.plug_dimm("d0", "512M")
        path = "/run/kexecwatchd/boot-memory.json"
        recorded = json.loads(vm.run(f"cat {path}").text)
        assert recorded["boot_id"] == vm.run("cat /proc/sys/kernel/random/boot_id").text
        assert recorded["system_ram"]
        assert all(end <= dimm.start or dimm.end <= start for start, end in recorded["system_ram"])
        assert vm.run(f"stat -c '%a %U' {path}").text == "600 root"
        unit = "kexecwatchd-boot-memory.service"
        times = [
            vm.run(f"systemctl show -P {field} {name}").text
            for field, name in (
                ("ExecMainExitTimestampMonotonic", unit),
                ("ExecMainStartTimestampMonotonic", "systemd-udevd.service"),
            )
        ]
        assert 0 < int(times[0]) <= int(times[1])
        # The udev rule took the DIMM for the first memory event all the same.
        vm.run("until systemctl -q is-active kexecwatchd; do sleep 0.5; done")
        vm.run(f"systemctl restart {unit}")
        assert json.loads(vm.run(f"cat {path}").text) == recorded


def test_logind_knows_of_a_load_in_flight(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        vm.put("/run/see_lock.py", SEE_LOCK.encode())
        seeing = vm.spawn("exec python3 /run/see_lock.py")
        watched.configure(reboot="ensure", more=GUARD)
        watched.start()
        watched.wait_state("reboot", "current")
        seen = first_json(seeing)
        assert seen["loaded"] == "0"
        (line,) = [row for row in seen["shown"].splitlines() if "kexecwatchd" in row]
        assert "shutdown" in line
        assert "delay" in line
        assert "kexecwatchd" not in vm.run("systemd-inhibit --list").text
