# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's front door: gives running guests, building and remembering whatever they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from . import disk, host, initramfs, kernels, packages, stock
from . import snapshot as snapshots
from .cache import Cache, Input, default_directory, digest
from .machine import Machine
from .report import working
from .spec import LAB_CMDLINE, STOCK_CMDLINE, Spec, devices


@dataclass(frozen=True)
class _Guest:
    """What a machine is booted from, and how its snapshots are called."""

    what: str
    kind: str
    spec: Spec
    image: Path
    #: Names of the artefacts that the snapshot depends on.
    made_of: list[str]
    #: Read before the snapshot is taken.
    warm: str


class Lab:
    """Kernels, disk and snapshots below one cache directory. Cheap to make: all work is lazy.

    Raises LabUnavailable when the host lacks a program, with the names of all that are missing.
    """

    #: The kernels there are, oldest first.
    KERNELS = tuple(kernels.KERNELS)

    def __init__(self, directory: Path | None = None) -> None:
        host.require()
        self.cache = Cache(directory or default_directory())

    def prepare(self) -> Path:
        """Build the disk with all kernels (about a minute the first time); return its path."""
        return disk.build(self.cache, [self._kernel(name) for name in self.KERNELS])

    def release(self, kernel: str) -> str:
        """What `uname -r` says under that kernel."""
        return self._kernel(kernel)[0].release

    def packages(self, *names: str) -> list[Path]:
        """The .deb files of these packages, and of what they depend on and guests do not have."""
        return packages.fetch(self.cache, names)

    def machine(
        self,
        kernel: str,
        *,
        payload: Path | None = None,
        install: Sequence[str] = (),
        cmdline: str = "",
        snapshot: bool = True,
        memory: str = "1G",
        maxmem: str = "600G",
    ) -> Machine:
        """Return a running, settled guest; use it as a context manager.

        kernel: "6.1", "6.12" or "7.3". payload: a tar archive, unpacked to / of the guest, after
        which the `install` commands run. cmdline: more words for the kernel's command line.
        snapshot: start from a saved machine, which is made on first use for each combination of
        arguments; False boots afresh, which is for command lines that are used only once.
        """
        packaged, initrd = self._kernel(kernel)
        image = self.prepare()
        spec = Spec(
            packaged.vmlinuz,
            initrd,
            cmdline=f"{LAB_CMDLINE} {cmdline}".strip(),
            memory=memory,
            maxmem=maxmem,
        )
        # One kind per machine: the cache keeps the latest few of each kind.
        kind = f"{kernel}-{digest([cmdline, memory, maxmem])[:6]}"
        made_of = [image.parent.name, packaged.directory.name, initrd.parent.name]
        guest = _Guest(f"{kernel} {cmdline}".strip(), kind, spec, image, made_of, snapshots.WARM)
        return self._start(guest, payload, install, snapshot)

    def stock(
        self,
        kernel: str,
        *,
        suite: str = "trixie",
        payload: Path | None = None,
        install: Sequence[str] = (),
        cmdline: str = "",
        snapshot: bool = True,
        memory: str = "1G",
    ) -> Machine:
        """Return a running, settled guest with a Debian as people have it; see stock.py.

        Its crash image is loaded, by kdump-tools. suite and kernel: "trixie" with "6.12" or "6.1",
        "bookworm" with "6.1". All else as for machine(). After a panic the guest writes its dump,
        and QEMU ends: wait_exit(), then diskfiles.extract().
        """
        built = stock.build(self.cache, suite, kernel)
        spec = Spec(
            built.vmlinuz,
            built.initrd,
            cmdline=f"{STOCK_CMDLINE} {cmdline}".strip(),
            memory=memory,
            # As on machines of that size: hot-added memory is the first above 4 GiB.
            below_4g="3G",
        )
        kind = f"stock-{suite}-{kernel}-{digest([cmdline, memory])[:6]}"
        what = f"stock {suite} with {kernel} {cmdline}".strip()
        guest = _Guest(
            what, kind, spec, built.image, [built.image.parent.name], snapshots.STOCK_WARM
        )
        return self._start(guest, payload, install, snapshot)

    def _start(
        self, guest: _Guest, payload: Path | None, install: Sequence[str], snapshot: bool
    ) -> Machine:
        """The guest, from a snapshot that is made if need be, or booted afresh."""
        if not snapshot:
            with working(f"booting {guest.what} (half a minute, or more)…"):
                return snapshots.fresh(guest.spec, guest.image, payload, install)

        def boot(directory: Path) -> None:
            with working(f"booting {guest.what}, to be saved (half a minute, or more)…"):
                snapshots.save_booted(guest.spec, guest.image, guest.warm, directory)

        nowhere = Path("/")
        recipe: list[Input] = [Path(snapshots.__file__), *devices(nowhere, nowhere, nowhere, 0, 0)]
        inputs: list[Input] = [*recipe, *guest.made_of, *guest.spec.arguments(), _qemu_version()]
        saved = self.cache.artefact(f"booted-{guest.kind}", [*inputs, guest.warm], boot)
        if payload is None and not install:
            return snapshots.restore(guest.spec, saved)

        def add(directory: Path) -> None:
            with working(f"installing on {guest.what} (some seconds)…"):
                snapshots.save_installed(guest.spec, saved, payload, install, directory)

        inputs = [saved.name, *([payload] if payload else []), *install]
        installed = self.cache.artefact(f"installed-{guest.kind}", inputs, add)
        return snapshots.restore(guest.spec, installed)

    def _kernel(self, name: str) -> tuple[kernels.Kernel, Path]:
        kernel = kernels.fetch(self.cache, name)
        return kernel, initramfs.build(self.cache, kernel)


@once
def _qemu_version() -> str:
    return host.run(["qemu-system-x86_64", "--version"])
