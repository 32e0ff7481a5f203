# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the running kernel's own image takes, by /proc/kallsyms.

Its symbols: arch/x86/kernel/vmlinux.lds.S. From _text to __brk_base it is reserved as a whole; of
the brk area behind that, which ends at _end, only what is used (early_reserve_memory() and
reserve_brk() in arch/x86/kernel/setup.c), and the first page always is (early_alloc_pgt_buf()).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PAGE = 4096
_NAMES = frozenset({b"_text", b"__brk_base", b"_end"})


class SizeUnknown(ValueError):
    """The kernel does not show it."""


@dataclass(frozen=True, slots=True)
class KernelSize:
    """Bytes from its start: `least` are reserved for sure, `most` at most."""

    least: int
    most: int


def read(root: Path = Path("/")) -> KernelSize:
    """Raises OSError or SizeUnknown (kernel.kptr_restrict: all symbols read as 0)."""
    path = root / "proc/kallsyms"
    found: dict[bytes, int] = {}
    with path.open("rb") as lines:
        for line in lines:
            words = line.split()
            if len(words) == 3 and words[2] in _NAMES:
                found[words[2]] = int(words[0], 16)
                if len(found) == len(_NAMES):
                    break
    if len(found) < len(_NAMES):
        missing = b", ".join(sorted(_NAMES - found.keys())).decode()
        raise SizeUnknown(f"{path} does not list {missing}")
    least = found[b"__brk_base"] + _PAGE - found[b"_text"]
    most = found[b"_end"] - found[b"_text"]
    if not 0 < least <= most:
        raise SizeUnknown(f"{path} hides all addresses")
    return KernelSize(least, most)
