# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the guest's root file system, without kernels and lab files, as a tar archive.

The slow and networked part of the disk, so it changes only with this file. No mirror is named:
mmdebstrap finds one from the suite's name.
"""

from __future__ import annotations

from pathlib import Path

from . import host
from .cache import Cache
from .report import working

SUITE = "trixie"
PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps", "util-linux", "kexec-tools",
    "polkitd", "python3", "python3-pyudev", "python3-systemd", "python3-sdnotify",
    "python3-pydantic", "python3-dbus-fast", "python3-prometheus-client", "python3-zstandard",
    "python3-lz4",
)  # fmt: skip

# Everything that costs boot time under emulation and that no scenario looks at. kexec-tools' own
# services would load and boot images behind the scenarios' backs.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer", "getty.target", "kexec-load.service", "kexec.service",
    "ldconfig.service", "motd-news.timer", "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount", "systemd-binfmt.service", "serial-getty@ttyS0.service",
    "systemd-hwdb-update.service", "systemd-journal-catalog-update.service",
    "systemd-network-generator.service", "systemd-networkd.service", "systemd-pcrphase.service",
    "systemd-random-seed.service", "systemd-remount-fs.service", "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer", "systemd-update-done.service", "systemd-update-utmp.service",
    "tpm2.target",
)  # fmt: skip

_CUSTOMIZE = """set -eu; cd "$1"
echo lab >etc/hostname
echo 127.0.0.1 localhost lab >etc/hosts
: >etc/fstab
# A fixed identity: an empty one makes systemd take each boot for the first.
echo 6c61620000000000000000006c6162ff >etc/machine-id
for unit in UNITS; do ln -sf /dev/null "etc/systemd/system/$unit"; done
ln -sf /usr/lib/systemd/system/multi-user.target etc/systemd/system/default.target
printf 'LOAD_KEXEC=false\\n' >etc/default/kexec
"""


def build(cache: Cache) -> Path:
    """Return the path of the root file system's tar archive."""
    return cache.artefact("base", [Path(__file__)], _build) / "root.tar"


@working("building the guest's root file system (about a minute)…")
def _build(directory: Path) -> None:
    hook = _CUSTOMIZE.replace("UNITS", " ".join(MASKED))
    host.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            '--dpkgopt=path-exclude="/usr/share/man/*"',
            '--dpkgopt=path-exclude="/usr/share/locale/*"',
            '--dpkgopt=path-exclude="/usr/share/doc/*"',
            f"--customize-hook={hook}",
            SUITE,
            directory / "root.tar",
        ],
        log=directory / "mmdebstrap.log",
    )
