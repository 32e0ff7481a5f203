# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain Debian 13 with kdump-tools, from Debian's own package, with its defaults.

Two things are not as on a user's machine. The initrd is the lab's, put where kdump-tools looks for
it, since building one takes minutes under emulation; so nothing that kdump-tools recommends is
installed (initramfs-tools, makedumpfile). And kexecwatchd is there, but masked.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.vm.lab import Lab, Machine
from tests.vm.watched import INSTALL

#: debian("6.1"): the guest; a crash image is loaded, by kdump-tools.service.
Debian = Callable[[str], AbstractContextManager[Machine]]

INSTALL_KDUMP_TOOLS = (
    "systemctl mask kexecwatchd",
    "DEBIAN_FRONTEND=noninteractive dpkg -i /debs/*.deb >/debs/log 2>&1 || (cat /debs/log; false)",
    # Not before: the package removes what does not look like its own.
    "cp -L /lab/initrd /var/lib/kdump/initrd.img-$(uname -r)",
    "systemctl restart kdump-tools",
    "grep -qx 1 /sys/kernel/kexec_crash_loaded || { journalctl -u kdump-tools >&2; exit 1; }",
)
ONLINE = (
    "for f in /sys/devices/system/memory/memory*/state; do"
    " grep -qx online $f || echo online >$f; done; udevadm settle"
)


def with_kdump_tools(lab: Lab, payload: Path, directory: Path) -> Debian:
    """`payload` is kexecwatchd's; `directory` takes an archive."""
    archive = directory / "kdump-tools.tar"
    archive.write_bytes(payload.read_bytes())
    with tarfile.open(archive, "a") as tar:
        for package in lab.packages("kdump-tools"):
            member = tarfile.TarInfo(f"debs/{package.name}")
            member.size, member.mode = package.stat().st_size, 0o644
            tar.addfile(member, io.BytesIO(package.read_bytes()))
    install = (*INSTALL[:-1], *INSTALL_KDUMP_TOOLS)
    return lambda kernel: lab.machine(kernel, payload=archive, install=install)


def let_rule_load(vm: Machine) -> None:
    """Have udev's service permit what kdump-tools' rule does, which it does not by itself."""
    vm.put(
        "/etc/systemd/system/systemd-udevd.service.d/override.conf",
        b"[Service]\nSystemCallFilter=@reboot\n",
    )
    vm.run("systemctl daemon-reload; systemctl restart systemd-udevd.service")


def said(vm: Machine, text: str) -> int:
    """How often kdump-config has said that since boot."""
    journal = vm.run("journalctl -b -t kdump-config -o cat --no-pager", check=False).text
    return journal.count(text)


def failures(vm: Machine) -> int:
    """How often kdump-tools' rule, or its command, could not load."""
    return said(vm, "failed to unload kdump kernel")


def plug(vm: Machine, name: str, size: str) -> tuple[int, int]:
    """Hot-add a DIMM, put it online, and wait for udev; where it is."""
    dimm = vm.plug_dimm(name, size)
    vm.run(ONLINE)
    return dimm.start, dimm.end
