# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine is made of, and the QEMU command line that says so."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: What the kernels of the lab's own disk are told.
LAB_CMDLINE = "root=/dev/vda rw console=ttyS0 crashkernel=256M"
#: What a stock Debian is told; crashkernel= as kdump-tools sets it.
STOCK_CMDLINE = "root=/dev/vda ro console=ttyS0 crashkernel=512M-:192M"


@dataclass(frozen=True)
class Spec:
    """A machine's hardware and kernel command line. Two equal ones can share a snapshot."""

    vmlinuz: Path
    initramfs: Path
    #: The kernel takes the last of two crashkernel=.
    cmdline: str = LAB_CMDLINE
    memory: str = "1G"
    #: How much of the boot memory lies below 4 GiB, at most.
    below_4g: str = "768M"
    maxmem: str = "600G"
    slots: int = 16
    cpus: int = 2
    maxcpus: int = 4

    def arguments(self) -> list[str]:
        """QEMU's arguments for all that a snapshot depends on (not disks and sockets)."""
        # below_4g: with all boot memory below 4 GiB, the first DIMM would be the guest's
        # whole ZONE_NORMAL, so the kernel would put page tables there first of all and could never
        # give it back. A zone that exists from the start fills hot-added memory last.
        # A socket per CPU: Linux takes no CPU into a package that has been up since boot.
        return [
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", f"pc,max-ram-below-4g={self.below_4g}", *accelerator(),
            "-m", f"{self.memory},slots={self.slots},maxmem={self.maxmem}",
            "-smp", f"{self.cpus},maxcpus={self.maxcpus},sockets={self.maxcpus},cores=1,threads=1",
            "-kernel", str(self.vmlinuz), "-initrd", str(self.initramfs),
            "-append", self.cmdline,
        ]  # fmt: skip


def devices(disk: Path, payload: Path, directory: Path, agent: int, qmp: int) -> list[str]:
    """QEMU's arguments for disks, serial ports and QMP.

    `directory` is where the console's log goes, `agent` and `qmp` are descriptors of sockets.
    """
    return [
        "-drive", f"file={disk},if=none,id=root,format=qcow2,cache=unsafe",
        "-device", "virtio-blk-pci,drive=root",
        "-drive", f"file={payload},if=none,id=payload,format=raw,read-only=on",
        "-device", "virtio-blk-pci,drive=payload",
        "-chardev", f"file,id=console,path={directory}/console.log",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=agent,fd={agent}",
        "-serial", "chardev:agent",
        "-chardev", f"socket,id=qmp,fd={qmp}",
        "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip


def accelerator() -> list[str]:
    """Software emulation, unless KEXECWATCHD_LAB_ACCEL asks for another accelerator.

    /dev/kvm is not probed for: on some hosts it opens, makes a machine, and hangs before the first
    line of the kernel.
    """
    name = os.environ.get("KEXECWATCHD_LAB_ACCEL", "tcg")
    if name == "tcg":
        return ["-accel", "tcg,thread=multi", "-cpu", "max"]
    return ["-accel", name, "-cpu", "host" if name.startswith("kvm") else "max"]
