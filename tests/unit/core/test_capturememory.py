# SPDX-License-Identifier: GPL-2.0-or-later
"""The estimate, beside the smallest reservation with which real kernels came up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.capturememory import BOUNCE, STEP, Capture, estimate, rounded

MIB = 1 << 20


@dataclass(frozen=True)
class Seen:
    """What was to boot, and the smallest reservation, in MiB, with which it did (nokaslr)."""

    name: str
    capture: Capture
    smallest: int


# The lab's kernels with its own initrd (busybox), and with a file added to it.
SMALL_6_1 = Capture(66682880, 52 * MIB, 1839989, 4775936, 25, 64 << 10)
SMALL_6_12 = Capture(58646528, 44 * MIB, 1861461, 5042176, 20, 64 << 10)
SMALL_7_3 = Capture(65331200, 52 * MIB, 1978961, 5509120, 20, 64 << 10)
# With a file of 60 MiB that does not pack (zstd), and one of 100 MiB that packs to 9.3.
NOISE = replace(
    SMALL_6_12, packed=64777631, pages=67956736, files=21, buffers=(2 << 20) + (512 << 10)
)
TEXT = replace(NOISE, packed=11645415, pages=109899776)
# With what initramfs-tools made of Debian 13 (MODULES=most) in front of it.
DEBIAN = Capture(58646528, 44 * MIB, 38088045, 68165632, 1287, 4718592, tmpfs=False)

SEEN = (
    Seen("6.1", SMALL_6_1, 158),
    Seen("6.12", SMALL_6_12, 137),
    Seen("7.3", SMALL_7_3, 158),
    Seen("6.12, 2 CPUs of 4", replace(SMALL_6_12, possible=4, online=2), 141),
    Seen("6.12, Debian's initrd", DEBIAN, 236),
    Seen("6.12, swiotlb=noforce", replace(SMALL_6_12, bounce=0), 76),
    Seen("6.12, 60 MiB of noise", NOISE, 312),
    Seen("6.12, 60 MiB of noise, ramfs", replace(NOISE, tmpfs=False), 262),
    Seen("6.12, 100 MiB of text", TEXT, 344),
    Seen("6.12, 100 MiB of text, ramfs", replace(TEXT, tmpfs=False), 252),
)


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.name)
def test_never_less_than_it_takes_and_not_much_more(seen: Seen) -> None:
    needed = estimate(seen.capture).needed
    assert seen.smallest * MIB <= needed <= 1.15 * seen.smallest * MIB


def test_parts_add_up_and_come_largest_first() -> None:
    found = estimate(SMALL_6_12)
    sizes = [part.size for part in found.parts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(sizes)
    assert found.needed == sum(sizes)
    assert found.comfortable == found.needed + sum(part.size for part in found.reserve)
    assert [part.size for part in found.reserve] == [32 * MIB, 24 * MIB, 8 * MIB]


def test_a_tmpfs_is_filled_by_half_only() -> None:
    large = replace(SMALL_6_12, pages=200 * MIB)
    ramfs = estimate(replace(large, tmpfs=False)).needed
    assert 150 * MIB < estimate(large).needed - ramfs < 200 * MIB
    small = replace(SMALL_6_12, tmpfs=False)
    assert estimate(small).needed == estimate(SMALL_6_12).needed


def test_what_cannot_be_loaded_cannot_start() -> None:
    """Where the kernel shrinks much as it unpacks itself, loading it decides."""
    large = replace(SMALL_6_12, init_size=300 * MIB)
    assert estimate(large).needed == estimate(large).loaded == 300 * MIB + large.packed + 3 * MIB
    assert "room to load it all" in sizes(large)
    assert "room to load it all" not in sizes(SMALL_6_12)


def sizes(capture: Capture) -> dict[str, int]:
    return {part.name: part.size for part in estimate(capture).parts}


def test_what_counts_by_number() -> None:
    """An area for each CPU that could be there; threads of those that run, beside the first."""
    found = sizes(replace(SMALL_6_12, possible=8, online=3, bounce=BOUNCE))
    assert found["CPUs"] == (8 // 2 + 2 * 4) * MIB
    assert found["bounce buffers for DMA (swiotlb)"] == BOUNCE + BOUNCE // 2048 * 24
    assert sizes(SMALL_6_12)["CPUs"] == MIB // 2
    assert found["initrd, unpacked"] == SMALL_6_12.pages + 20 * 1088


SIZES = st.integers(0, 1 << 32)
CAPTURES = st.builds(
    Capture,
    *[SIZES] * 6,
    possible=st.integers(4, 512),
    online=st.integers(1, 4),
    bounce=st.integers(0, 1 << 30),
    tmpfs=st.booleans(),
)


@given(CAPTURES)
def test_more_of_anything_never_needs_less(capture: Capture) -> None:
    c = capture
    needed = estimate(c).needed
    assert needed >= max(c.init_size, c.image + c.packed + c.pages + c.buffers + c.bounce)
    for more in (
        replace(c, image=c.image + MIB),
        replace(c, packed=c.packed + MIB),
        replace(c, pages=c.pages + MIB),
        replace(c, possible=c.possible + 1),
        replace(c, online=c.online + 1),
        replace(c, bounce=c.bounce + MIB),
        replace(c, tmpfs=True),
    ):
        assert estimate(more).needed >= needed


def page_structures_are_for_all_of_it(capture: Capture) -> bool:
    """2 MiB for each 128 MiB that the region can touch, and for the low MiB."""
    found = estimate(replace(capture, init_size=0))
    part = next(part for part in found.parts if part.name == "page structures")
    sections = 2 + -(-found.needed // (128 * MIB))
    return part.size == sections * 2 * MIB


@given(CAPTURES)
def test_page_structures(capture: Capture) -> None:
    assert page_structures_are_for_all_of_it(capture)


def test_page_structures_where_a_section_ends() -> None:
    for more in range(130):
        assert page_structures_are_for_all_of_it(replace(SMALL_6_12, image=more * MIB))


def test_rounding() -> None:
    assert [rounded(size) for size in (0, 1, STEP, STEP + 1)] == [0, STEP, STEP, 2 * STEP]
    assert (BOUNCE, STEP) == (64 * MIB, 16 * MIB)
