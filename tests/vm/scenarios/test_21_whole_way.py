# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 21: the whole way on a stock Debian 13 with kdump-tools, to the dump that it writes.

The kernels' initrds, kdump's initrd, the crash image that kdump-tools.service loads at boot, the
system that runs after the panic and the dump are the work of Debian's own packages with their
defaults. kexecwatchd is installed with apt and not configured. The dump is taken from the disk of
the machine when that has ended, and read by drgn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm import dump
from tests.vm.lab import Lab, Machine, diskfiles
from tests.vm.lab.report import limit
from tests.vm.scenarios.conftest import Figures
from tests.vm.scenarios.kdumptools import plug
from tests.vm.scenarios.measure import first_json
from tests.vm.watched import Watched, lists

pytestmark = pytest.mark.vm

PAGES = 64


@dataclass(frozen=True)
class Found:
    """Where the pattern is in the dump, and how many pages of the DIMM are in it at all."""

    pattern: Sequence[int]
    pages: int


def wait_covered(vm: Machine) -> None:
    """Wait until the daemon, asked to look now, finds a crash image of its own to be current."""
    deadline = time.monotonic() + limit(600)
    while True:
        status = json.loads(vm.run("kexecwatchctl verify --json", check=False).text)
        crash = next(image for image in status["images"] if image["image"] == "crash")
        if crash["state"] == "current" and not crash["foreign"]:
            return
        assert time.monotonic() < deadline, json.dumps(status, indent=1)
        time.sleep(2)  # each look costs the guest a process


def crash(vm: Machine, dimm: tuple[int, int], directory: Path, figures: Figures) -> Found:
    """Fill pages, of which the DIMM has the most, crash, and look for them in the dump."""
    pattern = bytes.fromhex(first_json(vm.spawn(f"python3 /lab/pipes.py {PAGES}"))["pattern"])
    began = time.monotonic()
    vm.crash()
    assert vm.wait_exit(timeout=900) == "guest-reset", "kdump-tools ends with a reboot"
    captured = time.monotonic()
    files = diskfiles.extract(vm, "/var/crash", directory)
    [written] = [f for f in files if f.name.startswith("dump.")]
    found = Found(*dump.find(written, pattern, *dimm))
    figures(
        capture_seconds=round(captured - began),
        dump_mib=written.stat().st_size >> 20,
        dimm_pages_in_dump=found.pages,
        pages_found=f"{len(found.pattern)} of {PAGES}",
    )
    return found


@pytest.mark.parametrize("kernel", ["6.12", "6.1"])
def test_installed_and_no_more(
    lab: Lab, deb: Path, tmp_path: Path, figures: Figures, kernel: str
) -> None:
    with lab.stock(kernel) as vm:
        vm.put(f"/root/{deb.name}", deb.read_bytes())
        vm.run(f"apt install --yes /root/{deb.name}", timeout=900)
        dimm = plug(vm, "d0", "256M")
        wait_covered(vm)
        assert lists(Watched(vm).header()["loads"], *dimm)
        found = crash(vm, dimm, tmp_path, figures)
        assert len(found.pattern) == PAGES


def test_control_on_6_1_the_dump_lacks_the_memory(
    lab: Lab, tmp_path: Path, figures: Figures
) -> None:
    with lab.stock("6.1") as vm:
        dimm = plug(vm, "d0", "256M")
        assert crash(vm, dimm, tmp_path, figures).pages == 0


def test_control_on_6_12_the_dump_has_the_capture_system_in_its_place(
    lab: Lab, tmp_path: Path, figures: Figures
) -> None:
    """The kernel itself adds the DIMM to the image, but the command line lacks
    acpi_no_memhotplug: the system that writes the dump uses the DIMM for its own memory."""
    with lab.stock("6.12") as vm:
        dimm = plug(vm, "d0", "256M")
        assert lists(Watched(vm).header()["loads"], *dimm)
        found = crash(vm, dimm, tmp_path, figures)
        assert found.pages > 0, "nothing tells that it is not what it was"
        assert len(found.pattern) < PAGES
