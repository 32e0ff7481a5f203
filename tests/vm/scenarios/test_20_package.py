# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 20, Linux 6.12 under Debian 13: the Debian package, from installation to purge.

apt gets no lists and no network, only the file and what the guest has. The control is the same list
of files after the removal: what it must show then, a purge must have taken away.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd import __version__
from tests.vm.lab.machine import Machine
from tests.vm.scenarios.conftest import Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import ROOT, Watched, loaded
from tools import package

pytestmark = pytest.mark.vm

OLD_VERSION = "0.0.9~test"
OLD, NEW = "/root/old.deb", "/root/new.deb"
UNIT = "kexecwatchd.service"
NEVER_STARTED = "kexecwatchd-boot-memory.service", "kexecwatchd-kexec-check.service"
OURS = "/etc/kexecwatchd", "/run/kexecwatchd", "/var/lib/kexecwatchd"
# What apt, dpkg and systemd keep of any package, and of none.
THEIRS = "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log", "/var/lib/systemd/catalog"
RULE = "udev/rules.d/50-kdump-tools.rules"

Packages = dict[str, bytes]


@pytest.fixture(scope="session")
def packages(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The package of this tree, and one of the same tree that calls itself older."""
    scratch = tmp_path_factory.mktemp("package")
    old = scratch / "tree"
    package.export(ROOT, package.sources(ROOT), old)
    for name in ("kexecwatchd/__init__.py", "packaging/debian/changelog"):
        text = (old / name).read_text()
        (old / name).write_text(text.replace(__version__, OLD_VERSION, 1))
    (old / "kexecwatchd/gone.py").touch()
    with (old / "packaging/kexecwatchd.toml").open("a") as file:
        file.write("# what was said here is said no more\n")
    return {
        OLD: package.build("deb", old, scratch / "build", scratch).read_bytes(),
        NEW: deb.read_bytes(),
    }


def apt(vm: Machine, words: str) -> str:
    """What apt-get says; whoever changed a configuration file wants to keep it."""
    options = "--yes --no-install-recommends -o Dpkg::Options::=--force-confold"
    return vm.run(f"DEBIAN_FRONTEND=noninteractive apt-get -q {options} {words}").text


def files(vm: Machine) -> set[str]:
    """Every file and directory of the guest but those that are its package management's."""
    vm.run("sync")
    listed = vm.run(f"find / -xdev -print; find {' '.join(OURS)} -print", check=False).text
    return {
        line
        for line in listed.splitlines()
        if not any(line == place or line.startswith(f"{place}/") for place in THEIRS)
    }


def version(vm: Machine) -> str:
    return vm.run("kexecwatchd --version").text.split()[-1]


def is_(what: str, vm: Machine) -> str:
    """is_("active", vm) and is_("enabled", vm): systemd's word."""
    return vm.run(f"systemctl is-{what} {UNIT}", check=False).text


def main_pid(vm: Machine) -> str:
    return vm.run(f"systemctl show -P MainPID {UNIT}").text


def known(watched: Watched) -> tuple[object, ...]:
    """What must outlive the daemon: the record of its loads and decisions, and of this boot."""
    history = watched.vm.run("kexecwatchctl history --json").text
    boot = watched.vm.get("/run/kexecwatchd/boot-memory.json")
    return history, boot, [(i["state"], i["load_count"]) for i in watched.verify()["images"]]


def test_from_the_first_installation_to_the_purge(bare: Guest, packages: Packages) -> None:
    with bare("6.12") as watched:
        vm = watched.vm
        for path, content in packages.items():
            vm.put(path, content)
        before = files(vm)
        bare_load(vm, "crash")

        said = apt(vm, f"install {OLD}")
        assert "takeover" not in said
        assert (is_("active", vm), is_("enabled", vm), version(vm)) == (
            "active",
            "enabled",
            OLD_VERSION,
        )
        assert "kexecwatchd" in vm.run("journalctl --list-catalog").text
        assert watched.image("crash")["foreign"]
        watched.configure(crash="follow", reboot="ensure")
        configuration = vm.get("/etc/kexecwatchd/kexecwatchd.toml")
        vm.run(f"systemctl reload {UNIT}")
        watched.wait_state("crash", "current")
        watched.wait_state("reboot", "current")
        knew, was = known(watched), main_pid(vm)

        apt(vm, f"install {NEW}")
        assert version(vm) == __version__
        assert (is_("active", vm), is_("enabled", vm)) == ("active", "enabled")
        assert main_pid(vm) != was
        assert known(watched) == knew
        assert vm.get("/etc/kexecwatchd/kexecwatchd.toml") == configuration
        vm.run("test -e /etc/kexecwatchd/kexecwatchd.toml.dpkg-dist")  # the package's has changed
        assert loaded(vm) == ["1", "1"]
        assert not [file for file in files(vm) if Path(file).stem == "gone"]
        for unit in NEVER_STARTED:
            assert vm.run(f"systemctl show -P InvocationID {unit}").text == ""

        apt(vm, "remove kexecwatchd")
        assert loaded(vm) == ["1", "1"]
        assert is_("active", vm) == "inactive"
        for listing in ("list-unit-files", "list-units"):
            found = vm.run(f"systemctl {listing} --no-legend '*kexecwatchd*'", check=False)
            assert found.text == ""
        left = files(vm) - before
        assert {*OURS, "/etc/kexecwatchd/kexecwatchd.toml"} <= left
        assert not [file for file in left if file.startswith("/usr/")]

        apt(vm, f"install {NEW}")
        assert (is_("active", vm), is_("enabled", vm)) == ("active", "enabled")
        assert known(watched) == knew
        assert vm.get("/etc/kexecwatchd/kexecwatchd.toml") == configuration

        apt(vm, "purge kexecwatchd")
        assert loaded(vm) == ["1", "1"]
        assert files(vm) - before == set()
        assert before - files(vm) == set()

        apt(vm, f"install {NEW}")
        assert is_("active", vm) == "active"
        assert watched.verify()["images"][0]["foreign"]


def test_what_the_administrator_decided_is_kept(bare: Guest, packages: Packages) -> None:
    with bare("6.12") as watched:
        vm = watched.vm
        for path, content in packages.items():
            vm.put(path, content)
        vm.put(f"/usr/lib/{RULE}", b"# a rule\n")

        # The rule of another tool is told of, once, and left alone.
        said = apt(vm, f"install {OLD}")
        assert said.count("kexecwatchctl takeover") == 1
        assert vm.run(f"ls /etc/{RULE}", check=False).code != 0
        vm.run(f"systemctl disable --now {UNIT}")
        said = apt(vm, f"install {NEW}")
        assert "takeover" not in said
        assert (is_("active", vm), is_("enabled", vm)) == ("inactive", "disabled")

        # Who installed it and never started it has the first memory event do so: udev found the
        # rule by itself.
        vm.run("rm -r /run/kexecwatchd/daemon")
        vm.plug_dimm("d0", "128M")
        vm.run(f"until systemctl -q is-active {UNIT}; do sleep 0.5; done")
        assert is_("enabled", vm) == "disabled"

        # A takeover ends with the package, not with an upgrade.
        vm.put("/var/lib/kexecwatchd/takeover.json", b"{}")
        stub = b'#!/bin/sh\necho "$@" >>/run/asked\n'
        vm.put("/usr/bin/kexecwatchctl", stub, 0o755)
        apt(vm, f"install --reinstall {NEW}")
        assert vm.run("cat /run/asked", check=False).text == ""
        vm.put("/usr/bin/kexecwatchctl", stub, 0o755)
        apt(vm, "remove kexecwatchd")
        assert vm.run("cat /run/asked").text == "takeover --revert"
