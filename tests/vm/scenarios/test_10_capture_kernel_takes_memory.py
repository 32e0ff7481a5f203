# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 10, Linux 6.12: a capture kernel that would take hot-added memory for its own.

ACPI offers the DIMM to it as it did to the first kernel. Without acpi_no_memhotplug it adds the
DIMM to its own memory, and the dump of exactly the memory that came late cannot be read.
"""

from __future__ import annotations

import pytest

from tests.vm.lab import CommandFailed
from tests.vm.scenarios.conftest import Guest
from tests.vm.scenarios.measure import bare_load, first_json
from tests.vm.watched import CRASH_CMDLINE

pytestmark = pytest.mark.vm

WITHOUT = CRASH_CMDLINE.replace(" acpi_no_memhotplug", "")


def test_an_image_of_ours_is_loaded_in_its_place(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "crash", WITHOUT)
        watched.configure(crash="follow")
        watched.start()
        foreign = watched.wait_state("crash", "current")
        assert foreign["foreign"]
        dimm = vm.plug_dimm("d0", "128M")
        ours = watched.wait_reloaded("crash", foreign)
        assert not ours["foreign"]
        [load] = watched.loads("crash")
        assert (load.fields["SEEN"], load.fields["VERDICT"]) == ("unsafe", "current")
        assert "acpi_no_memhotplug" in load.message
        found = first_json(vm.spawn(f"python3 /lab/pattern.py {dimm.start:#x} {dimm.end:#x}"))
        capture = vm.panic()
        pattern = bytes.fromhex(found["pattern"])
        assert capture.read_phys(found["address"], len(pattern)) == pattern


def test_without_files_of_ours_it_is_told(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "crash", WITHOUT)
        vm.put("/etc/kexecwatchd/kexecwatchd.toml", b'[crash]\nmode = "follow"\n')
        watched.start()
        watched.wait_state("crash", "current")
        vm.plug_dimm("d0", "128M")
        unsafe = watched.wait_state("crash", "unsafe")
        assert "acpi_no_memhotplug" in unsafe["reason"]
        assert unsafe["drift"]["missing_bytes"] == 0
        assert not unsafe["covered"]
        assert vm.run("kexecwatchctl status", check=False).code == 3


def test_control_the_dump_of_it_cannot_be_read(bare: Guest) -> None:
    with bare("6.12") as watched:
        vm = watched.vm
        bare_load(vm, "crash", WITHOUT)
        dimm = vm.plug_dimm("d0", "128M")
        found = first_json(vm.spawn(f"python3 /lab/pattern.py {dimm.start:#x} {dimm.end:#x}"))
        capture = vm.panic()
        with pytest.raises(CommandFailed):
            capture.read_phys(found["address"], 4096)
