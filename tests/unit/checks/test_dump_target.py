# SPDX-License-Identifier: GPL-2.0-or-later
"""Is there room for a dump?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.dump_target import SPACE, Target, target
from kexecwatchd.checks.host import Host
from tests.unit.kernel.trees import populate

from .machines import Case

DEBIAN, FEDORA, SUSE = "etc/default/kdump-tools", "etc/kdump.conf", "etc/sysconfig/kdump"
# 1 GiB; 512 MiB of it free, and 256 MiB each of page cache and of processes less 16 MiB.
MEMINFO = (
    "MemTotal:  1048576 kB\nMemFree:  524288 kB\nBuffers: 0 kB\nCached:  262144 kB\n"
    "SwapCached: 0 kB\nAnonPages:  245760 kB\nHugePages_Total:  0\n"
)
NEEDED = (16 << 20) + (1 << 30) // 64
Files = dict[str, str | bytes | None]


def machine(name: str = DEBIAN, text: str = "USE_KDUMP=1\n") -> Files:
    return {name: text, "proc/meminfo": MEMINFO}


def space(free: int, *, read_only: bool = False) -> dict[str, Any]:
    return {"dump-space": {"free": free, "read_only": read_only}}


CASES = (
    Case("room", Answer.OK, "a dump may take 32 MiB", machine(), space(NEEDED)),
    Case("too little", Answer.WARNING, "perhaps not", machine(), space(NEEDED - 1)),
    Case("full", Answer.PROBLEM, "is full", machine(), space(0)),
    Case("read-only", Answer.PROBLEM, "is read-only", machine(), space(1 << 40, read_only=True)),
    Case(
        "nothing left out",
        Answer.WARNING,
        "may take 1 GiB",
        machine(text='MAKEDUMP_ARGS="-c"\n'),
        space(NEEDED),
    ),
    Case("Fedora", Answer.OK, "free in /dumps", machine(FEDORA, "path /dumps\n"), space(1 << 40)),
    Case("elsewhere", Answer.NOT_APPLICABLE, "SSH", machine(text="SSH=root@there\n"), {}),
    Case("no tool", Answer.NOT_APPLICABLE, "no tool"),
    Case("a shell's", Answer.CANNOT_TELL, "KDUMP_COREDIR", machine(text="KDUMP_COREDIR=$D\n")),
    Case("no space told", Answer.CANNOT_TELL, "not collected", machine(), {"dump-space": None}),
    Case("no amounts", Answer.CANNOT_TELL, "meminfo", {**machine(), "proc/meminfo": ""}, space(1)),
)

TARGETS = (
    (DEBIAN, 'KDUMP_COREDIR="/srv/dumps" # here\nMAKEDUMP_ARGS="-c -d 1"\n', "/srv/dumps", 1),
    (DEBIAN, "#SSH=x\nSSH=\n", "/var/crash", 31),
    (DEBIAN, 'NFS="there:/dumps"\n', "", 31),
    (FEDORA, "# path /x\ncore_collector makedumpfile -l -d 17\n", "/var/crash", 17),
    (FEDORA, "core_collector scp\n", "/var/crash", 0),
    (FEDORA, "path /x\nnfs there:/x\n", "", 31),
    (FEDORA, "ext4 /dev/sdb1\npath /x\n", "", 31),
    (SUSE, 'KDUMP_SAVEDIR="file:///srv/crash"\nKDUMP_DUMPLEVEL="1"\n', "/srv/crash", 1),
    (SUSE, "KDUMP_SAVEDIR=/srv/crash\n", "/srv/crash", 31),
    (SUSE, "KDUMP_SAVEDIR=ssh://there/x\n", "", 31),
)  # fmt: skip


@pytest.mark.parametrize(("name", "text", "path", "level"), TARGETS)
def test_targets(tmp_path: Path, name: str, text: str, path: str, level: int) -> None:
    populate(tmp_path, {name: text})
    found = target(Host(tmp_path))
    assert isinstance(found, Target)
    assert (found.path, found.level) == (path, level)
    assert bool(found.where) is not bool(path)


def test_the_space_of_a_directory_that_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(tmp_path, {DEBIAN: "KDUMP_COREDIR=/var/not/yet\n", "var/x": ""})
    asked: list[Path] = []
    statvfs = os.statvfs

    def record(path: Path) -> os.statvfs_result:
        asked.append(path)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", record)
    told = Host(tmp_path).ask(SPACE)
    assert told is not None
    assert told.free > 0
    assert asked == [tmp_path / "var"]


def test_what_is_kept_for_root_is_room_for_a_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(tmp_path, {DEBIAN: "KDUMP_COREDIR=/var\n", "var/x": ""})
    full_for_users = os.statvfs_result((4096, 512, 100, 5, 0, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: full_for_users)
    told = Host(tmp_path).ask(SPACE)
    assert told is not None
    assert told.free == 5 * 512
