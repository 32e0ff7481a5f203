# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's front door: gives running guests, building and remembering whatever they need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as once
from pathlib import Path

from . import disk, host, initramfs, kernels, snapshot
from . import machine as machine_module
from .cache import Cache, default_directory
from .machine import Machine
from .report import progress
from .spec import Spec


class Lab:
    """Kernels, disk and snapshots below one cache directory. Cheap to make: all work is lazy.

    Raises LabUnavailable when the host lacks a program, with the names of all that are missing.
    """

    #: The kernels there are, oldest first.
    KERNELS = tuple(kernels.KERNELS)

    def __init__(self, directory: Path | None = None) -> None:
        host.require()
        self.cache = Cache(directory or default_directory())
        self.cache.root.mkdir(parents=True, exist_ok=True)
        self._empty = self.cache.root / "empty"
        self._empty.touch()

    def prepare(self) -> Path:
        """Build the disk with all kernels (about a minute the first time); return its path."""
        return disk.build(self.cache, [self._kernel(name) for name in self.KERNELS])

    def release(self, kernel: str) -> str:
        """What `uname -r` says under that kernel."""
        return self._kernel(kernel)[0].release

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
        source = payload or self._empty
        what = f"{kernel} {cmdline}".strip()
        if not snapshot:
            progress(f"booting {what} (about half a minute)…")
            return _snapshot.fresh(spec, image, source, install)

        def save(directory: Path) -> None:
            progress(f"booting {what} to save it (about half a minute)…")
            _snapshot.save(spec, image, source, install, directory)

        recipe = [Path(m.__file__) for m in (_snapshot, machine_module) if m.__file__]
        inputs: list[str | bytes | Path] = [*recipe, source, image.parent.name, _qemu_version()]
        inputs += [packaged.directory.name, initrd.parent.name, *spec.arguments(), *install]
        return _snapshot.restore(spec, self.cache.artefact(f"snapshot-{kernel}", inputs, save))

    def _kernel(self, name: str) -> tuple[kernels.Kernel, Path]:
        kernel = kernels.fetch(self.cache, name)
        return kernel, initramfs.build(self.cache, kernel)


_snapshot = snapshot


@once
def _qemu_version() -> str:
    return host.run(["qemu-system-x86_64", "--version"])
