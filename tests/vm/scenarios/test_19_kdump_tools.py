# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain Debian 13 with kdump-tools: `kexecwatchctl check` tells the truth about its udev rule.

kdump-tools comes from Debian's own package, with its defaults, on the lab's Debian 13. Three things
are not as on a user's machine. The initrd is the lab's, put where kdump-tools looks for it, since
building one takes minutes under emulation; so nothing that kdump-tools recommends is installed
(initramfs-tools, makedumpfile). The kernel of most of it is that of Debian 12, which does not
follow hot-added memory by itself; Debian 13's own comes last. And kexecwatchd is there to be asked,
but masked: its service never runs.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from tests.vm.lab import Lab, Machine
from tests.vm.scenarios.conftest import Figures
from tests.vm.watched import INSTALL, Watched, lists

INSTALL_KDUMP_TOOLS = (
    "systemctl mask kexecwatchd",
    "DEBIAN_FRONTEND=noninteractive dpkg -i /debs/*.deb >/debs/log 2>&1 || (cat /debs/log; false)",
    # Not before: the package removes what does not look like its own.
    "cp -L /lab/initrd /var/lib/kdump/initrd.img-$(uname -r)",
    "systemctl restart kdump-tools",
    "grep -qx 1 /sys/kernel/kexec_crash_loaded || { journalctl -u kdump-tools >&2; exit 1; }",
)
ONLINE = (
    "for f in /sys/devices/system/memory/memory*/state; do"
    " grep -qx online $f || echo online >$f; done; udevadm settle"
)
OTHERS = ("permission", "lockdown", "boot-files", "read-back", "panic", "dump-target")
DROP_IN = "/etc/systemd/system/systemd-udevd.service.d/override.conf"
FAILED = "failed to unload kdump kernel"


Debian = Callable[[str], AbstractContextManager[Machine]]


@pytest.fixture
def debian(lab: Lab, payload: Path, tmp_path: Path) -> Debian:
    """debian("6.1"): the guest; a crash image is loaded, by kdump-tools.service."""
    archive = tmp_path / "kdump-tools.tar"
    archive.write_bytes(payload.read_bytes())
    with tarfile.open(archive, "a") as tar:
        for package in lab.packages("kdump-tools"):
            member = tarfile.TarInfo(f"debs/{package.name}")
            member.size, member.mode = package.stat().st_size, 0o644
            tar.addfile(member, io.BytesIO(package.read_bytes()))
    install = (*INSTALL[:-1], *INSTALL_KDUMP_TOOLS)
    return lambda kernel: lab.machine(kernel, payload=archive, install=install)


def ask(vm: Machine, *names: str) -> list[dict[str, Any]]:
    """What `kexecwatchctl check` answers, to these questions or to all."""
    report = json.loads(vm.run(f"kexecwatchctl check --json {' '.join(names)}", check=False).text)
    results: list[dict[str, Any]] = report["results"]
    return results


def check(vm: Machine, name: str) -> dict[str, Any]:
    """The answer to one question."""
    return ask(vm, name)[0]


def failures(vm: Machine) -> int:
    """How often the journal says that kdump-config could not unload."""
    said = vm.run("journalctl -b -t kdump-config -o cat --no-pager", check=False).text
    return said.count(FAILED)


def plug(vm: Machine, name: str, size: str) -> tuple[int, int]:
    """Hot-add a DIMM, put it online, and wait for udev; where it is."""
    dimm = vm.plug_dimm(name, size)
    vm.run(ONLINE)
    return dimm.start, dimm.end


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
        vm.put(DROP_IN, b"[Service]\nSystemCallFilter=@reboot\n")
        vm.run("systemctl daemon-reload; systemctl restart systemd-udevd.service")
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
