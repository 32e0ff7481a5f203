# SPDX-License-Identifier: GPL-2.0-or-later
"""What people and programs are told and may ask, Linux 6.1: real polkit, bus and journal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vm.scenarios.conftest import Guest
from tests.vm.watched import Watched

pytestmark = pytest.mark.vm

NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
CALL = "busctl call org.kexecwatch1 /org/kexecwatch1 org.kexecwatch1.Manager"
RULE = """polkit.addRule(function(action, subject) {
    if (action.id == "org.kexecwatch1.reload" && action.lookup("image") == "crash" &&
        subject.user == "nobody")
        return polkit.Result.YES;
});
"""
# As many events as a machine gives that gets 480 GiB: 3,840 memory blocks of 128 MiB.
STORM = """import pathlib
files = list(pathlib.Path('/sys/devices/system/memory').glob('memory*/uevent'))
for n in range(3840):
    files[n % len(files)].write_text('change')
"""


def history(watched: Watched) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(watched.vm.run("kexecwatchctl history --json").text)[
        "decisions"
    ]
    return found


def test_polkit_decides_who_may_change_something(guest: Guest) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        watched.configure(crash="ensure", reboot="ensure")
        watched.start()
        before = watched.wait_state("crash", "current")
        watched.wait_state("reboot", "current")

        def asks(what: str) -> str:
            answer = vm.run(f"{NOBODY} {CALL} {what}", check=False)
            return "" if answer.code == 0 else answer.stderr.decode()

        changes = ("Reload s crash", "Discard s crash", "SetMode ss crash off", "Hold ss me idle")
        for change in changes:
            assert "authenticate" in asks(change), change
        assert "enied" in asks("GetDetails")
        vm.put("/etc/polkit-1/rules.d/10-lab.rules", RULE.encode())
        vm.run(
            "until ! pgrep polkitd || busctl --quiet status org.freedesktop.PolicyKit1; do :; done"
        )
        assert asks("Reload s crash") == ""
        for refused in ("Reload s reboot", *changes[1:]):
            assert "authenticate" in asks(refused), refused
        after = watched.wait_state("crash", "current")
        assert after["load_count"] == before["load_count"] + 1
        assert [(d["action"], d["by"]) for d in history(watched)][-1] == ("load", "uid 65534")
        assert watched.image("reboot")["load_count"] == 1


def test_a_hold_lasts_as_long_as_its_holder(guest: Guest) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        watched.configure(crash="ensure")
        watched.start()
        before = watched.wait_state("crash", "current")
        hold = vm.spawn("exec kexecwatchctl hold --who lab --why work sleep 1000")
        watched.wait_status(lambda s: [h["who"] for h in s["holds"]] == ["lab"])
        vm.plug_dimm("d0", "128M")
        vm.run("systemctl restart kexecwatchd")
        status = watched.verify()
        assert [h["who"] for h in status["holds"]] == ["lab"]
        image = watched.wait_state("crash", "stale")
        assert image["load_count"] == before["load_count"]
        assert "lab" in image["next_step"]
        refused = vm.run(f"{CALL} Reload s crash", check=False)
        assert "lab" in refused.stderr.decode()
        # Killed without a chance to say goodbye: its name on the bus goes with it.
        hold.signal("KILL")
        watched.wait_reloaded("crash", before)
        assert watched.status()["holds"] == []


def test_thousands_of_events_are_one_entry(guest: Guest) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        watched.configure(
            crash="ensure", pacing="unarmed_budget = 1.0\nquiet = 3.0\nmax_wait = 600"
        )
        watched.start()
        before = watched.wait_state("crash", "current")
        vm.put("/run/storm.py", STORM.encode())
        told = len(watched.journal())
        vm.plug_dimm("d0", "2G", wait=False)
        vm.run("python3 /run/storm.py", timeout=1800)
        watched.wait_reloaded("crash", before)
        (entry,) = watched.journal()[told:]
        assert (entry.fields["ACTION"], entry.fields["VERDICT"]) == ("load", "current")
        assert int(entry.fields["MISSING_BYTES"]) == 2 << 30
        assert int(entry.fields["DURATION_USEC"]) >= int(entry.fields["UNARMED_USEC"]) > 0
        decision = history(watched)[-1]
        assert entry.fields["DECISION"] == str(decision["number"])
        assert decision["drift"]["missing_bytes"] == 2 << 30
        explained = vm.run("journalctl --no-pager -x -n 1 -u kexecwatchd -t kexecwatchd").text
        assert "Subject: The crash image was loaded" in explained
        assert "What to do: " in explained
        told_fleet = vm.run(f"{NOBODY} cat /run/kexecwatchd/kexecwatchd.prom").text
        assert 'kexecwatch_image_covered{image="crash"} 1' in told_fleet
