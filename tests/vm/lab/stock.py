# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian as people have it: its own kernels, initrds and kdump-tools, and apt.

The lab's other disk (disk.py) is made to boot fast. This one is left as the packages make it: the
initrds of kernel and kdump are built by their own hooks (in the chroot, without emulation),
kdump-tools.service loads the crash image at boot, and after a panic kdump-tools writes the dump.
None of the libraries that kexecwatchd needs is installed; apt finds them in a local repository, for
the guest has no network. No mirror is named: mmdebstrap finds one from the suite's name.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import disk, host, packages
from .cache import Cache, Input
from .report import LabError, working

SIZE = "4G"

_PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "polkitd", "kmod", "procps", "e2fsprogs", "apt",
    "apt-utils", "python3", "initramfs-tools", "zstd", "kexec-tools", "kdump-tools",
    "makedumpfile",
)  # fmt: skip


@dataclass(frozen=True)
class System:
    """A Debian release: its kernel, kernels of other suites beside it, and what apt can get."""

    kernel: str
    beside: dict[str, str]
    offered: tuple[str, ...]


SYSTEMS = {
    "trixie": System(
        "6.12",
        {"6.1": "bookworm"},
        (
            "python3-pyudev", "python3-systemd", "python3-sdnotify", "python3-pydantic",
            "python3-dbus-fast", "python3-prometheus-client", "python3-zstandard", "python3-lz4",
        ),
    ),
    "bookworm": System("6.1", {}, ("python3-venv", "python3-systemd", "python3-pyudev")),
}  # fmt: skip

# All hooks run on the host; "$1" is the root file system.
_KERNELS = r"""set -eu; cd "$1"
mkdir -p tmp/kernels/partial
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only \
    -o Dir::Cache::Archives="$PWD/tmp/kernels" install linux-image-amd64
for package in @OTHERS@; do cp "$package" tmp/kernels; done
# kdump-tools has each kernel's installation build its initrd, with the modules for the root file
# system of the machine (MODULES=dep). In a chroot it leaves that to the first boot (1.10), or fails
# (1.8). So it works afterwards, and is told the modules.
hook=etc/kernel/postinst.d/kdump-tools
chmod a-x $hook
chroot . sh -c 'dpkg --install /tmp/kernels/*.deb'
chmod a+x $hook
rm -r tmp/kernels
cp -a etc/initramfs-tools tmp/as-packaged
printf 'virtio_pci\nvirtio_blk\next4\n' >>etc/initramfs-tools/modules
echo MODULES=list >etc/initramfs-tools/conf.d/lab
mv usr/bin/ischroot tmp/
for kernel in boot/vmlinuz-*; do
    release=${kernel#boot/vmlinuz-}
    chroot . /$hook "$release"
    # Without a note of what the initrd was built with, the first load would build it anew.
    cp etc/kdump/sysctl.conf var/lib/kdump/latest_sysctls-$release
done
mv tmp/ischroot usr/bin/
rm -r etc/initramfs-tools
mv tmp/as-packaged etc/initramfs-tools
"""
_IDENTITY = """set -eu; cd "$1"
echo stock >etc/hostname
echo 127.0.0.1 localhost stock >etc/hosts
echo '/dev/vda / ext4 errors=remount-ro 0 1' >etc/fstab
# A fixed identity: an empty one makes systemd take the boot for the first.
echo 73746f636b0000000000000073746f63 >etc/machine-id
"""
# What apt would fetch from a mirror lies on the disk, with apt's own index of it.
_REPOSITORY = """set -eu; cd "$1"
mkdir -p srv/apt/partial
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --download-only \
    -o Dir::Cache::Archives="$PWD/srv/apt" install OFFERED
rm -r srv/apt/partial srv/apt/lock
chroot . sh -c 'cd /srv/apt && apt-ftparchive packages . >Packages'
rm -rf etc/apt/sources.list etc/apt/sources.list.d/* var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/apt ./' >etc/apt/sources.list
chroot . apt-get update
"""


@dataclass(frozen=True)
class Stock:
    """A built disk: the image, and kernel and initrd as the guest has them in /boot."""

    image: Path
    vmlinuz: Path
    initrd: Path


def build(cache: Cache, suite: str, kernel: str) -> Stock:
    """Return the disk of that Debian; one disk serves all the kernels that it has."""
    system = SYSTEMS[suite]
    if kernel not in (system.kernel, *system.beside):
        raise LabError(f"stock {suite} has no kernel {kernel!r} in the lab")
    root = _root(cache, suite)
    files = sorted(disk.guest_files())
    inputs: list[Input] = [root.name, Path(disk.__file__), SIZE, *files, *(f.name for f in files)]

    @working(f"assembling the disk of a stock {suite} (about 20 seconds)…")
    def assemble(directory: Path) -> None:
        with tempfile.TemporaryDirectory(dir=directory) as name:
            tree = Path(name)
            tree.chmod(0o755)
            host.run(["tar", "-C", tree, "--numeric-owner", "--xattrs", "-xpf", root / "root.tar"])
            disk.install_lab(tree)
            for file in [*tree.glob("boot/vmlinuz-*"), *tree.glob("boot/initrd.img-*")]:
                shutil.copy(file, directory)
            # With a journal: the panic leaves the file system dirty.
            options = ["-q", "-t", "ext4", "-E", "lazy_itable_init=1"]
            host.run(["mke2fs", *options, "-d", tree, directory / "disk.img", SIZE])

    directory = cache.artefact(f"stock-disk-{suite}", inputs, assemble)
    [vmlinuz] = directory.glob(f"vmlinuz-{kernel}.*")
    release = vmlinuz.name.removeprefix("vmlinuz-")
    return Stock(directory / "disk.img", vmlinuz, directory / f"initrd.img-{release}")


def _root(cache: Cache, suite: str) -> Path:
    """The directory with the root file system's archive: the slow and networked part."""

    @working(f"building a stock {suite} with kdump-tools (about three minutes)…")
    def make(directory: Path) -> None:
        system = SYSTEMS[suite]
        debs = [
            deb
            for other in system.beside.values()
            for deb in _kernel_packages(other, directory / other)
        ]
        kernels = _KERNELS.replace("@OTHERS@", shlex.join(str(deb.absolute()) for deb in debs))
        repository = _REPOSITORY.replace("OFFERED", " ".join(system.offered))
        _bootstrap(suite, [kernels, _IDENTITY, repository], directory)
        for other in system.beside.values():
            shutil.rmtree(directory / other)

    inputs: list[Input] = [Path(__file__), Path(packages.__file__), suite]
    return cache.artefact(f"stock-root-{suite}", inputs, make)


def _kernel_packages(suite: str, directory: Path) -> Sequence[Path]:
    """The package of that suite's kernel (the one with the version in its name)."""
    directory.mkdir()
    packages.download(suite, ["linux-image-amd64"], directory)
    return sorted(directory.glob("linux-image-[0-9]*.deb"))


def _bootstrap(suite: str, hooks: Sequence[str], directory: Path) -> None:
    host.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(_PACKAGES)}",
            '--dpkgopt=path-exclude="/usr/share/man/*"',
            '--dpkgopt=path-exclude="/usr/share/locale/*"',
            '--dpkgopt=path-exclude="/usr/share/doc/*"',
            *(f"--customize-hook={hook}" for hook in hooks),
            # Or it would empty the index of the local repository.
            "--skip=cleanup/apt/lists",
            suite,
            directory / "root.tar",
        ],
        log=directory / "mmdebstrap.log",
    )
