# SPDX-License-Identifier: GPL-2.0-or-later
"""What profiles may look at, below a root path, and a note of all that was looked at."""

from __future__ import annotations

import glob
import platform
from pathlib import Path

from kexecwatchd import trusted
from kexecwatchd.trusted import Untrusted

_KERNELS_OWN = ("/proc/", "/sys/")


class Obstacle(Exception):
    """What the tool would load is nothing, or cannot be told; the message says why."""


class Idle(Obstacle):
    """The tool means to load nothing here."""


class Reader:
    """Paths are those of the machine; where they lie below `root` is nobody else's concern."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[Path, None] = {}

    @property
    def reads(self) -> tuple[Path, ...]:
        """Everything that was asked about, there or not, but for the kernel's own files."""
        return tuple(self._read)

    @property
    def machine(self) -> str:
        """As uname -m says it; the kernel has a file of it since 6.1."""
        return (self.text_or_none("/proc/sys/kernel/arch") or platform.machine()).strip()

    def text(self, path: str) -> str:
        """A file that root may trust. Raises Obstacle, also where there is none."""
        try:
            with open(trusted.open_file(self._at(path)), "rb") as file:
                return file.read().decode(errors="surrogateescape")
        except Untrusted as error:
            raise Obstacle(str(error)) from None
        except OSError as error:
            raise Obstacle(f"{path}: cannot read it: {error.strerror}") from None

    def text_or_none(self, path: str) -> str | None:
        """The same, or None where there is no such file."""
        return self.text(path) if self.exists(path) else None

    def exists(self, path: str) -> bool:
        return self._at(path).exists()

    def is_file(self, path: str) -> bool:
        return self._at(path).is_file()

    def names(self, directory: str) -> list[str]:
        """What is in a directory, but for hidden files; nothing where there is none."""
        here = self._at(directory)
        return sorted(p.name for p in here.glob("[!.]*")) if here.is_dir() else []

    def link(self, path: str) -> str:
        """Where a symbolic link leads; "" where there is none, or it leads nowhere."""
        here = self._at(path)
        return str(here.readlink()) if here.is_symlink() and here.exists() else ""

    def matches(self, pattern: str) -> bool:
        """Are there files that a shell's pattern means, in a shell that works in /?"""
        return bool(glob.glob(pattern.lstrip("/"), root_dir=self._root))

    def _at(self, path: str) -> Path:
        if not path.startswith(_KERNELS_OWN):
            self._read[Path(path)] = None
        return self._root / path.lstrip("/")
