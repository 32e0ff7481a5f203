# SPDX-License-Identifier: GPL-2.0-or-later
"""The capture kernel's initrd, and which of its files belong together."""

from __future__ import annotations

import os

from kexecwatchd.checks.host import Host, Source
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.kernel import initrd_contents
from kexecwatchd.kernel.initrd import BadInitrd
from kexecwatchd.kernel.initrd_contents import CannotUnpack, Contents
from kexecwatchd.model import ImageName

# What a path is part of, by any of its words; the first that fits.
_BY_WORD: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("systemd and udev", ("systemd", "libsystemd", "udev", "libudev")),
    ("Python", ("python3", "libpython")),
    ("Perl", ("perl", "libperl")),
    ("locales and character sets (glibc)", ("locale", "gconv", "i18n")),
    ("boot splash", ("plymouth", "libply", "fonts")),
    ("NetworkManager", ("NetworkManager", "nm-", "libnm")),
)
_TWO_DEEP = ("arch", "drivers", "fs", "net", "sound")


def capture_files(host: Host) -> bootfiles.BootFiles | None:
    """Those of the crash image. Raises CannotTell."""
    return next((f for f in bootfiles.chosen(host) if f.image is ImageName.CRASH), None)


def group(path: str) -> str:
    """The group that a path of an initrd, without its first slash, belongs to."""
    words = path.removeprefix("usr/").split("/")
    match words:
        case ["kernel", _, "microcode", *_]:
            return "CPU microcode"
        case ["lib", "modules", _, "kernel" | "updates" | "extra", *rest] if len(rest) > 1:
            depth = 2 if rest[0] in _TWO_DEEP and len(rest) > 2 else 1
            return f"kernel modules: {'/'.join(rest[:depth])}"
        case ["lib", "modules", *_]:
            return "kernel modules: lists and others"
        case ["lib", "firmware", *rest]:
            return f"firmware: {rest[0]}" if len(rest) > 1 else "firmware: others"
    for name, starts in _BY_WORD:
        if any(word.startswith(starts) for word in words):
            return name
    if ".so" in words[-1]:
        return "shared libraries"
    if words[0] in ("bin", "sbin"):
        return "programs"
    return "others"


def _look(host: Host) -> Contents | str:
    files = capture_files(host)
    if files is None or files.initrd is None:
        return "there is none"
    try:
        fd = os.open(host.path(files.initrd), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return f"{files.initrd} cannot be opened: {error.strerror}"
    try:
        return initrd_contents.read(fd, group)
    except (BadInitrd, CannotUnpack) as error:
        return f"{files.initrd}: {error}"
    finally:
        os.close(fd)


INITRD: Source[Contents | str] = Source("capture-initrd", Contents | str, _look)
"""What the crash image's initrd contains, or in words why that cannot be told."""
