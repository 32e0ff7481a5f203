# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 25: lockdown, raised while images are loaded, and from boot on.

Debian's kernels bear a signature, but without secure boot a running one has only the key of its own
modules, and refuses even its own file.
"""

from __future__ import annotations

import json

import pytest

from tests.vm.lab.machine import Machine
from tests.vm.scenarios.conftest import Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import Watched, lists, loaded

pytestmark = pytest.mark.vm

NOT_TRUSTED = "lockdown={} is on and the kernel does not trust the signature of /lab/vmlinuz"
EPERM = 1


def raise_to(vm: Machine, level: str) -> None:
    """As an administrator can at any time; nothing lowers it again."""
    vm.run(f"echo {level} >/sys/kernel/security/lockdown")


def answers(vm: Machine, *names: str) -> dict[str, str]:
    """What these checks answer, each with its summary."""
    said = vm.run(f"kexecwatchctl check --json {' '.join(names)}", check=False)
    return {c["name"]: f"{c['answer']}: {c['summary']}" for c in json.loads(said.stdout)["results"]}


def both_loaded(watched: Watched) -> None:
    watched.configure(crash="ensure", reboot="ensure")
    watched.start()
    watched.wait_state("crash", "current")
    watched.wait_state("reboot", "current")


@pytest.mark.parametrize("level", ["integrity", "confidentiality"])
def test_control_a_plain_load_costs_the_crash_image(bare: Guest, level: str) -> None:
    with bare("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        raise_to(vm, level)
        assert json.loads(vm.run("python3 /lab/bareload.py crash").text)["errno"] == EPERM
        assert loaded(vm) == ["0", "0"]


def test_integrity_keeps_what_is_loaded_and_sees_what_it_lacks(guest: Guest) -> None:
    """6.1 does not update the image by itself: it would have to be loaded again, and cannot be."""
    with guest("6.1") as watched:
        vm = watched.vm
        both_loaded(watched)
        raise_to(vm, "integrity")
        dimm = vm.plug_dimm("d0", "256M")
        stale = watched.wait_image("crash", lambda i: i["state"] == "stale" and i["last_error"])
        assert NOT_TRUSTED.format("integrity") in stale["last_error"]
        assert stale["drift"]["missing_bytes"] == dimm.size
        assert loaded(vm) == ["1", "1"]
        assert not lists(watched.header()["loads"], dimm.start, dimm.end)
        assert watched.image("reboot")["state"] == "current"

        screen = vm.run("kexecwatchctl status", check=False)
        assert screen.code == 3
        assert "judged by    read-back" in screen.text
        assert vm.run("kexecwatchctl verify", check=False).code == 3
        asked = vm.run("kexecwatchctl reload crash", check=False)
        assert asked.code == 1
        assert "lockdown=integrity" in asked.stderr.decode()
        said = answers(vm, "lockdown", "read-back")
        assert said["lockdown"].startswith("warning: perhaps not: lockdown is integrity")
        assert said["read-back"].startswith("ok")
        assert vm.run("kexec -c -l /lab/vmlinuz --initrd=/lab/initrd", check=False).code != 0
        assert loaded(vm) == ["1", "1"]

        # Unloading asks for no signature.
        vm.run("kexecwatchctl mode reboot follow && kexecwatchctl discard reboot")
        assert loaded(vm) == ["1", "0"]


def test_confidentiality_proves_nothing_and_says_so(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        both_loaded(watched)
        raise_to(vm, "confidentiality")
        watched.verify()
        unknown = watched.image("crash")
        assert (unknown["state"], unknown["proof"]) == ("unknown", "ledger")
        assert "that is not proven" in unknown["reason"]
        assert vm.run("kexecwatchctl status", check=False).code == 3

        dimm = vm.plug_dimm("d0", "256M")
        stale = watched.wait_image("crash", lambda i: i["state"] == "stale" and i["last_error"])
        assert stale["proof"] == "ledger"
        assert stale["drift"]["missing_bytes"] == dimm.size
        assert NOT_TRUSTED.format("confidentiality") in stale["last_error"]
        assert loaded(vm) == ["1", "1"]
        assert vm.run("kexecwatchctl verify", check=False).code == 3
        said = answers(vm, "lockdown", "read-back")
        assert said["lockdown"].startswith("warning: perhaps not: lockdown is confidentiality")
        assert "lockdown=confidentiality forbids it" in said["read-back"]


@pytest.mark.parametrize(("kernel", "level"), [("6.12", "confidentiality"), ("6.1", "integrity")])
def test_booted_with_it_nothing_can_be_loaded(guest: Guest, kernel: str, level: str) -> None:
    with guest(kernel, cmdline=f"lockdown={level}") as watched:
        vm = watched.vm
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        for name in ("crash", "reboot"):
            failed = watched.wait_state(name, "failed")
            assert NOT_TRUSTED.format(level) in failed["reason"]
            assert failed["next_try"] > 0
        assert loaded(vm) == ["0", "0"]
        assert vm.run("kexecwatchctl status", check=False).code == 3
        assert vm.run("systemctl show -P NRestarts kexecwatchd").text == "0"
