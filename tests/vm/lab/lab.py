# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's front door: gives running guests, building and remembering whatever they need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as once
from pathlib import Path

from . import disk, host, initramfs, kernels, packages
from . import snapshot as snapshots
from .cache import Cache, Input, default_directory, digest
from .machine import Machine
from .report import working
from .spec import Spec, devices


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
        spec = Spec(packaged.vmlinuz, initrd, cmdline=cmdline, memory=memory, maxmem=maxmem)
        what = f"{kernel} {cmdline}".strip()
        if not snapshot:
            with working(f"booting {what} (about half a minute)…"):
                return snapshots.fresh(spec, image, payload, install)

        def boot(directory: Path) -> None:
            with working(f"booting {what}, to be saved (about half a minute)…"):
                snapshots.save_booted(spec, image, directory)

        nowhere = Path("/")
        recipe: list[Input] = [Path(snapshots.__file__), *devices(nowhere, nowhere, nowhere, 0, 0)]
        names = [image.parent.name, packaged.directory.name, initrd.parent.name]
        # One kind per machine: the cache keeps the latest few of each kind.
        kind = f"{kernel}-{digest([cmdline, memory, maxmem])[:6]}"
        inputs: list[Input] = [*recipe, *names, *spec.arguments(), _qemu_version()]
        saved = self.cache.artefact(f"booted-{kind}", inputs, boot)
        if payload is None and not install:
            return snapshots.restore(spec, saved)

        def add(directory: Path) -> None:
            with working(f"installing on {what} (some seconds)…"):
                snapshots.save_installed(spec, saved, payload, install, directory)

        inputs = [saved.name, *([payload] if payload else []), *install]
        return snapshots.restore(spec, self.cache.artefact(f"installed-{kind}", inputs, add))

    def _kernel(self, name: str) -> tuple[kernels.Kernel, Path]:
        kernel = kernels.fetch(self.cache, name)
        return kernel, initramfs.build(self.cache, kernel)


@once
def _qemu_version() -> str:
    return host.run(["qemu-system-x86_64", "--version"])
