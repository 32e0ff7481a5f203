# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 23, Linux 6.1: an upgrade replaces the kernel and initrd that are loaded.

An initrd that is written in place is not loaded before it is complete, and what captures the dump
after that is the new one. Links that lead to another kernel have that one loaded.
"""

from __future__ import annotations

import pytest

from tests.vm.lab import Lab, cpio
from tests.vm.lab.machine import Machine
from tests.vm.lab.process import GuestProcess
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import Watched

pytestmark = pytest.mark.vm

FILES = "/etc/kexecwatchd/files"
NEW = "/run/new-initrd"

# A cut between two whole archives could pass for an initrd: this one is cut in the middle of the
# last. First it stays open without a word, then it is closed after each piece.
WRITER = f"""
set -e
size=$(stat -c %s {NEW})
half=$((size / 2))
rest=$((size - half))
{{
	head -c $half {NEW}
	until [ -e /run/go ]; do sleep 0.5; done
}} >{FILES}/initrd
for part in 1 2 3 4; do
	end=$((half + rest * part / 4))
	start=$((half + rest * (part - 1) / 4))
	sleep 8
	tail -c +$((start + 1)) {NEW} | head -c $((end - start)) >>{FILES}/initrd
done
cmp {NEW} {FILES}/initrd
"""


def new_initrd(vm: Machine) -> None:
    """The initrd with a file before it that the old one does not have."""
    archive = cpio.Archive()
    archive.file("generation", b"the new one\n")
    vm.put("/run/generation.cpio", archive.finish())
    vm.run(f"cat /run/generation.cpio /lab/initrd >{NEW}")


def lay_out(vm: Machine) -> None:
    vm.run(f"mkdir -p {FILES} && cp -L /lab/vmlinuz /lab/initrd {FILES}/")


def begin(vm: Machine) -> GuestProcess:
    """Begin to write the new initrd over the old one; half of it is there now."""
    writer = vm.spawn(WRITER)
    half = int(vm.run(f"stat -c %s {NEW}").text) // 2
    vm.run(f"until [ $(stat -c %s {FILES}/initrd) = {half} ]; do sleep 0.2; done")
    return writer


def links(vm: Machine, release: str) -> None:
    """What a package's scripts do: re-point the links, one after the other."""
    for name in ("vmlinuz", "initrd.img"):
        vm.run(f"ln -sfn {name}-{release} /boot/{name}")


def configure(watched: Watched, kernel: str, initrd: str) -> None:
    watched.configure(crash="ensure")
    watched.vm.run(
        f"sed -i -e 's,/lab/vmlinuz,{kernel},' -e 's,/lab/initrd,{initrd},'"
        " /etc/kexecwatchd/kexecwatchd.toml"
    )


def settled(watched: Watched) -> int:
    """How often it has been loaded, once nothing is waited for any more."""
    watched.vm.run("sleep 15")
    watched.verify()
    image = watched.image("crash")
    assert (image["state"], image["next_step"]) == ("current", "")
    return int(image["load_count"])


def test_a_new_initrd_is_loaded_once_and_when_it_is_complete(
    guest: Guest, figures: Figures
) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        lay_out(vm)
        new_initrd(vm)
        configure(watched, f"{FILES}/vmlinuz", f"{FILES}/initrd")
        watched.start()
        before = watched.wait_state("crash", "current")
        assert settled(watched) == before["load_count"]
        writer = begin(vm)
        watched.verify()
        waiting = watched.image("crash")
        assert "a new initrd is being written" in waiting["next_step"]
        assert (waiting["state"], waiting["loaded"]) == ("current", True)
        vm.run("sleep 15")
        watched.verify()
        assert watched.image("crash")["load_count"] == before["load_count"]
        vm.run("touch /run/go")
        assert writer.wait().code == 0
        complete = float(vm.run("cut -d' ' -f1 /proc/uptime").text)
        watched.wait_reloaded("crash", before)
        assert settled(watched) == before["load_count"] + 1
        load = watched.loads("crash")[-1]
        assert "the initrd on disk was replaced" in load.message
        assert load.fields["SOURCE"] == "configured"
        figures(complete_to_proven=round(load.at - complete, 1))
        assert vm.panic().run("cat /generation").text == "the new one"


def test_links_that_lead_to_another_kernel(guest: Guest, lab: Lab) -> None:
    with guest("6.1") as watched:
        vm = watched.vm
        links(vm, lab.release("6.1"))
        configure(watched, "/boot/vmlinuz", "/boot/initrd.img")
        watched.start()
        before = watched.wait_state("crash", "current")
        links(vm, lab.release("6.12"))
        watched.wait_reloaded("crash", before)
        assert settled(watched) == before["load_count"] + 1
        load = watched.loads("crash")[-1]
        assert "the kernel and initrd on disk were replaced" in load.message
        assert vm.panic().run("uname -r").text == lab.release("6.12")


def test_control_the_old_ones_stay(bare: Guest, lab: Lab) -> None:
    with bare("6.1") as watched:
        vm = watched.vm
        links(vm, lab.release("6.1"))
        new_initrd(vm)
        vm.run("ln -sfn /boot/vmlinuz /lab/vmlinuz; ln -sfn /boot/initrd.img /lab/initrd")
        bare_load(vm, "crash")
        links(vm, lab.release("6.12"))
        vm.run(f"cp {NEW} /boot/initrd.img-{lab.release('6.12')}; sync")
        capture = vm.panic()
        assert capture.run("uname -r").text == lab.release("6.1")
        assert capture.run("cat /generation", check=False).code != 0
