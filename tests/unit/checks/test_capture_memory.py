# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the capture kernel have enough memory?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from kexecwatchd.checks.capture_memory import CHECK
from kexecwatchd.checks.check import Answer, Finding
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources.reserved import RESERVATION, Reservation
from kexecwatchd.kernel.bootimage import BootImage
from tests.unit.kernel.trees import populate

from .machines import KDUMP_TOOLS, RELEASE, Case, answer_of
from .test_initrd import CONTENTS

MIB = 1 << 20
PATH = f"/boot/vmlinuz-{RELEASE}"
KERNEL = BootImage(2047, True, 56 * MIB, True, release=RELEASE)
SMALL = {**asdict(CONTENTS), "packed": 2 * MIB, "pages": 5 * MIB, "buffers": 64 << 10}
FILES: Mapping[str, str | bytes | None] = {
    **KDUMP_TOOLS,
    "sys/devices/system/cpu/possible": "0-3\n",
}


def asks(low: int, high: int = 0, srat: bool = True, **others: object) -> dict[str, object]:
    region = Reservation(low * MIB, high * MIB, 44 * MIB, srat)
    return {
        "kernels": {PATH: asdict(KERNEL)},
        "capture-initrd": SMALL,
        "crash-reservation": asdict(region),
        **others,
    }


def ours(cmdline: str) -> dict[str, str | bytes | None]:
    """The same, with kexecwatchd.toml, which tells the command line."""
    table = (
        f'[crash]\nmode = "ensure"\nkernel = "{PATH}"\ninitrd = "/initrd"\ncmdline = "{cmdline}"\n'
    )
    return {**FILES, "etc/kexecwatchd/kexecwatchd.toml": table}


CASES = (
    Case("plenty", Answer.OK, "yes: about 155 MiB to start it, of 512 MiB reserved", FILES,
         asks(512)),
    Case("tight", Answer.WARNING, "about 155 MiB to start it, which leaves little of the 192 MiB",
         FILES, asks(192)),
    Case("by luck", Answer.WARNING, "by luck only: about 155 MiB are needed", FILES, asks(96)),
    Case("too little", Answer.PROBLEM, "no: about 155 MiB are needed to start it, 88 MiB are",
         FILES, asks(88)),
    Case("two parts count as one", Answer.OK, "of 384 MiB reserved", FILES, asks(256, 128)),
    Case("all in the low part", Answer.PROBLEM, "no: 61 MiB in one piece are needed to load it, and"
         " 48 MiB are reserved for that", FILES, asks(512, 48)),
    Case("nothing reserved", Answer.NOT_APPLICABLE, "no memory is reserved", FILES, asks(0)),
    Case("no crash image", Answer.NOT_APPLICABLE, "no kernel and initrd"),
    Case("another architecture", Answer.CANNOT_TELL, "not of aarch64",
         {**FILES, "proc/sys/kernel/arch": "aarch64\n"}, asks(512)),
    Case("a bad kernel", Answer.CANNOT_TELL, "too short", FILES,
         asks(512, kernels={PATH: "too short for a bzImage"})),
    Case("no library", Answer.CANNOT_TELL, "install python3-lz4", FILES,
         {**asks(512), "capture-initrd": "it is packed with lz4: install python3-lz4"}),
)  # fmt: skip


def needed(files: Mapping[str, str | bytes | None], told: dict[str, object], root: Path) -> int:
    finding = answer_of(CHECK, Case("", Answer.OK, "yes", files, told), root)
    value = finding.facts["needed"]
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize(
    ("cmdline", "more"),
    [
        ("root=/dev/vda1 nr_cpus=1", 0),
        ("nr_cpus=1", 0),  # tmpfs, but a small initrd
        ("root=/dev/vda1 nr_cpus=2", 4.5),
        ("root=/dev/vda1 nr_cpus=64", 13.5),  # only four can be there
        ("root=/dev/vda1 nr_cpus=0", 13.5),
        ("root=/dev/vda1", 13.5),
        ("root=/dev/vda1 maxcpus=1", 1.5),
        ("root=/dev/vda1 nr_cpus=1 swiotlb=16384", -32.375),
        ("root=/dev/vda1 nr_cpus=1 swiotlb=16384,1,noforce", -64.75),
        ("root=/dev/vda1 nr_cpus=1 swiotlb=noforce", -64.75),
        ("root=/dev/vda1 nr_cpus=1 iommu=off", -64.75),
    ],
)
def test_the_command_line_counts(cmdline: str, more: float, tmp_path: Path) -> None:
    usual = needed(FILES, asks(512), tmp_path / "usual")
    own = needed(ours(cmdline), asks(512), tmp_path / "own")
    # Page structures come in steps of 2 MiB.
    assert (own - usual) / MIB in (more, more + 2, more - 2)


def test_without_memory_above_4_gib_there_are_no_bounce_buffers(tmp_path: Path) -> None:
    usual = needed(FILES, asks(512), tmp_path / "usual")
    assert usual - needed(FILES, asks(512, srat=False), tmp_path / "low") >= 64 * MIB
    # Its own region is such memory.
    assert needed(FILES, asks(256, 256, srat=False), tmp_path / "high") == usual


def test_a_kernel_may_do_without_an_initrd(tmp_path: Path) -> None:
    with_one = ours("root=/dev/vda1 nr_cpus=1")
    table = str(with_one["etc/kexecwatchd/kexecwatchd.toml"])
    files = {
        **with_one,
        "etc/kexecwatchd/kexecwatchd.toml": table.replace('initrd = "/initrd"\n', ""),
    }
    told = {key: value for key, value in asks(512).items() if key != "capture-initrd"}
    less = needed(with_one, asks(512), tmp_path / "with") - needed(
        files, told, tmp_path / "without"
    )
    assert less >= 7 * MIB
    assert "initrd, unpacked" not in str(
        answer_of(CHECK, Case("", Answer.OK, "yes", files, told), tmp_path / "parts").facts
    )


def test_another_kernel_counts_as_it_is_loaded(tmp_path: Path) -> None:
    usual = needed(FILES, asks(512), tmp_path / "usual")
    kernels = {PATH: {**asdict(KERNEL), "release": "6.12-other"}}
    assert needed(FILES, asks(512, kernels=kernels), tmp_path / "other") - usual == 12 * MIB


def test_a_large_initrd_wants_no_tmpfs(tmp_path: Path) -> None:
    """Without a root=, half of the memory must be free for nothing."""
    told = {**asks(1024), "capture-initrd": asdict(CONTENTS)}
    ramfs = needed(ours("root=/dev/vda1 nr_cpus=1"), told, tmp_path / "ramfs")
    tmpfs = needed(ours("nr_cpus=1"), told, tmp_path / "tmpfs")
    assert 30 * MIB < tmpfs - ramfs < 45 * MIB
    case = Case("", Answer.WARNING, "tight", ours("nr_cpus=1"), {**told, **size(320)})
    assert "have a root=" in answer_of(CHECK, case, tmp_path / "tight").remedy


def size(low: int, high: int = 0) -> dict[str, object]:
    region = Reservation(low * MIB, high * MIB, 44 * MIB, srat=True)
    return {"crash-reservation": asdict(region)}


@pytest.mark.parametrize(
    ("cmdline", "low", "high", "setting"),
    [
        ("crashkernel=80M", 80, 0, "crashkernel=224M"),
        ("crashkernel=512M-:80M", 80, 0, "crashkernel=224M"),
        ("crashkernel=16M,high crashkernel=64M,low", 64, 16,
         "crashkernel=160M,high crashkernel=64M,low"),
        ("crashkernel=16M,high", 64, 16, "crashkernel=160M,high"),
        ("crashkernel=16M", 64, 16, "crashkernel=160M"),
    ],
)  # fmt: skip
def test_the_setting_keeps_its_form(
    cmdline: str, low: int, high: int, setting: str, tmp_path: Path
) -> None:
    files = {**FILES, "proc/cmdline": f"root=/dev/vda1 {cmdline}\n"}
    case = Case("", Answer.PROBLEM, "no", files, {**asks(0), **size(low, high)})
    finding: Finding = answer_of(CHECK, case, tmp_path)
    assert f"Set {setting} in the boot loader" in finding.remedy


def test_the_high_part_alone_must_take_the_image(tmp_path: Path) -> None:
    """Though the rest could be in the low part."""
    files = {**FILES, "proc/cmdline": "root=/dev/vda1 crashkernel=150M,high crashkernel=200M,low\n"}
    told = {**asks(200, 150), "capture-initrd": {**SMALL, "packed": 300 * MIB}}
    finding = answer_of(CHECK, Case("", Answer.PROBLEM, "in one piece", files, told), tmp_path)
    assert "crashkernel=368M,high crashkernel=200M,low" in finding.remedy


def test_largest_parts_come_first(tmp_path: Path) -> None:
    parts = answer_of(CHECK, CASES[0], tmp_path).facts["parts"]
    assert isinstance(parts, list)
    sizes = [amount for _, amount in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert parts[0][0].startswith("bounce buffers")


@pytest.mark.parametrize(
    ("cmdline", "fewer"), [("nr_cpus=1", False), ("nr_cpus=2", True), ("maxcpus=1", True)]
)
def test_fewer_cpus_need_less(cmdline: str, fewer: bool, tmp_path: Path) -> None:
    """maxcpus= leaves room for all that could come."""
    case = Case("", Answer.WARNING, "tight", ours(f"root=/dev/vda1 {cmdline}"), asks(192))
    remedy = answer_of(CHECK, case, tmp_path).remedy
    assert ("start it with nr_cpus=1" in remedy) is fewer
    assert "have a root=" not in remedy
    assert "make its initrd smaller" in remedy


def test_the_reservation_has_sizes_only(tmp_path: Path) -> None:
    populate(
        tmp_path,
        {
            "proc/iomem": "00100000-7fffffff : System RAM\n"
            "  01000000-01ffffff : Kernel code\n"
            "  03800000-03bfffff : Kernel bss\n"
            "  20000000-2fffffff : Crash kernel\n"
            "100000000-13fffffff : System RAM\n"
            "  120000000-137ffffff : Crash kernel\n",
            "sys/firmware/acpi/tables/SRAT": b"SRAT",
        },
    )
    found = Host(tmp_path).ask(RESERVATION)
    assert found == Reservation(256 * MIB, 384 * MIB, 44 * MIB, srat=True)
    assert (found.total, found.main) == (640 * MIB, 384 * MIB)
