# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules out of a packaged kernel: which are needed, in which order, uncompressed."""

from __future__ import annotations

import io
import lzma
import subprocess
from collections.abc import Callable, Iterable

from elftools.elf.elffile import ELFFile

from .report import LabError

#: Without these the guest cannot reach its disk.
BOOT = ("virtio_pci", "virtio_blk", "ext4")
#: ext4 asks for these through the crypto API by name, so no `depends` names them. Kernels differ
#: in which exist as modules; what is absent is built in.
BOOT_OPTIONAL = ("crc32c_generic", "crc32c_cryptoapi")
#: On the disk only: for scenarios (virtio-mem, DAX memory) and for systemd.
DISK_OPTIONAL = (
    "virtio_mem", "virtio_pmem", "kmem", "device_dax", "dax_pmem", "dax_hmem", "nd_pmem", "nfit",
    "autofs4", "loop", "configfs",
)  # fmt: skip


def canonical(name: str) -> str:
    """The kernel's own spelling of a module's name, from a file name or a `depends` entry."""
    return name.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def unpack(name: str, data: bytes) -> bytes:
    """Return a module's ELF bytes; `name` tells the compression (.ko, .ko.xz, .ko.zst)."""
    if name.endswith(".xz"):
        return lzma.decompress(data)
    if name.endswith(".zst"):
        # Python has no zstd before 3.14.
        return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return data


def depends(module: bytes) -> list[str]:
    """The names in a module's own `depends=` and `softdep=pre:` fields."""
    section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
    found: list[str] = []
    for field in section.data().split(b"\0") if section else []:
        key, _, value = field.decode(errors="replace").partition("=")
        if key == "depends":
            found += [canonical(n) for n in value.split(",") if n]
    return found


def closure(
    wanted: Iterable[str],
    optional: Iterable[str],
    available: Callable[[str], bytes | None],
    builtin: set[str],
) -> dict[str, bytes]:
    """All modules needed for `wanted` and, where they exist, `optional`; dependencies come first.

    `available(name)` gives a module's uncompressed bytes or None. Raises LabError for a wanted
    module (or a dependency) that is neither a file nor built in.
    """
    ordered: dict[str, bytes] = {}

    def add(name: str, needed: bool, path: tuple[str, ...]) -> None:
        if name in ordered or name in builtin or name in path:
            return
        data = available(name)
        if data is None:
            if needed:
                raise LabError(f"no module {name} in the kernel package (needed by {path or 'us'})")
            return
        for dependency in depends(data):
            add(dependency, True, (*path, name))
        ordered[name] = data

    for name in wanted:
        add(name, True, ())
    for name in optional:
        add(name, False, ())
    return ordered
