# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files that an image is loaded from are like on disk: frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signatures:
    """A kernel and an initrd: their paths as configured, and which state of each there is
    (preflight.signature); "" where there is none."""

    kernel: str
    initrd: str
    of_kernel: str = ""
    of_initrd: str = ""

    @property
    def missing(self) -> str:
        """Which of the two is not there, in words; "" = neither."""
        words = ["kernel"] if not self.of_kernel else []
        if self.initrd and not self.of_initrd:
            words.append("initrd")
        return " and ".join(words)

    def same_paths(self, other: Signatures) -> bool:
        return (self.kernel, self.initrd) == (other.kernel, other.initrd)

    def changed(self, before: Signatures) -> str:
        """Which of the two are others than before, in words; "" = neither."""
        words = []
        if self.of_kernel != before.of_kernel:
            words.append("kernel")
        if self.of_initrd != before.of_initrd:
            words.append("initrd")
        return " and ".join(words)


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The configured files as one look found them.

    `written`: which of them somebody has open for writing, in words. `quiet`: nothing about them
    has changed for long enough. `packages`: the package manager that is at work.
    `refused`: why files that are new are not to be loaded. `same`: they are new, and have
    the content of those that are loaded.
    """

    signatures: Signatures
    written: str = ""
    quiet: bool = True
    packages: str = ""
    refused: str = ""
    same: bool = False

    @property
    def unfinished(self) -> bool:
        """True while somebody may be at work on them. That passes."""
        return bool(self.written or self.packages) or not self.quiet

    def replaces(self, before: OnDisk) -> bool:
        """True when the same paths had other files before."""
        return self.signatures.same_paths(before.signatures) and bool(
            self.signatures.changed(before.signatures)
        )
