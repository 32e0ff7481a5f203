# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetches Debian's kernels: vmlinuz and the few modules that the lab needs.

No mirror is named: mmdebstrap finds one from the suite's name, and backports are asked from the
same place by a line that is derived from the sources that mmdebstrap wrote. Packages are verified
with the host's Debian archive keyring, and only unpacked, never installed.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import host, modules
from .cache import Cache, Input
from .report import LabError, progress, working


@dataclass(frozen=True)
class Recipe:
    """Where a kernel comes from: `suite` is what mmdebstrap knows, `extra` is a suite beside it."""

    suite: str
    extra: str = ""


KERNELS = {
    "6.1": Recipe("bookworm"),
    "6.12": Recipe("trixie"),
    "7.3": Recipe("trixie", "trixie-backports"),
}

# One-line sources name the suite on each line; deb822 ones in a field of their own. Only the main
# suite's entry is copied: -updates and -security have no counterpart under the other name.
_EXTRA_SUITE_HOOK = r"""set -eu; cd "$1/etc/apt"; for f in sources.list sources.list.d/*; do
[ -f "$f" ] || continue; case "$f" in
*.sources) sed -e '/^$/q' -e 's/^Suites:.*/Suites: EXTRA/' "$f" >sources.list.d/lab.sources;;
*) sed -n 's/ SUITE / EXTRA /p' "$f" >>sources.list.d/lab.list;; esac; done"""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel. `directory` holds vmlinuz, modules/*.ko and their order in `order`."""

    name: str
    release: str
    directory: Path

    @property
    def vmlinuz(self) -> Path:
        """The bzImage."""
        return self.directory / "vmlinuz"

    @property
    def boot_modules(self) -> list[Path]:
        """Modules for the initramfs, in the order to load them."""
        return self._listed("boot")

    @property
    def disk_modules(self) -> list[Path]:
        """Modules for the disk: those of the initramfs and the ones that scenarios need."""
        return self._listed("disk")

    def _listed(self, which: str) -> list[Path]:
        names = (self.directory / f"{which}.order").read_text().split()
        return [self.directory / "modules" / f"{name}.ko" for name in names]


def fetch(cache: Cache, name: str) -> Kernel:
    """Return the kernel of that name, from the cache or from the archive."""
    if name not in KERNELS:
        raise LabError(f"no kernel {name!r} in the lab; there are: {', '.join(KERNELS)}")
    inputs: list[Input] = [Path(__file__), Path(modules.__file__), name]

    @working(f"fetching Debian's {name} kernel (about 15 seconds)…")
    def make(directory: Path) -> None:
        _fetch(name, directory)

    directory = cache.artefact(f"kernel-{name}", inputs, make)
    return Kernel(name, (directory / "release").read_text(), directory)


def _fetch(name: str, directory: Path) -> None:
    recipe = KERNELS[name]
    archive = directory / "packages.tar"
    argv: list[str | Path] = ["mmdebstrap", "--variant=extract", "--include=linux-image-amd64"]
    if recipe.extra:
        hook = _EXTRA_SUITE_HOOK.replace("SUITE", recipe.suite).replace("EXTRA", recipe.extra)
        argv += [f"--setup-hook={hook}", f'--aptopt=APT::Default-Release "{recipe.extra}"']
    host.run([*argv, recipe.suite, archive], log=directory / "mmdebstrap.log")
    with tarfile.open(archive) as tar:
        release = _unpack(tar, directory)
    archive.unlink()
    if not release.startswith(f"{name}."):
        progress(f"{recipe.extra or recipe.suite} has {release} now, where the lab expects {name}")


def _unpack(tar: tarfile.TarFile, directory: Path) -> str:
    """Write vmlinuz, release and the modules out of the unpacked packages; return the release."""
    files = {m.name.lstrip("./"): m for m in tar.getmembers() if m.isfile()}

    def read(path: str) -> bytes:
        file = tar.extractfile(files[path])
        assert file is not None
        return file.read()

    # Debian's newest kernels keep vmlinuz beside the modules, older ones in /boot.
    images = [p for p in files if re.fullmatch(r"boot/vmlinuz-[^/]+|.*/modules/[^/]+/vmlinuz", p)]
    builtin = [p for p in files if p.endswith("/modules.builtin")]
    if len(images) != 1 or len(builtin) != 1:
        raise LabError(f"expected one kernel in the packages, found {images} and {builtin}")
    release = builtin[0].split("/")[-2]
    (directory / "vmlinuz").write_bytes(read(images[0]))
    (directory / "release").write_text(release)
    for extra in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        path = builtin[0].replace("modules.builtin", extra)
        if path in files:
            (directory / extra).write_bytes(read(path))
    _unpack_modules(directory, files, read)
    return release


def _unpack_modules(
    directory: Path, files: dict[str, tarfile.TarInfo], read: Callable[[str], bytes]
) -> None:
    paths = {modules.canonical(p): p for p in files if re.search(r"\.ko(\.\w+)?$", p)}

    def available(module: str) -> bytes | None:
        path = paths.get(module)
        return None if path is None else modules.unpack(path, read(path))

    listed = (directory / "modules.builtin").read_text().split()
    builtin = {modules.canonical(line) for line in listed}
    boot = modules.closure(modules.BOOT, modules.BOOT_OPTIONAL, available, builtin)
    disk = modules.closure(modules.BOOT, modules.DISK_OPTIONAL, available, builtin)
    (directory / "modules").mkdir()
    for which, chosen in (("boot", boot), ("disk", boot | disk)):
        (directory / f"{which}.order").write_text("\n".join(chosen))
        for module, data in chosen.items():
            (directory / "modules" / f"{module}.ko").write_bytes(data)
