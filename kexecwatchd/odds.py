# SPDX-License-Identifier: GPL-2.0-or-later
"""At how many of all places that KASLR may choose the crash kernel's memory is not to be had.

The machine is modelled twice, where the kernel does not show all that is taken when it reserves:
with the least that can be taken, and with the most. Where both give the same count it is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexecwatchd import kaslr
from kexecwatchd.crashplace import LOW_MAX, Reserved, failing, reserve
from kexecwatchd.kaslr import Image, Slots
from kexecwatchd.kernel.boot_params import BootParams
from kexecwatchd.kernel.bootimage import BootImage
from kexecwatchd.kernel.crashkernel import Request
from kexecwatchd.kernel.kernel_size import KernelSize
from kexecwatchd.kernel.memparse import memparse, words
from kexecwatchd.ranges import Range, RangeSet

MIB = 1 << 20
_PAGE = 4096
_LOW_MIB = Range(0, MIB)  # reserve_real_mode(), arch/x86/realmode/init.c
# MIN_KERNEL_ALIGN (2 MiB) and MAXMEM with 4 and with 5 levels of page tables.
_KERNEL_ALIGN = 2 * MIB
_MAXMEM, _MAXMEM_LA57 = 1 << 46, 1 << 52
# IO_TLB_DEFAULT_SIZE and IO_TLB_SHIFT (include/linux/swiotlb.h), IO_TLB_SEGSIZE.
_SWIOTLB, _SLAB, _SEGMENT = 64 * MIB, 2048, 128
# crash_low_size_default(), arch/x86/include/asm/crash_reserve.h.
_BESIDE_SWIOTLB, LOW_SIZE = 8 * MIB, 256 * MIB
#: What a capture kernel needs below 4 GiB for devices of 32 bits: its swiotlb, and a little more.
LEAST_LOW = _SWIOTLB + _BESIDE_SWIOTLB


@dataclass(frozen=True, slots=True)
class Boot:
    """What a machine's boots have in common. `file`: what the kernel's header says, which is not
    in `params` where the EFI stub made them; `cma`: CMA in bytes."""

    params: BootParams
    cmdline: str
    kernel: KernelSize
    file: BootImage
    immovable: tuple[Range, ...] = ()
    la57: bool = False
    cma: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Memory when the crash kernel's is reserved: `free`, but for the kernel of `kernel` bytes.
    `low_size`: the part below 4 GiB where nobody says how large it is."""

    free: RangeSet
    kernel: int
    low_size: int

    def reserve(self, request: Request, place: int) -> Reserved | None:
        """What is reserved with the kernel at that place."""
        taken = RangeSet.of((place, place + self.kernel))
        return reserve(request, self.free - taken, self._low(request))

    def failing(self, request: Request) -> RangeSet:
        """The kernel's places with which nothing is."""
        return failing(request, self.free, self.kernel, self._low(request))

    def _low(self, request: Request) -> int:
        return self.low_size if request.low is None else request.low


@dataclass(frozen=True, slots=True)
class Odds:
    """Of `places`, `least` to `most` fail."""

    places: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Model:
    """`hopeful` and `cautious`: with the least and the most that can be taken. `memory`: all."""

    slots: Slots
    output: int
    memory: RangeSet
    hopeful: Layout
    cautious: Layout

    def odds(self, request: Request) -> Odds:
        least, most = (
            self.slots.within(layout.failing(request)) for layout in (self.hopeful, self.cautious)
        )
        return Odds(self.slots.count, least, most)

    def never_fails(self, request: Request) -> bool:
        return not self.odds(request).most

    def explains(self, request: Request, place: int, reserved: RangeSet) -> bool:
        """True when this is what must come of a boot with the kernel at that place: nothing, or
        memory that begins where it does. It may have been made smaller since; what lies above
        4 GiB counts as it is, since it depends on more than is known here."""
        if place not in self.slots:
            return False
        return any(
            _alike(layout.reserve(request, place), reserved)
            for layout in (self.hopeful, self.cautious)
        )

    def without_kaslr(self, request: Request) -> Reserved | None:
        return self.cautious.reserve(request, self.output)


def model(boot: Boot) -> Model:
    """Raises firmware_map.BadFirmwareMap."""
    params, file = boot.params, boot.file
    output = max(_align(params.loaded, file.alignment), file.preferred_address)
    size = _align(max(file.unpacked_size, boot.kernel.most), _KERNEL_ALIGN)
    image = Image(output, size, file.memory_size, file.alignment)
    avoid = [r for r in (params.initrd, params.setup_data) if r]
    if params.cmdline:
        avoid.append(Range(params.cmdline, params.cmdline + len(boot.cmdline) + 1))
    slots = kaslr.find_slots(
        image,
        (Range(e.start, e.start + e.size) for e in params.entries if e.kind == 1 and e.size),
        avoid,
        kaslr.parse_options(boot.cmdline),
        most=_MAXMEM_LA57 if boot.la57 else _MAXMEM,
        immovable=boot.immovable,
    )
    memory = params.memory(boot.cmdline)
    free = memory - RangeSet(_pages(r) for r in (params.initrd, params.setup_data, _LOW_MIB) if r)
    low_size = max(_swiotlb(boot.cmdline) + _BESIDE_SWIOTLB, LOW_SIZE)
    return Model(
        slots,
        output,
        memory,
        Layout(free, boot.kernel.least, low_size),
        Layout(_without_top(free, _taken_at_the_top(memory, boot.cma)), boot.kernel.most, low_size),
    )


def largest_size(model: Model, most: int) -> int:
    """The largest X, in whole MiB up to `most` bytes, of a crashkernel=X that fits wherever the
    kernel is; 0 where none does."""
    return _largest(most, lambda size: model.never_fails(Request(size)))


def largest_low(model: Model, size: int, most: int) -> int:
    """The largest Y, likewise, of a crashkernel=SIZE,high crashkernel=Y,low that does."""
    return _largest(most, lambda low: model.never_fails(Request(size, high=True, low=low)))


def remedy(model: Model, request: Request) -> Request | None:
    """As much as is asked for, with no more below 4 GiB than fits wherever the kernel is; None
    where that is too little for a capture kernel, or there is not enough above."""
    most = request.low or model.cautious.low_size
    low = largest_low(model, request.size, most)
    if low < min(LEAST_LOW, most):
        return None
    return Request(request.size, high=True, low=low, cma=request.cma)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """What fits with a size fits with less of it, too."""
    good, bad = 0, most // MIB + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle * MIB) else (good, middle)
    return good * MIB


def _alike(expected: Reserved | None, reserved: RangeSet) -> bool:
    if expected is None:
        return not reserved
    parts = [r.start for r in (expected.main, expected.low) if r and r.start < LOW_MAX]
    return bool(reserved) and parts == [r.start for r in reserved if r.start < LOW_MAX]


def _swiotlb(cmdline: str) -> int:
    """swiotlb_size_or_default(): swiotlb=SLABS, or 64 MiB."""
    size = _SWIOTLB
    for name, value in words(cmdline):
        if name == "swiotlb" and value and value[0].isdigit():
            slabs = memparse(value)[0]
            size = _align(_align(slabs, _SEGMENT) * _SLAB, _PAGE)
    return size


def _taken_at_the_top(memory: RangeSet, cma: int) -> int:
    """At most so much is taken by then from the top of memory down, beside what firmware and boot
    loader left there: page tables for all memory (a page for each GiB), the data of NUMA nodes and
    the like; and CMA, where there is not enough memory above 4 GiB for it
    (cma_declare_contiguous_nid(), mm/cma.c)."""
    end = max(r.end for r in memory)
    size = 2 * MIB + end // (1 << 30) * _PAGE
    return size + (cma if end < LOW_MAX + cma else 0)


def _without_top(free: RangeSet, size: int) -> RangeSet:
    for r in reversed(free.ranges):
        taken = min(r.size, size)
        free -= RangeSet.of((r.end - taken, r.end))
        size -= taken
    return free


def _pages(r: Range) -> Range:
    return Range(r.start // _PAGE * _PAGE, _align(r.end, _PAGE))


def _align(size: int, to: int) -> int:
    return -(-size // to) * to
