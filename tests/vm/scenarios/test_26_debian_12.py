# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 26: a stock Debian 12 with kdump-tools, whose libraries are too old for us: with pip.

The commands are the README's, word for word; pip and apt find on the guest's disk what they ask
for. kdump-tools has loaded the crash image at boot, through kexec_load, and its own reload rule
fails at each event. kexecwatchd is not configured: it takes from kdump-tools what is to be loaded.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.vm.lab import Lab, wheels
from tests.vm.scenarios.kdumptools import failures, plug
from tests.vm.watched import ROOT, Watched, lists, loaded

pytestmark = pytest.mark.vm

# Debian 12 has them itself, new enough.
FROM_ARCHIVE = ("pyudev", "systemd-python")
FROM_SOURCE = ("sdnotify",)

# No network: pip looks on the disk, and apt does not ask a terminal.
OFFLINE = {
    "etc/pip.conf": b"[global]\nno-index = true\nfind-links = /srv/wheels\n",
    "etc/apt/apt.conf.d/90lab": b'APT::Get::Assume-Yes "true";\n',
}
# What is there, without what any program writes while it runs; no times, no sizes.
LIST = (
    "find / -xdev \\( -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log"
    " -o -path /var/cache \\) -prune -o -printf '%y %m %U %G %p %l\\n' | sort"
)
UNITS = "kexecwatchd.service kexecwatchd-boot-memory.service kexecwatchd-kexec-check.service"


def commands(section: str) -> list[list[str]]:
    """The blocks of commands in a section of the README."""
    text = (ROOT / "README.md").read_text()
    _, _, text = text.partition(f"\n### {section}\n")
    text = re.split(r"\n##+ ", text)[0]
    blocks = re.findall(r"(?:^    \S.*\n)+", text, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in blocks]


def requirements() -> tuple[list[str], list[str]]:
    """What pip is to find: as wheels, and what is built from source."""
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    pins = [line.strip() for line in lines if "==" in line]
    pins = [pin for pin in pins if pin.partition("==")[0] not in FROM_ARCHIVE]
    built = [pin for pin in pins if pin.partition("==")[0] in FROM_SOURCE]
    return [pin for pin in pins if pin not in built], built


@pytest.fixture
def payload(lab: Lab, tmp_path: Path) -> Path:
    """The wheel in /, and the libraries where pip looks."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,) = tmp_path.glob("*.whl")
    files = {wheel.name: wheel.read_bytes(), **OFFLINE}
    for library in wheels.fetch(lab.cache, *requirements()):
        files[f"srv/wheels/{library.name}"] = library.read_bytes()
    archive = tmp_path / "payload.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive


def test_from_the_readme_s_first_command_to_its_last(lab: Lab, payload: Path) -> None:
    (apt, *install, enable), remove = commands("With pip")
    assert enable == "systemctl enable --now kexecwatchd"
    with lab.stock("6.1", suite="bookworm", payload=payload) as vm:
        watched = Watched(vm)
        for command in (apt, f"{LIST} >/run/before", *install):
            vm.run(command, timeout=1800)
        assert loaded(vm)[0] == "1"
        verified = vm.run(f"cd /etc/systemd/system && systemd-analyze verify --man=no {UNITS} 2>&1")
        assert not [line for line in verified.text.splitlines() if "kexecwatch" in line]
        # The catalog is where journalctl looks.
        assert "kexecwatchd" in vm.run("journalctl --list-catalog").text
        again = vm.run("kexecwatchctl install-units --dry-run").text
        assert again == "Nothing is to be done."

        vm.run(enable)
        first = watched.wait_state("crash", "current")
        assert (first["foreign"], first["load_count"], first["mode"]) == (True, 0, "follow")

        # Their rule fails as in the control, or finds no image because ours is being loaded.
        dimm = plug(vm, "d0", "256M")
        now = watched.wait_reloaded("crash", first)
        assert not now["foreign"]
        assert lists(watched.header()["loads"], *dimm)
        said = vm.run("journalctl -b _PID=1 -o cat --no-pager").text
        assert not re.findall("^.*kexecwatch.*gnoring.*$", said, re.MULTILINE)

        masked = vm.run("systemctl mask kexecwatchd-kexec-check.service", check=False)

        for command in remove:
            vm.run(command)
        vm.run(f"{LIST} >/run/after")
        changed = vm.run("diff /run/before /run/after", check=False).text
        assert not changed, changed
        assert loaded(vm)[0] == "1"
        assert lists(watched.header()["loads"], *dimm)
        assert "kexecwatch" not in vm.run("systemctl list-units --all --no-legend").text
        assert masked.code != 0, "the README says that mask does not work there"
        assert b"already exists" in masked.stderr


def test_control_without_it_the_image_lacks_the_memory(lab: Lab) -> None:
    with lab.stock("6.1", suite="bookworm") as vm:
        assert loaded(vm)[0] == "1"
        dimm = plug(vm, "d0", "256M")
        assert failures(vm) >= 2, "the rule runs for each block of 128 MiB"
        assert not lists(Watched(vm).header()["loads"], *dimm)
