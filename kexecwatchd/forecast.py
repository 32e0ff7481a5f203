# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kexec_file_load(2) will put a reboot image on x86_64, by the kernel's own rules.

The order, sizes and limits are those of bzImage64_load() (arch/x86/kernel/kexec-bzimage64.c), the
search is that of kexec_add_buffer() and locate_mem_hole_top_down() (kernel/kexec_file.c). The
kernel's answer depends on nothing else: it looks neither at zones nor at whether memory is online.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kexecwatchd.kernel.bootimage import ELFCOREHDR_STRING
from kexecwatchd.kernel.placement_rules import PAGE, Rules, align
from kexecwatchd.model import Segment
from kexecwatchd.ranges import Range

# MIN_PURGATORY_ADDR, MIN_BOOTPARAM_ADDR, MIN_KERNEL_LOAD_ADDR and MIN_INITRD_LOAD_ADDR.
_MIN_PURGATORY = _MIN_BOOT_PARAMETERS = 0x3000
_MIN_KERNEL = 0x100000
_MIN_INITRD = 0x1000000
# sizeof(struct boot_params).
_BOOT_PARAMS = 4096


class NoHole(Exception):
    """A segment fits nowhere: the load would fail with EADDRNOTAVAIL."""


class Undecided(Exception):
    """Kernels differ here, and nothing tells which way this one goes."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be loaded; sizes are bytes.

    The first three are BootImage's memory_size, alignment and preferred_address. `initrd_size` is
    that of the file, None for no initrd; `cmdline_bytes` counts the final NUL.
    """

    kernel_memory: int
    kernel_alignment: int
    kernel_preferred: int
    initrd_size: int | None
    cmdline_bytes: int


@dataclass(frozen=True, slots=True)
class _Buffer:
    """The fields of struct kexec_buf that matter: `memsz` in whole pages, `align` at least one."""

    name: str
    memsz: int
    align: int
    minimum: int


def forecast(rules: Rules, request: Request, resources: Sequence[Range]) -> tuple[Segment, ...]:
    """The segments, in the order in which the kernel places and logs them.

    `resources`: MemoryMap.resources, in address order. Raises NoHole or Undecided.
    """
    # Since 6.9 the kernel goes no lower than where it prefers to be (43b1d3e68ee7, in some stable
    # kernels too); before, no lower than 1 MiB.
    minima = {_MIN_KERNEL, max(_MIN_KERNEL, request.kernel_preferred)}
    answers = {
        _place_all(
            rules.highest_first, _buffers(rules.purgatory, extra, minimum, request), resources
        )
        for extra, minimum in itertools.product(rules.boot_parameters, minima)
    }
    if len(answers) > 1:
        raise Undecided(f"kernels place this image in {len(answers)} different ways")
    (answer,) = answers
    if answer is None:
        raise NoHole("no System RAM resource has room for all segments")
    return answer


def _buffers(purgatory: int, extra: int, minimum: int, request: Request) -> list[_Buffer]:
    """As bzImage64_load() asks for them, one after the other."""
    parameters = align(_BOOT_PARAMS + request.cmdline_bytes + ELFCOREHDR_STRING, 16) + extra
    alignment = max(request.kernel_alignment, PAGE)
    buffers = [
        _Buffer("purgatory", purgatory, PAGE, _MIN_PURGATORY),
        _Buffer("boot parameters", align(parameters), PAGE, _MIN_BOOT_PARAMETERS),
        _Buffer("kernel", align(request.kernel_memory), alignment, minimum),
    ]
    if request.initrd_size is not None:
        buffers.append(_Buffer("initrd", align(request.initrd_size), PAGE, _MIN_INITRD))
    return buffers


def _place_all(
    highest_first: bool, buffers: Iterable[_Buffer], resources: Sequence[Range]
) -> tuple[Segment, ...] | None:
    """None: one of them fits nowhere."""
    walk = resources[::-1] if highest_first else resources
    placed: list[Segment] = []
    for buffer in buffers:
        holes = (_hole(highest_first, buffer, resource, placed) for resource in walk)
        mem = next((hole for hole in holes if hole is not None), None)
        if mem is None:
            return None
        placed.append(Segment(mem, buffer.memsz, buffer.name))
    return tuple(placed)


def _hole(
    highest_first: bool, buffer: _Buffer, resource: Range, placed: Iterable[Segment]
) -> int | None:
    """The highest aligned place in a resource that no segment takes.

    locate_mem_hole_top_down() goes down page by page and aligns each time, so it tries every
    multiple of the alignment; those that a segment is in the way of are skipped here at once.
    """
    if resource.size < buffer.memsz:
        return None
    # Kernels before 6.8 lost a byte here (18d565ea95fe, one release with the order of the walk),
    # and with it a page where the resource ends at one.
    start = resource.end - buffer.memsz - (0 if highest_first else 1)
    while True:
        start &= -buffer.align
        if start < max(resource.start, buffer.minimum):
            return None
        in_the_way = [
            s.mem for s in placed if start < s.mem + s.memsz and s.mem < start + buffer.memsz
        ]
        if not in_the_way:
            return start
        start = min(in_the_way) - buffer.memsz
