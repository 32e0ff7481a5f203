# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory a capture kernel needs, part by part (x86-64). Pure.

Two figures: what it takes until user space runs with the initrd unpacked, held against real kernels
by trying (see the facts), and a reserve for what comes then. Kernel functions are named as in 6.12.
All sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_MIB = 1 << 20
_PAGE = 4096
# PMD_SIZE: kernel_alignment of every distribution's kernel, which costs that much at worst.
_ALIGNMENT = 2 * _MIB

# elfcorehdr with room for 8192 CPUs and 8192 ranges (arch_crash_get_elfcorehdr_size(), 896 KiB with
# Debian's configuration), purgatory and boot parameters; kexec-tools has a smaller one, and a copy
# of the low 640 KiB.
_SEGMENTS = _MIB

# swiotlb: IO_TLB_DEFAULT_SIZE and IO_TLB_SHIFT (include/linux/swiotlb.h); each slot of 2 KiB is
# described by a struct io_tlb_slot of 24 bytes (kernel/dma/swiotlb.c).
BOUNCE = 64 * _MIB
SLOT = 2048
_SLOT_RECORD = 24

# The memory map has 64 bytes a page for each section of 128 MiB in which there is any memory
# (sparse_init_nid(), mm/sparse.c): one for the low MiB, and the region may begin within one.
_SECTION = 128 * _MIB
_SECTION_MAP = _SECTION // _PAGE * 64

# An inode of tmpfs, its dentry and its security label: 760, 192 and 88 bytes on 6.12.
_INODE = 1088

# What the kernel keeps for itself while it starts: slab, stacks, vmalloc, page tables, and the
# pages that its lists per CPU hold back (zone_highsize(), mm/page_alloc.c), which it does not give
# up when nothing can be reclaimed. The most that was seen of 6.1, 6.12 and 7.3 on bare captures,
# of which some is taken before there is any allocator (memblock: page tables, node data, the first
# CPU's area; 3.5 MiB of 256, and up to 5 of 344, on 6.12).
_EARLY = 6 * _MIB
_OWN = 22 * _MIB
# A CPU that could be there costs its per-CPU area ("percpu: Embedded 66 pages/cpu"), one that runs
# its threads, stacks and lists, too. kdump-tools counts 5 MB for each.
_POSSIBLE_CPU = _MIB // 2
_ONLINE_CPU = 4 * _MIB

# makedumpfile's cyclic buffer: the least of 4 MiB, both bitmaps and 60 % of what is free
# (calculate_cyclic_buffer_size() in makedumpfile.c); as much again for its program and its caches.
_DUMP_TOOL = 8 * _MIB
# Programs of the initrd as they run, and drivers of the dump's target. Nothing tells these before
# they are loaded: a rule of thumb.
_USER_SPACE = 24 * _MIB
_DRIVERS = 32 * _MIB

#: What is advised is rounded up to this: CRASH_ALIGN, arch/x86/include/asm/crash_reserve.h.
STEP = 16 * _MIB


@dataclass(frozen=True, slots=True)
class Capture:
    """What is to run in the reservation.

    `init_size`: what the kernel takes while it unpacks itself; `image`: its code and data as it
    runs. `packed`: the initrd's file; `pages`: its files in whole pages, `files`: how many, and
    `buffers`: what unpacking takes besides.
    `possible`, `online`: CPUs that it makes room for, and that it starts. `bounce`: swiotlb.
    `tmpfs`: the initrd is unpacked into a tmpfs, not a ramfs.
    """

    init_size: int
    image: int
    packed: int
    pages: int
    files: int
    buffers: int
    possible: int = 1
    online: int = 1
    bounce: int = BOUNCE
    tmpfs: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """What takes `size` bytes, in words."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """`parts`, the largest first, add up to `needed`: with less, user space is not reached.
    `loaded`: what must fit into one region when the image is loaded. `reserve`: what the dump
    itself may take on top."""

    parts: tuple[Part, ...]
    loaded: int
    reserve: tuple[Part, ...]

    @property
    def needed(self) -> int:
        return _sum(self.parts)

    @property
    def comfortable(self) -> int:
        return self.needed + _sum(self.reserve)


def estimate(capture: Capture) -> Estimate:
    """What this capture kernel needs."""
    gone = [
        Part("the kernel's code and data", capture.image),
        Part("initrd, as it was loaded", capture.packed),
        Part("bounce buffers for DMA (swiotlb)", _bounce(capture.bounce)),
        Part("what kexec loads besides (elfcorehdr, purgatory, boot parameters)", _SEGMENTS),
        Part("the kernel's first page tables and node data", _EARLY),
    ]
    cpus = capture.possible * _POSSIBLE_CPU + (capture.online - 1) * _ONLINE_CPU
    used = [
        Part("the kernel's own lists, stacks and buffers", _OWN),
        Part("CPUs", cpus),
        Part("initrd, unpacked", capture.pages + capture.files * _INODE),
        Part("buffers for unpacking it", capture.buffers),
    ]
    if capture.tmpfs:
        # Half of what was free when it was mounted (shmem_default_max_blocks(), mm/shmem.c), which
        # was before the initrd's own memory was: what is `gone` does not count for that.
        idle = 2 * capture.pages - _sum(used)
        used.append(Part("the half of memory that tmpfs does not fill", max(0, idle)))
    parts = [*gone, *used]
    sections = _page_structures(_sum(parts))
    parts.append(Part("page structures", sections))
    loaded = capture.init_size + capture.packed + _SEGMENTS + _ALIGNMENT
    parts.append(Part("room to load it all", max(0, loaded - _sum(parts))))
    return Estimate(
        parts=tuple(sorted((p for p in parts if p.size), key=lambda p: -p.size)),
        loaded=loaded,
        reserve=(
            Part("drivers", _DRIVERS),
            Part("running programs", _USER_SPACE),
            Part("makedumpfile", _DUMP_TOOL),
        ),
    )


def rounded(size: int) -> int:
    """The next step of crashkernel=."""
    return -(-size // STEP) * STEP


def _bounce(size: int) -> int:
    return size + size // SLOT * _SLOT_RECORD


def _page_structures(rest: int) -> int:
    """Beside `rest` bytes of anything else; they have page structures themselves."""
    sections = -(-(rest + 2 * _SECTION_MAP) // (_SECTION - _SECTION_MAP))
    return (2 + sections) * _SECTION_MAP


def _sum(parts: Iterable[Part]) -> int:
    return sum(part.size for part in parts)
