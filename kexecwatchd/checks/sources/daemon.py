# SPDX-License-Identifier: GPL-2.0-or-later
"""Does kexecwatchd run on that machine, and may it load an image?

A service that runs has a control group (Control Group APIs and Delegation, systemd); unlike asking
the bus, that works on a collected machine, too.
"""

from __future__ import annotations

from kexecwatchd.checks.host import Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.model import ImageName, Mode

# Where systemd has its groups: alone, or beside those of other versions (cgroup v1).
_GROUPS = tuple(
    f"sys/fs/cgroup/{hierarchy}system.slice/kexecwatchd.service/cgroup.procs"
    for hierarchy in ("", "unified/", "systemd/")
)

FILES = (*_GROUPS, *bootfiles.FILES)


def tends(host: Host, image: ImageName) -> bool:
    """True when it runs, and loads this image when that is called for. Raises CannotTell."""
    return _would_tend(host, image) and any(host.path(group).exists() for group in _GROUPS)


def tend_crash(host: Host) -> str:
    """What to do to have it keep the crash image right. Raises CannotTell."""
    if _would_tend(host, ImageName.CRASH):
        return "Start kexecwatchd (systemctl enable --now kexecwatchd)."
    return (
        'Set mode = "ensure", kernel, initrd and cmdline in [crash] of /etc/kexecwatchd/'
        "kexecwatchd.toml, and start kexecwatchd (systemctl enable --now kexecwatchd)."
    )


def _would_tend(host: Host, image: ImageName) -> bool:
    configured = host.config.image(image)
    return configured.mode in (Mode.ENSURE, Mode.FOLLOW) and configured.files is not None
