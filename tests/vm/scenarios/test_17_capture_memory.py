# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 17, Linux 6.12: does the capture kernel have enough memory?

A reservation can be made smaller while the kernel runs (kexec_crash_size). With what the estimate
says, the capture kernel comes up with all of its initrd; with clearly less it does not.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from kexecwatchd.capturememory import BOUNCE, Capture, estimate
from kexecwatchd.kernel import bootimage, initrd_contents, iomem
from tests.unit.kernel.trees import file_of, populate
from tests.vm.lab import Capture as Captured
from tests.vm.lab import Machine, MachineDied
from tests.vm.lab.cpio import Archive
from tests.vm.scenarios.conftest import Figures, Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import CRASH_CMDLINE

pytestmark = pytest.mark.vm

MIB = 1 << 20
LARGE = 24 * MIB
# QEMU is to end when the capture kernel panics, not to stand still.
CMDLINE = f"{CRASH_CMDLINE} panic=-1"
# Bounce buffers shrink to what room they find, so with them less can be enough by chance.
NO_BOUNCE = f"{CMDLINE} swiotlb=noforce"


def needed(vm: Machine, tmp: Path, more: bytes = b"", *, bounce: int = 0, tmpfs: bool) -> int:
    """The estimate for the lab's own initrd with `more` behind it."""
    populate(tmp, {"proc/iomem": vm.run("cat /proc/iomem").text})
    with vm.spec.vmlinuz.open("rb") as file:
        kernel = bootimage.inspect(file.fileno(), "x86_64")
    with file_of(padded(vm) + more) as fd:
        contents = initrd_contents.read(fd, lambda path: "")
    running = iomem.read_kernel(tmp)
    assert running
    return estimate(
        Capture(
            init_size=kernel.memory_size,
            image=running.size,
            packed=contents.packed,
            pages=contents.pages,
            files=contents.files,
            buffers=contents.buffers,
            bounce=bounce,
            tmpfs=tmpfs,
        )
    ).needed


def padded(vm: Machine) -> bytes:
    """The lab's initrd, such that another archive can follow."""
    initrd = vm.spec.initramfs.read_bytes()
    return initrd + bytes(-len(initrd) % 4)


def archive(data: bytes) -> bytes:
    """A cpio archive with one file, /blob."""
    made = Archive()
    made.file("blob", data)
    return made.finish()


def add_large(vm: Machine) -> bytes:
    """Put a file of LARGE zeros, in an archive that is not packed, behind the guest's initrd; made
    there, because sending it would take long. Returns the archive."""
    made = archive(bytes(LARGE))
    start = made.index(bytes(LARGE))
    start += -start % 4
    vm.put("/root/before", padded(vm) + made[:start])
    vm.put("/root/after", made[start + LARGE :])
    vm.run(
        f"{{ cat /root/before; head -c {LARGE} /dev/zero; cat /root/after; }} >/root/initrd;"
        " ln -sfn /root/initrd /lab/initrd"
    )
    return made


def panic(vm: Machine, size: int, cmdline: str) -> Captured:
    """Load the crash image into a reservation of `size` bytes, and crash."""
    vm.run(f"echo {size} >/sys/kernel/kexec_crash_size")
    bare_load(vm, "crash", cmdline)
    return vm.panic()


def blob_size(captured: Captured) -> int:
    return int(captured.run("wc -c </blob").text)


def test_with_the_estimate_it_comes_up(bare: Guest, tmp_path: Path, figures: Figures) -> None:
    with bare("6.12") as watched:
        size = needed(watched.vm, tmp_path, bounce=BOUNCE, tmpfs=True)
        captured = panic(watched.vm, size, CMDLINE)
        free = captured.run("sed -n 's/^MemFree: *//p' /proc/meminfo").text
        figures(estimate_mib=round(size / MIB), free=free)


def test_with_a_large_initrd_too(bare: Guest, tmp_path: Path) -> None:
    with bare("6.12") as watched:
        size = needed(watched.vm, tmp_path, add_large(watched.vm), tmpfs=False)
        assert blob_size(panic(watched.vm, size, f"{NO_BOUNCE} root=/dev/vda")) == LARGE


def test_control_with_less_it_dies(bare: Guest, tmp_path: Path) -> None:
    with bare("6.12") as watched:
        size = needed(watched.vm, tmp_path, add_large(watched.vm), tmpfs=False)
        with pytest.raises(MachineDied):
            panic(watched.vm, size * 7 // 10, f"{NO_BOUNCE} root=/dev/vda")
        assert "Out of memory" in watched.vm.console.text()


def test_a_tmpfs_is_filled_by_half_only(bare: Guest, tmp_path: Path) -> None:
    """Memory that does for a ramfs: the capture kernel comes up, but its initrd is cut short."""
    more = zstandard.compress(archive(bytes(2 * LARGE)))
    with bare("6.12") as watched:
        vm = watched.vm
        vm.put("/root/initrd", padded(vm) + more)
        vm.run("ln -sfn /root/initrd /lab/initrd")
        size = needed(vm, tmp_path, more, tmpfs=False)
        assert size + 16 * MIB < needed(vm, tmp_path, more, tmpfs=True)
        panic(vm, size, NO_BOUNCE)
        assert "Initramfs unpacking failed: write error" in vm.console.text()
