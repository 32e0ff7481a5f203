# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the host that the lab uses: one table that says which package has each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from .report import LabError, LabUnavailable

#: program -> Debian package. Everything the lab runs is in here.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "chroot": "coreutils",
    "tar": "tar",
    "zstd": "zstd",
}
BUSYBOX = Path("/bin/busybox")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def missing() -> list[str]:
    """What this host lacks, as "PROGRAM (package PACKAGE)"; empty when all is there."""
    lacking = [f"{p} (package {pkg})" for p, pkg in PROGRAMS.items() if _which(p) is None]
    if not _is_static(BUSYBOX):
        lacking.append(f"a static {BUSYBOX} (package busybox-static)")
    if not KEYRING.exists():
        lacking.append(f"{KEYRING} (package debian-archive-keyring)")
    if os.geteuid() != 0:
        lacking.append("root (the disk's files must belong to root)")
    return lacking


def require() -> None:
    """Raise LabUnavailable naming every missing program with its package."""
    lacking = missing()
    if lacking:
        raise LabUnavailable("the lab cannot run here; missing: " + ", ".join(lacking))


def run(argv: Sequence[str | Path], log: Path | None = None) -> str:
    """Run a host program to its end and return its standard output.

    Standard error goes to `log` where given. Raises LabError with the end of standard error.
    """
    program = _which(str(argv[0]))
    if program is None:
        package = PROGRAMS.get(str(argv[0]), "?")
        raise LabUnavailable(f"{argv[0]} is missing: install the package {package}")
    done = subprocess.run(
        [program, *map(str, argv[1:])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if log is not None:
        log.write_text(done.stderr)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise LabError(f"{' '.join(map(str, argv))}: exit code {done.returncode}\n{tail}")
    return done.stdout


def _which(program: str) -> str | None:
    # An unprivileged PATH leaves out where mke2fs and depmod live.
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _is_static(program: Path) -> bool:
    """True for an ELF file without PT_INTERP: it is to run in an initramfs without libraries."""
    try:
        with program.open("rb") as file:
            return all(s["p_type"] != "PT_INTERP" for s in ELFFile(file).iter_segments())
    except OSError:
        return False
