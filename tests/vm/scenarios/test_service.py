# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as a system service, Linux 6.12: started by udev, stopped, reconfigured, overrun."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kexecwatchd.checks.registry import CHECKS
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import loaded

pytestmark = pytest.mark.vm

NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
TIMED = "bash -c 'TIMEFORMAT=%R; time \"$@\"' timed"


def test_the_first_memory_event_starts_it(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        watched.configure(crash="observe")
        assert vm.run("systemctl is-active kexecwatchd", check=False).text == "inactive"
        vm.run("udevadm verify /usr/lib/udev/rules.d/70-kexecwatchd.rules")
        # What boot does for every block that is there is no hotplug, and starts nothing.
        vm.run("udevadm trigger --action=add --subsystem-match=memory && udevadm settle")
        assert vm.run("systemctl is-active kexecwatchd", check=False).text == "inactive"
        vm.plug_dimm("d0", "128M")
        vm.run("until systemctl -q is-active kexecwatchd; do sleep 0.5; done")
        assert watched.image("crash")["mode"] == "observe"


def test_control_without_the_rule_it_does_not_start(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        vm.run("rm /usr/lib/udev/rules.d/*kexecwatchd* && udevadm control --reload")
        vm.plug_dimm("d0", "128M")
        vm.run("udevadm settle; sleep 3")
        assert vm.run("systemctl is-active kexecwatchd", check=False).text == "inactive"


def test_stopping_leaves_the_images_loaded(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        watched.wait_state("crash", "current")
        watched.wait_state("reboot", "current")
        vm.run("systemctl stop kexecwatchd")
        assert vm.run("systemctl show -P Result kexecwatchd").text == "success"
        assert loaded(vm) == ["1", "1"]
        watched.start()
        status = watched.verify()
        assert [(i["state"], i["load_count"], i["foreign"]) for i in status["images"]] == [
            ("current", 1, False),
            ("current", 1, False),
        ]


def test_a_bad_configuration_on_reload_leaves_the_old_one(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        watched.configure(crash="ensure")
        watched.start()
        watched.wait_state("crash", "current")
        vm.run("sed -i s/ensure/ensuer/ /etc/kexecwatchd/kexecwatchd.toml")
        checked = vm.run("kexecwatchd --check-config", check=False)
        assert checked.code != 0
        said = checked.stderr.decode()
        assert "/etc/kexecwatchd/kexecwatchd.toml" in said
        assert "mode" in said
        assert '"ensure"' in said
        vm.run("systemctl reload kexecwatchd")
        watched.wait_status(lambda status: bool(status["config_error"]))
        image = watched.image("crash")
        assert (image["mode"], image["state"]) == ("ensure", "current")
        vm.run("systemctl restart kexecwatchd", check=False)
        assert vm.run("systemctl is-active kexecwatchd", check=False).text != "active"


def test_others_may_read_sizes_and_nothing_else(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "crash")
        vm.run("python3 /lab/bareload.py unload-crash")
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        watched.wait_state("crash", "current")
        watched.wait_state("reboot", "current")
        read = vm.run(f"{NOBODY} kexecwatchctl status --json")
        assert json.loads(read.stdout)["images"][0]["state"] == "current"
        details = json.loads(vm.run("kexecwatchctl verify --json").text)["details"]
        addresses = [
            s["start"].removeprefix("0x") for i in details["images"] for s in i["segments"]
        ]
        assert addresses
        call = "busctl call org.kexecwatch1 /org/kexecwatch1 org.kexecwatch1.Manager"
        tools = "status", "verify --json", "history --json", "mode", "config"
        files = "find /run/kexecwatchd /var/lib/kexecwatchd -type f -perm /077"
        tree = vm.run(
            "; ".join(f"{NOBODY} kexecwatchctl {verb}" for verb in tools) + "; "
            f"{NOBODY} busctl call org.kexecwatch1 /org/kexecwatch1"
            " org.freedesktop.DBus.ObjectManager GetManagedObjects;"
            # The journal is for the group adm, too.
            f"journalctl -t kexecwatchd -o export; {files} -exec cat {{}} +"
        ).text
        assert "MESSAGE_ID=" in tree
        assert not [address for address in addresses if address in tree]
        for forbidden, said in (("GetDetails", b"denied"), ("Reload s crash", b"authenticate")):
            answer = vm.run(f"{NOBODY} {call} {forbidden}", check=False)
            assert answer.code != 0
            assert said in answer.stderr.lower()
        assert vm.run(files).text == "/run/kexecwatchd/kexecwatchd.prom"
        before = watched.image("crash")["load_count"]
        vm.run(f"{call} Reload s crash")
        assert watched.image("crash")["load_count"] == before + 1


def test_its_rounds_say_what_kexecwatchctl_check_says(guest: Guest, figures: Figures) -> None:
    """The sandbox hides nothing from a check; a problem is on bus, journal and screen."""
    with guest("6.12") as watched:
        vm = watched.vm
        watched.configure(crash="ensure", reboot="follow")
        # So that the question for the dump's place is a question here.
        vm.put("/etc/default/kdump-tools", b"KDUMP_COREDIR=/home/crash\n")
        vm.run("mkdir -p /home/crash")
        watched.start()
        watched.wait_state("crash", "current")
        told = {c["name"]: _said(c) for c in watched.verify()["checks"]}
        checked = vm.run(f"{TIMED} kexecwatchctl check --json", check=False)
        roots = {c["name"]: _said(c) for c in json.loads(checked.stdout)["results"]}
        assert told == {name: roots[name] for name in told}
        assert list(told) == [check.name for check in CHECKS if check.cheap]
        assert told["permission"] == ("ok", "yes, any number of times")
        figures(check_seconds=float(checked.stderr.split()[-1]))

        vm.run("sysctl -w kernel.kexec_load_disabled=1")
        for _ in range(2):
            status = watched.verify()
        found = "permission: no: kernel.kexec_load_disabled is 1"
        property_of = "busctl --json=short get-property org.kexecwatch1 /org/kexecwatch1"
        shown = vm.run(f"{property_of} org.kexecwatch1.Manager CheckProblems").text
        assert found in json.loads(shown)["data"]
        entries = [e for e in watched.journal() if e.fields.get("CHECK") == "permission"]
        assert [e.fields["ANSWER"] for e in entries] == ["problem"]
        screen = vm.run(f"{NOBODY} kexecwatchctl status", check=False)
        assert "problem      May images be loaded? no: kernel.kexec_load_disabled" in screen.text
        assert "what to do: kexecwatchctl check " in screen.text
        # Whether the images are right is another question.
        covered = all(image["covered"] for image in status["images"])
        assert screen.code == (0 if covered else 3)
        assert status["images"][0]["covered"]
        assert "found by kexecwatchctl check" in vm.run("systemctl status kexecwatchd").text


def _said(result: dict[str, Any]) -> tuple[str, str]:
    """Answer and summary; figures such as free space may differ from one moment to the next."""
    return result["answer"], re.sub(r"[0-9][0-9.]*", "N", result["summary"])


def test_an_overflowing_socket_loses_nothing(guest: Guest) -> None:
    """Stop the daemon, overrun its socket, and change memory among the events that are lost."""
    with guest("6.1") as watched:
        vm = watched.vm
        watched.configure(crash="ensure")
        watched.start()
        before = watched.wait_state("crash", "current")
        vm.run("systemctl kill -s STOP kexecwatchd")
        flood = (
            "import pathlib\n"
            "files = list(pathlib.Path('/sys/devices/system/memory').glob('memory*/uevent'))\n"
            "for n in range(80000 // len(files) + 1):\n"
            "    for f in files: f.write_text('change')\n"
        )
        vm.put("/run/flood.py", flood.encode())
        vm.run("systemctl stop systemd-udevd-kernel.socket systemd-udevd", check=False)
        vm.run("python3 /run/flood.py", timeout=1800)
        vm.plug_dimm("d0", "128M")
        vm.run("systemctl kill -s CONT kexecwatchd")
        watched.wait_reloaded("crash", before)
        assert any("overflowed" in e.message for e in watched.journal())
