# SPDX-License-Identifier: GPL-2.0-or-later
"""Will the next boot reserve it again?

On machines that are made up (their odds: tests/unit/core/test_odds.py) and on a captured one, whose
kernel was booted 200 times (tests/vm/scenarios/test_16_kaslr_odds.py boots some).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks import next_boot
from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.doctor import examine
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources.runningkernel import RUNNING_KERNEL, RunningKernel
from kexecwatchd.odds import Boot
from tests.unit.core.test_odds import (
    FILE,
    GIB,
    MIB,
    NO_ROOM,
    ONE_PIECE,
    ONE_ROOM_OF_320,
    SIZE,
    Pieces,
    machine,
)
from tests.unit.kernel.test_boot_params import params
from tests.unit.kernel.test_firmware_map import packed
from tests.unit.kernel.test_srat import memory, srat
from tests.unit.kernel.trees import DATA, populate

from .machines import RELEASE, Case, answer_of, host_of

LOG = "Linux version 6.12"
KERNEL = asdict(RunningKernel(SIZE, FILE))
BOOT_PARAMS = "sys/kernel/boot_params/data"


def raw(boot: Boot, fields: Mapping[int, bytes]) -> bytes:
    """The boot_params that the kernel would show of it."""
    e820 = packed([(e.start, e.size, e.kind) for e in boot.params.entries])
    initrd = boot.params.initrd
    page = bytearray(4096)
    page[0x1E8] = len(boot.params.entries)
    page[0x2D0 : 0x2D0 + len(e820)] = e820
    given = {
        0x210: b"\x72\x83",
        0x214: struct.pack("<I", boot.params.loaded),
        0x218: struct.pack("<II", initrd.start, initrd.size) if initrd else b"",
        0x228: struct.pack("<I", boot.params.cmdline),
    }
    return params(given | dict(fields), bytes(page))


def case(
    name: str,
    answer: Answer,
    says: str,
    pieces: Pieces = ONE_PIECE,
    *,
    cmdline: str = "crashkernel=2G",
    kernel: int = 5 * GIB,
    reserved: tuple[tuple[int, int], ...] = (),
    params_: Mapping[int, bytes] | None = None,
    high: int = 126 * GIB,
    files: Mapping[str, str | bytes | None] | None = None,
    asks: Mapping[str, Any] | None = None,
) -> Case:
    """`kernel`: where it lies; `reserved`: the parts of the reservation (MiB)."""
    boot = machine(pieces, high=high)
    lines = [f"{e.start:x}-{e.start + e.size - 1:x} : System RAM" for e in boot.params.entries]
    lines += [f"  {kernel:x}-{kernel + MIB - 1:x} : Kernel code"]
    lines += [f"  {kernel + MIB:x}-{kernel + SIZE.most - 1:x} : Kernel bss"]
    lines += [f"  {s * MIB:x}-{e * MIB - 1:x} : Crash kernel" for s, e in reserved]
    return Case(
        name,
        answer,
        says,
        {
            "proc/iomem": "\n".join(lines) + "\n",
            "proc/cmdline": f"ro {cmdline}\n",
            "proc/cpuinfo": "flags : fpu la57\n",
            "proc/meminfo": "CmaTotal: 0 kB\n",
            BOOT_PARAMS: raw(boot, params_ or {}),
            **(files or {}),
        },
        {"running-kernel": KERNEL, "boot-log": [LOG]} if asks is None else asks,
    )


# 2 GiB at the very top, and what goes with it below 4 GiB.
TOP = (130 * 1024 - 16 - 2048, 130 * 1024 - 16)
IN_ONE_PIECE = ((1712, 1968), TOP)
IN_THE_ROOM = ((528, 784), TOP)


def captured(name: str) -> dict[str, bytes]:
    """What a lab guest showed."""
    root = DATA / name
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


CASES = (
    case("one piece", Answer.OK, "yes, from each of the 65406 places",
         reserved=IN_ONE_PIECE),
    case("one room", Answer.WARNING, "1 in 549 boots will reserve nothing", ONE_ROOM_OF_320,
         reserved=IN_THE_ROOM),
    case("one room, and the kernel is in it", Answer.PROBLEM,
         "this boot reserved nothing; 1 in 549 boots", ONE_ROOM_OF_320, kernel=550 * MIB),
    case("no room", Answer.PROBLEM, "there is no room, wherever", NO_ROOM),
    case("most fail", Answer.PROBLEM, "53 % of boots", ((1, 500),), cmdline="crashkernel=256M",
         kernel=200 * MIB, high=0),
    case("most fail, but this one did not", Answer.PROBLEM, "53 % of boots", ((1, 500),),
         cmdline="crashkernel=256M", kernel=340 * MIB, high=0, reserved=((80, 336),)),
    case("hardly any memory above", Answer.WARNING, "boots will reserve nothing", ONE_ROOM_OF_320,
         cmdline="crashkernel=2G,high crashkernel=72M,low", high=4 * GIB,
         reserved=((1248, 1320), (6128, 8176))),
    case("not what the rules say", Answer.CANNOT_TELL, "do not explain this boot",
         reserved=((512, 768), TOP)),
    case("nothing, where the rules say it fits", Answer.PROBLEM, "for a reason that is not KASLR"),
    case("at no place for it", Answer.CANNOT_TELL, "do not explain", kernel=5 * GIB + 4096,
         reserved=IN_ONE_PIECE),
    case("nokaslr", Answer.OK, "without KASLR each boot is like this one", params_={0x211: b"\x81"},
         cmdline="crashkernel=2G nokaslr", reserved=IN_ONE_PIECE),
    case("nokaslr, no room", Answer.PROBLEM, "without KASLR each boot is like this one",
         params_={0x211: b"\x81"}, cmdline="crashkernel=2G nokaslr"),
    case("EFI, one room", Answer.WARNING, "about 1 in 549 boots", ONE_ROOM_OF_320,
         params_={0x1C0: b"EL64"}, reserved=IN_THE_ROOM),
    case("EFI, one piece", Answer.CANNOT_TELL, "at most about 1 in 57 boots",
         params_={0x1C0: b"EL64"}, reserved=IN_ONE_PIECE),
    case("EFI, and what is reserved is not explained", Answer.CANNOT_TELL, "does not explain",
         NO_ROOM, params_={0x1C0: b"EL64"}, reserved=IN_THE_ROOM),
    case("EFI, and nothing here", Answer.PROBLEM, "how often that happens is not known",
         params_={0x1C0: b"EL64"}),
    case("kexec", Answer.CANNOT_TELL, "kexec started this kernel", params_={0x210: b"\xd0"}),
    case("movable_node", Answer.CANNOT_TELL, "movable_node changes",
         cmdline="crashkernel=2G movable_node", reserved=IN_ONE_PIECE),
    case("records that are somewhere", Answer.CANNOT_TELL, "records whose places",
         reserved=IN_ONE_PIECE, params_={0x250: struct.pack("<Q", 0x5000010)},
         files={f"sys/kernel/boot_params/setup_data/{n}/{name}": content
                for n in (0, 1) for name, content in (("type", "0x9\n"), ("data", "seed"))}),
    case("memory encryption", Answer.CANNOT_TELL, "with memory encryption",
         reserved=IN_ONE_PIECE,
         asks={"running-kernel": KERNEL,
               "boot-log": [LOG, "Memory Encryption Features active: AMD SEV"]}),
    case("no log", Answer.CANNOT_TELL, "whether memory is encrypted", reserved=IN_ONE_PIECE,
         asks={"running-kernel": KERNEL}),
    case("a log that lost its beginning", Answer.CANNOT_TELL, "the boot log has lost",
         reserved=IN_ONE_PIECE, asks={"running-kernel": KERNEL, "boot-log": ["crashkernel x"]}),
    case("no log, and a part of known size", Answer.OK, "yes",
         cmdline="crashkernel=2G,high crashkernel=256M,low", reserved=IN_ONE_PIECE,
         asks={"running-kernel": KERNEL}),
    case("no log, and one address", Answer.WARNING, "boots will reserve nothing",
         cmdline="crashkernel=256M@1G", reserved=((1024, 1280),), asks={"running-kernel": KERNEL}),
    case("nothing fits", Answer.PROBLEM, "there is no room, wherever", ((1, 100),),
         cmdline="crashkernel=50M", kernel=16 * MIB, high=0),
    case("only without KASLR", Answer.PROBLEM, "there is no room, wherever", ((1, 16), (100, 157)),
         cmdline="crashkernel=40M", kernel=100 * MIB, high=0, params_={0x218: bytes(8)}),
    case("kernel file gone", Answer.CANNOT_TELL, "running-kernel: it was not collected",
         reserved=IN_ONE_PIECE, asks={"boot-log": [LOG]}),
    case("nodes", Answer.OK, "yes, from each of the 65379 places", reserved=IN_ONE_PIECE,
         files={"sys/firmware/acpi/tables/SRAT":
                srat(memory(0, 2 * GIB), memory(4 * GIB, 64 * GIB), memory(68 * GIB, 62 * GIB))}),
    case("nothing asked for", Answer.NOT_APPLICABLE, "no crashkernel=", cmdline="quiet"),
    case("nothing here", Answer.NOT_APPLICABLE, "0 bytes", cmdline="crashkernel=1T-:2G"),
    case("no size", Answer.PROBLEM, "crashkernel=auto is no size", cmdline="crashkernel=auto"),
    case("no size, yet reserved", Answer.CANNOT_TELL, "memory is reserved, although",
         cmdline="crashkernel=auto", reserved=IN_ONE_PIECE),
    case("arm64, nothing asked for", Answer.NOT_APPLICABLE, "no crashkernel=", cmdline="quiet",
         files={"proc/sys/kernel/arch": "aarch64\n"}),
    case("arm64", Answer.CANNOT_TELL, "only the rules of x86-64",
         files={"proc/sys/kernel/arch": "aarch64\n"}),
    case("no boot_params", Answer.CANNOT_TELL, "boot_params", files={BOOT_PARAMS: None}),
    Case("a lab guest, 6.12", Answer.WARNING, "22 % of boots will reserve nothing",
         captured("kaslr-6.12"), {"running-kernel": KERNEL, "boot-log": [LOG]}),
    Case("a lab guest, 6.12, started by EFI firmware", Answer.CANNOT_TELL,
         "at most about 35 % of boots", captured("efi-6.12"),
         {"running-kernel": KERNEL, "boot-log": [LOG]}),
)  # fmt: skip


def finding(name: str, root: Path) -> Any:
    return examine(host_of(next(c for c in CASES if c.name == name), root), next_boot.CHECK)


def test_the_remedy_is_a_setting_that_fits(tmp_path: Path) -> None:
    """The same machine, booted with it: it never fails."""
    said = finding("one room", tmp_path / "before")
    setting = re.search(r"crashkernel=2048M,high crashkernel=(\d+)M,low", said.remedy)
    assert setting
    assert f"up to {setting[1]} MiB below 4 GiB" in said.explanation
    low = int(setting[1])
    last = (784 - low) // 16 * 16
    after = case("", Answer.OK, "yes", ONE_ROOM_OF_320, cmdline=setting[0],
                 reserved=((last, last + low), TOP))  # fmt: skip
    answer_of(next_boot.CHECK, after, tmp_path / "after")


@pytest.mark.parametrize(
    ("name", "counted", "remedy"),
    [
        ("one room", " 118 leave no room", "Set crashkernel=2048M,high crashkernel=240M,low in"),
        ("hardly any memory above", " 22 to 30 leave no room", "Set crashkernel=240M in"),
        ("most fail", " 78 leave no room", "Set crashkernel=178M in"),
        ("only without KASLR", " 1 leave no room", "Boot with nokaslr on"),
        ("nothing fits", " 1 leave no room", "This machine has no room for so much. Set a smaller"),
    ],
)
def test_remedies(name: str, counted: str, remedy: str, tmp_path: Path) -> None:
    said = finding(name, tmp_path)
    assert counted in said.explanation
    assert remedy in said.remedy


def test_what_is_exact(tmp_path: Path) -> None:
    for name, exact in (("one room", True), ("hardly any memory above", False),
                        ("EFI, one room", False)):  # fmt: skip
        assert finding(name, tmp_path / name).facts["exact"] is exact


def test_what_fits(tmp_path: Path) -> None:
    for name, fits in (
        ("one room", "up to 240 MiB in all or up to 240 MiB below 4 GiB beside the rest above."),
        ("most fail", "up to 178 MiB in all."),
        ("nothing fits", "nothing."),
    ):
        assert f"from all of them: {fits}" in finding(name, tmp_path / name).explanation


def test_running_kernel(tmp_path: Path) -> None:
    image = bytearray(0x2000)
    for offset, value in {
        0x1FE: b"\x55\xaa", 0x202: b"HdrS\x0f\x02", 0x20E: b"\x10\x01", 0x211: b"\x01",
        0x230: struct.pack("<I", 1 << 21), 0x236: b"\x7f\0", 0x238: struct.pack("<I", 2047),
        0x248: struct.pack("<II", 0x100, 0x80), 0x260: struct.pack("<I", 1 << 26),
        0x310: RELEASE.encode() + b"\0", 0x1F1: b"\x04", 0x1F4: struct.pack("<I", 0x10),
        0xA00 + 0x100 + 0x7C: struct.pack("<I", FILE.unpacked_size),
    }.items():  # fmt: skip
        image[offset : offset + len(value)] = value
    symbols = "ffffffff83600000 T _text\nffffffff86200000 B __brk_base\nffffffff86230000 B _end\n"
    files = {
        "proc/sys/kernel/arch": "x86_64\n",
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "proc/kallsyms": symbols,
    }
    populate(tmp_path, files)
    with pytest.raises(Exception, match=f"is in none of /boot/vmlinuz-{re.escape(RELEASE)}"):
        Host(tmp_path).ask(RUNNING_KERNEL)
    populate(tmp_path, {f"usr/lib/modules/{RELEASE}/vmlinuz": bytes(image)})
    found = Host(tmp_path).ask(RUNNING_KERNEL)
    assert (found.size, found.file.unpacked_size) == (SIZE, FILE.unpacked_size)
    populate(tmp_path, {f"boot/vmlinuz-{RELEASE}": bytes(image).replace(b"6.12", b"6.13")})
    with pytest.raises(Exception, match="is not the kernel that runs"):
        Host(tmp_path).ask(RUNNING_KERNEL)
    populate(tmp_path, {f"boot/vmlinuz-{RELEASE}": b"no kernel"})
    with pytest.raises(Exception, match="too short for a bzImage"):
        Host(tmp_path).ask(RUNNING_KERNEL)
