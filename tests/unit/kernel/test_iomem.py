# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.iomem import (
    AddressesHidden,
    MapError,
    parse,
    read_kernel,
    read_memory_map,
)
from kexecwatchd.ranges import Range, RangeSet

from .trees import DATA, populate

X86 = (DATA / "iomem-x86").read_text()


def test_a_machine_with_virtio_mem_and_cxl() -> None:
    memory = parse(X86)
    virtio, kmem = (0x140000000, 0x150000000), (0x180000000, 0x1A0000000)
    assert memory.system_ram == RangeSet.of(
        (0x1000, 0x9FC00), (0x100000, 0x3FFDF000), (0x100000000, 0x120000000), virtio, kmem
    )
    assert memory.crash_regions == RangeSet.of((0x2F000000, 0x3F000000))
    assert memory.driver_managed == RangeSet.of(virtio, kmem)
    assert memory.resources == (
        Range(0x1000, 0x9FC00), Range(0x100000, 0x3FFDF000), Range(0x100000000, 0x120000000),
    )  # fmt: skip


def test_resources_stay_apart() -> None:
    """Two DIMMs side by side are two resources, and the kernel places nothing across them."""
    text = X86 + "".join(
        f"{start:x}-{start + 0x7FFFFFF:x} : System RAM\n" for start in (0x1A0000000, 0x1A8000000)
    )
    memory = parse(text)
    assert memory.resources[-2:] == (
        Range(0x1A0000000, 0x1A8000000), Range(0x1A8000000, 0x1B0000000),
    )  # fmt: skip
    assert RangeSet.of((0x180000000, 0x1B0000000)).ranges[0] in memory.system_ram.ranges


def test_both_crash_regions_count() -> None:
    text = X86.replace(
        "  106600000-1076fffff : Kernel code", "  110000000-117ffffff : Crash kernel"
    )
    assert len(parse(text).crash_regions.ranges) == 2


def test_zeros_are_not_an_empty_machine() -> None:
    hidden = re.sub(r"[0-9a-f]+-[0-9a-f]+ :", "00000000-00000000 :", X86)
    with pytest.raises(AddressesHidden, match="CAP_SYS_ADMIN"):
        parse(hidden)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "cat: /proc/iomem", "00001000-0009fbff : Reserved\n", "9-8 : System RAM\n",
     "1000-1fff System RAM\n", "1000-1fff : System RAM\ngarbage\n"],
)  # fmt: skip
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(MapError):
        parse(text)


def test_read_names_the_file(tmp_path: Path) -> None:
    populate(tmp_path, {"proc/iomem": X86})
    assert read_memory_map(tmp_path) == parse(X86)
    populate(tmp_path, {"proc/iomem": ""})
    with pytest.raises(MapError, match=f"{tmp_path}/proc/iomem: no System RAM"):
        read_memory_map(tmp_path)
    populate(tmp_path, {"proc/iomem": "0-0 : System RAM\n"})
    with pytest.raises(AddressesHidden, match="proc/iomem: all addresses"):
        read_memory_map(tmp_path)


def test_the_running_kernels_size(tmp_path: Path) -> None:
    """6.12 as the lab shows it; rodata and data lie between."""
    lines = (
        "00100000-2ffd9fff : System RAM",
        "  13c00000-14bfffff : Kernel code",
        "  14c00000-1578ffff : Kernel rodata",
        "  15800000-15a70d7f : Kernel data",
        "  1633c000-167fffff : Kernel bss",
    )
    populate(tmp_path, {"proc/iomem": "\n".join(lines) + "\n"})
    kernel = read_kernel(tmp_path)
    assert kernel
    assert kernel.size == 44 << 20
    populate(tmp_path, {"proc/iomem": lines[0] + "\n"})
    assert read_kernel(tmp_path) is None


@given(st.lists(st.tuples(st.integers(1, 1 << 50), st.integers(1, 1 << 40), st.integers(0, 3))))
def test_every_range_counts_at_any_depth(rows: list[tuple[int, int, int]]) -> None:
    lines = [f"{'  ' * depth}{a:08x}-{a + n - 1:08x} : System RAM" for a, n, depth in rows]
    text = "\n".join(["00000000-00000fff : Reserved", "00001000-00001fff : System RAM", *lines])
    expected = RangeSet.of((0x1000, 0x2000), *((a, a + n) for a, n, _ in rows))
    assert parse(text).system_ram == expected
    assert parse(text).resources[1:] == tuple(Range(a, a + n) for a, n, _ in rows)


@given(st.text(st.sampled_from("0123456789abcdef-: \nSystemRAM()CrashkernelR")))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(MapError, AddressesHidden):
        assert parse(text).system_ram


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (X86, 0x106600000),
        ("00001000-0009fbff : System RAM\n", None),
        ("00000000-00000000 : Kernel code\n00000000-00000000 : Kernel bss\n", None),
    ],
)
def test_where_the_kernel_begins(tmp_path: Path, text: str, start: int | None) -> None:
    populate(tmp_path, {"proc/iomem": text})
    kernel = read_kernel(tmp_path)
    assert (kernel.start if kernel else None) == start
