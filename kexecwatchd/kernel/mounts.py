# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a file system read-only, whatever the mount is through which this process sees it?

A sandbox (ProtectSystem=strict) shows everything read-only: statvfs(2) has ST_RDONLY there for each
file system (seen on 6.12). The options of the superblock stay true: the last field of a line of
/proc/self/mountinfo (proc_pid_mountinfo(5)), which is found by the mount's id (mnt_id in
proc_pid_fdinfo(5)). Both files are of this very process, so they have no root path.
"""

from __future__ import annotations

import os
from pathlib import Path


class MountUnknown(ValueError):
    """The mount of a file is not listed, or not in the way that is known."""


def is_read_only(path: Path) -> bool:
    """True when nobody can write to the file system. Raises OSError or MountUnknown."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    finally:
        os.close(fd)
    return "ro" in super_options(mounts, mount_id(info))


def mount_id(fdinfo: str) -> str:
    """Raises MountUnknown."""
    for line in fdinfo.splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return value.strip()
    raise MountUnknown("fdinfo names no mnt_id")


def super_options(mountinfo: str, mount: str) -> list[str]:
    """The options of the file system behind that mount. Raises MountUnknown."""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        if separator and before.split(" ", 1)[0] == mount:
            return after.split(" ")[-1].split(",")
    raise MountUnknown(f"mount {mount} is not in /proc/self/mountinfo")
