# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes the capture initrd large?"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.host import Host
from kexecwatchd.checks.initrd import CHECK
from kexecwatchd.checks.sources.initrdgroups import INITRD, group
from kexecwatchd.checks.sources.reserved import Reservation
from kexecwatchd.kernel.initrd_contents import Contents
from tests.unit.kernel.test_initrd import cpio
from tests.unit.kernel.trees import populate

from .machines import COMMON, KDUMP_TOOLS, RELEASE, Case, answer_of

MIB = 1 << 20
PATH = f"var/lib/kdump/initrd.img-{RELEASE}"

CONTENTS = Contents(
    packed=20 * MIB,
    unpacked=70 * MIB,
    pages=72 * MIB,
    files=900,
    buffers=8 * MIB,
    formats=("cpio", "zstd"),
    groups={
        "kernel modules: drivers/gpu": 40 * MIB,
        "shared libraries": 20 * MIB,
        "programs": 6 * MIB,
        "others": 4 * MIB,
    },
    largest=(("usr/lib/modules/6.12/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko", 30 * MIB),),
    systemd=False,
)


def reserved(mib: int) -> dict[str, object]:
    return asdict(Reservation(mib * MIB, 0, 44 * MIB, srat=True))


def asks(mib: int = 512, systemd: bool = False) -> dict[str, object]:
    contents = {**asdict(CONTENTS), "systemd": systemd}
    return {"capture-initrd": contents, "crash-reservation": reserved(mib)}


CASES = (
    Case(
        "of kdump-tools",
        Answer.OK,
        "70 MiB unpacked, 20 MiB as a file; mostly kernel modules: drivers/gpu 40 MiB, shared"
        " libraries 20 MiB, programs 6 MiB, the rest 4 MiB",
        KDUMP_TOOLS,
        asks(),
    ),
    Case("with systemd", Answer.OK, "; systemd runs in it", KDUMP_TOOLS, asks(systemd=True)),
    Case(
        "most of the reservation",
        Answer.WARNING,
        "it alone fills 71 % of the reservation",
        KDUMP_TOOLS,
        asks(128),
    ),
    Case("nothing reserved", Answer.OK, "70 MiB unpacked", KDUMP_TOOLS, asks(0)),
    Case("no crash image", Answer.NOT_APPLICABLE, "no kernel and initrd"),
    Case(
        "without an initrd",
        Answer.NOT_APPLICABLE,
        "without an initrd",
        {
            "etc/kexecwatchd/kexecwatchd.toml": '[crash]\nmode = "ensure"\nkernel = "/boot/vmlinuz"'
            '\ncmdline = "nr_cpus=1"\n'
        },
    ),
    Case(
        "no library",
        Answer.CANNOT_TELL,
        "install python3-zstandard",
        KDUMP_TOOLS,
        {**asks(), "capture-initrd": f"/{PATH}: it is packed with zstd: install python3-zstandard"},
    ),
)


def test_it_teaches_what_systemd_costs(tmp_path: Path) -> None:
    with_it = answer_of(CHECK, CASES[1], tmp_path)
    assert "starts systemd" in with_it.explanation
    assert "amdgpu.ko 30 MiB" in with_it.explanation


def test_the_running_machine_is_looked_into(tmp_path: Path) -> None:
    content = gzip.compress(cpio({"bin/sh": b"x" * 5000, "lib/libc.so.6": b"x" * 9000}))
    populate(
        tmp_path,
        {**KDUMP_TOOLS, **COMMON, PATH: content},
    )
    found = Host(tmp_path).ask(INITRD)
    assert isinstance(found, Contents)
    assert found.groups == {"shared libraries": 9000, "programs": 5000}
    assert TypeAdapter(INITRD.type).validate_json(json.dumps(asdict(found))) == found


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be opened: No such file"), (b"nonsense", "no known format")],
)
def test_why_it_cannot_be_told(content: bytes | None, reason: str, tmp_path: Path) -> None:
    populate(tmp_path, {**KDUMP_TOOLS, **COMMON})
    if content:
        populate(tmp_path, {PATH: content})
    assert reason in str(Host(tmp_path).ask(INITRD))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/x86/microcode/AuthenticAMD.bin", "CPU microcode"),
        (
            "usr/lib/modules/6.12/kernel/drivers/net/ethernet/e1000.ko",
            "kernel modules: drivers/net",
        ),
        ("lib/modules/6.12/kernel/fs/ext4/ext4.ko.xz", "kernel modules: fs/ext4"),
        ("lib/modules/6.12/kernel/crypto/lzo.ko", "kernel modules: crypto"),
        ("lib/modules/6.12/kernel/fs/mbcache.ko", "kernel modules: fs"),
        ("usr/lib/modules/6.12/modules.dep.bin", "kernel modules: lists and others"),
        ("usr/lib/firmware/amdgpu/a.bin", "firmware: amdgpu"),
        ("usr/lib/firmware/regulatory.db", "firmware: others"),
        ("usr/lib/systemd/systemd-udevd", "systemd and udev"),
        ("usr/lib/x86_64-linux-gnu/libudev.so.1", "systemd and udev"),
        ("usr/bin/systemctl", "programs"),
        ("usr/lib/python3.13/os.py", "Python"),
        ("usr/lib/locale/C.utf8/LC_CTYPE", "locales and character sets (glibc)"),
        ("usr/lib64/libc.so.6", "shared libraries"),
        ("usr/sbin/makedumpfile", "programs"),
        ("etc/fstab", "others"),
        ("", "others"),
    ],
)
def test_groups(path: str, name: str) -> None:
    assert group(path) == name
