# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the cpio "newc" archives that the kernel unpacks as an initramfs.

Written here because an archive with a device node can then be made without privilege and comes
out the same byte for byte on every host. Format: Documentation/driver-api/early-userspace.
"""

from __future__ import annotations

import stat


class Archive:
    """Collects entries; `finish()` returns the archive's bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0
        self._directories: set[str] = set()

    def directory(self, path: str) -> None:
        """Add a directory and its parents; a repeated one is ignored."""
        path = path.strip("/")
        if not path or path in self._directories:
            return
        self.directory(path.rpartition("/")[0])
        self._directories.add(path)
        self._entry(path, stat.S_IFDIR | 0o755)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file (and the directories above it)."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link that points to `target`."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, path: str, major: int, minor: int) -> None:
        """Add a character device node, mode 0600."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def finish(self) -> bytes:
        """Close the archive and return it."""
        self._entry("TRAILER!!!", 0)
        return bytes(self._data)

    def _entry(
        self, path: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)
    ) -> None:
        name = path.strip("/").encode() + b"\0"
        self._inode += 1
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name), 0)
        self._data += b"070701" + b"".join(b"%08X" % f for f in fields) + name
        self._pad()
        self._data += data
        self._pad()

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)
