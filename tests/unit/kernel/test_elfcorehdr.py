# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import elfcorehdr
from kexecwatchd.kernel.elfcorehdr import HeaderError, parse
from kexecwatchd.kernel.kcore import Kcore, NotMapped
from kexecwatchd.model import CoreHeader, Drift, MemoryMap, Note
from kexecwatchd.ranges import RangeSet

from .trees import PT_LOAD, PT_NOTE, crash_header, elf, kcore, phdr

MIB = 1 << 20
START = 0x2F000000
REGIONS = RangeSet.of((START, START + 16 * MIB))
NOTES = {0x3E50F600: 368, 0x101E4D000: 4132}
LOADS = {0x100000: 0x2EF00000, 0x100000000: 0x20000000}
HEADER = crash_header(LOADS, NOTES)


def header(*loads: tuple[int, int], notes: tuple[Note, ...] = ()) -> CoreHeader:
    return CoreHeader(START, RangeSet.of(*loads), notes)


class TestParse:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_the_kernels_own(self, order: str) -> None:
        assert parse(crash_header(LOADS, NOTES, order) + bytes(4096), START) == CoreHeader(
            START,
            RangeSet.of((0x100000, 0x2F000000), (0x100000000, 0x120000000)),
            (Note(0x3E50F600, 368), Note(0x101E4D000, 4132)),
        )

    def test_kernel_text_overlaps_ram(self) -> None:
        text = phdr(PT_LOAD, 0x106600000, 0x2800000)
        data = elf(phdr(PT_NOTE, 0x1000, 8), text, phdr(PT_LOAD, 0x100000000, 0x20000000))
        assert parse(data, START).loads == RangeSet.of((0x100000000, 0x120000000))

    def test_kexec_tools_backs_up_low_memory(self) -> None:
        backup = phdr(PT_LOAD, 0x1000, 0x9EC00, offset=START + 0xF00000)
        data = elf(phdr(PT_NOTE, 0x1000, 8), backup, phdr(PT_LOAD, 0x100000, 0x1000))
        found = parse(data, START)
        assert found.loads == RangeSet.of((0x1000, 0x9FC00), (0x100000, 0x101000))
        assert found.copied == RangeSet.of((0x1000, 0x9FC00))

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "truncated"),
            (b"\0" + HEADER[1:], "no ELF magic"),
            (b"\x7fELF\x01" + HEADER[5:], "not ELF64"),
            (elf(phdr(PT_NOTE, 1, 1), phdr(PT_LOAD, 1, 1), kind=2), "e_type is 2"),
            (HEADER[:-1], "truncated"),
            (elf(), "0 program headers"),
            (HEADER[:56] + b"\xff\xff" + HEADER[58:], "65535 program headers"),
            (HEADER[:54] + b"\x40" + HEADER[55:], "of 64 bytes"),
            (elf(phdr(PT_NOTE, 0x1000, 8)), "1 PT_NOTEs and 0 PT_LOADs"),
            (elf(phdr(PT_LOAD, 0x1000, 8)), "0 PT_NOTEs and 1 PT_LOADs"),
            # A process's core dump: no physical addresses.
            (elf(phdr(PT_NOTE, 0, 0x700, 0x300), phdr(PT_LOAD, 0, 4096, 0x1000)), "another"),
            (elf(phdr(PT_NOTE, 1, 1), phdr(PT_LOAD, 1 << 60, 4096)), "no physical memory"),
            (
                elf(phdr(PT_NOTE, 1, 1), phdr(PT_LOAD, 1, 1, 2), phdr(PT_LOAD, 5, 1, 6)),
                "differs from p_paddr in 2",
            ),
        ],
    )
    def test_what_is_no_elfcorehdr(self, data: bytes, reason: str) -> None:
        with pytest.raises(HeaderError, match=reason):
            parse(data, START)

    @given(
        st.dictionaries(st.integers(0, 1 << 50), st.integers(1, 1 << 40), min_size=1),
        st.dictionaries(st.integers(1, 1 << 50), st.integers(1, 1 << 20), min_size=1),
        st.sampled_from("<>"),
        st.binary(max_size=100),
    )
    def test_headers_survive(
        self, loads: dict[int, int], notes: dict[int, int], order: str, behind: bytes
    ) -> None:
        parsed = parse(crash_header(loads, notes, order) + behind, START)
        assert parsed.loads == RangeSet.of(*((a, a + n) for a, n in loads.items()))
        assert {note.address: note.size for note in parsed.notes} == notes

    @given(st.integers(0, len(HEADER) - 1))
    def test_every_cut_shows(self, end: int) -> None:
        with pytest.raises(HeaderError):
            parse(HEADER[:end], START)

    @given(st.integers(0, len(HEADER) - 1), st.binary(min_size=1, max_size=16))
    def test_damage_is_refused_or_parsed(self, at: int, noise: bytes) -> None:
        with contextlib.suppress(HeaderError):
            parse(HEADER[:at] + noise + HEADER[at + len(noise) :], START)


class TestFind:
    def region(self, root: Path, **at: bytes) -> Kcore:
        """A crash region of 16 MiB with some bytes "at" hexadecimal offsets."""
        data = bytearray(16 * MIB)
        for offset, content in at.items():
            where = int(offset[1:], 16)
            data[where : where + len(content)] = content
        kcore(root, {0x1000: b"other memory", START: bytes(data)})
        return Kcore(root)

    def test_at_the_start(self, tmp_path: Path) -> None:
        with self.region(tmp_path, x0=HEADER) as core:
            assert elfcorehdr.find(core, REGIONS, None, "x86_64") == parse(HEADER, START)

    def test_at_the_hint_first(self, tmp_path: Path) -> None:
        other = crash_header({0x100000: 4096}, NOTES)
        with self.region(tmp_path, x0=HEADER, x5000=other) as core:
            found = elfcorehdr.find(core, REGIONS, START + 0x5000, "x86_64")
            assert found == parse(other, START + 0x5000)
            # Stale hints: nothing there, or another region by now.
            for hint in (START + 0x9000, 0x1000, START + 16 * MIB - 8):
                assert elfcorehdr.find(core, REGIONS, hint, "x86_64").address == START

    @pytest.mark.parametrize("offset", ["x1000", "x7ff000", "x800000", "xfff000", "x3ff000"])
    def test_anywhere_on_a_page(self, tmp_path: Path, offset: str) -> None:
        with self.region(tmp_path, x0=b"code", **{offset: HEADER}) as core:
            address = elfcorehdr.find(core, REGIONS, None, "aarch64").address
        assert address == START + int(offset[1:], 16)

    def test_the_topmost_is_the_one_that_counts(self, tmp_path: Path) -> None:
        """kexec-tools places it first; what an earlier load left lies below."""
        stale = crash_header({0x100000: 4096}, NOTES)
        with self.region(tmp_path, x900000=stale, xb00000=stale, xb01000=HEADER) as core:
            found = elfcorehdr.find(core, REGIONS, None, "x86_64")
        assert found.address == START + 0xB01000

    def test_the_upper_region_first(self, tmp_path: Path) -> None:
        page = bytes(4096)
        kcore(tmp_path, {0x10000: b"x" + page[1:] + HEADER, 0x80000: b"x" + page[1:] + HEADER})
        regions = RangeSet.of((0x10000, 0x11000 + len(HEADER)), (0x80000, 0x81000 + len(HEADER)))
        with Kcore(tmp_path) as core:
            assert elfcorehdr.find(core, regions, None, "x86_64").address == 0x81000

    def test_other_elf_files_are_passed_over(self, tmp_path: Path) -> None:
        program = elf(phdr(PT_LOAD, 0, 4096), kind=2)
        core_dump = elf(phdr(PT_NOTE, 0, 0x700, 0x300), phdr(PT_LOAD, 0, 4096, 0x1000))
        with self.region(
            tmp_path, xf00000=program, xe00000=core_dump, xd00010=HEADER, x2000=HEADER
        ) as core:
            assert elfcorehdr.find(core, REGIONS, None, "x86_64").address == START + 0x2000

    def test_a_header_of_many_pages(self, tmp_path: Path) -> None:
        loads = {n << 28: 1 << 27 for n in range(1, 4000)}
        with self.region(tmp_path, x0=crash_header(loads, NOTES)) as core:
            assert len(elfcorehdr.find(core, REGIONS, None, "x86_64").loads.ranges) == 3999

    def test_zeros_say_nothing(self, tmp_path: Path) -> None:
        with self.region(tmp_path) as core, pytest.raises(HeaderError, match="reads as zeros"):
            elfcorehdr.find(core, REGIONS, None, "aarch64")

    def test_no_header_says_what_was_there(self, tmp_path: Path) -> None:
        with (
            self.region(tmp_path, x5000=HEADER, x5108=b"size") as core,
            pytest.raises(HeaderError, match=f"no elfcorehdr .* at {START + 0x5000:#x}: "),
        ):
            elfcorehdr.find(core, REGIONS, None, "x86_64")

    def test_a_header_must_end_within_the_region(self, tmp_path: Path) -> None:
        big = crash_header({n << 28: 1 << 27 for n in range(1, 200)}, NOTES)
        with (
            self.region(tmp_path, xfff000=big[:4096]) as core,
            pytest.raises(HeaderError, match="do not fit"),
        ):
            elfcorehdr.find(core, REGIONS, None, "x86_64")

    def test_no_region(self, tmp_path: Path) -> None:
        with self.region(tmp_path) as core:
            with pytest.raises(HeaderError, match="no Crash kernel"):
                elfcorehdr.find(core, RangeSet(), None, "x86_64")
            with pytest.raises(NotMapped):
                elfcorehdr.find(core, RangeSet.of((0x5000, 0x9000)), None, "x86_64")
            with pytest.raises(HeaderError, match="s390x"):
                elfcorehdr.find(core, REGIONS, None, "s390x")

    def test_a_header_that_is_being_rewritten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half old, half new, then the new one twice: only what two reads agree on counts."""
        new = crash_header({0x100000: 4096, 0x100000000: 4096}, NOTES)
        torn = new[:200] + HEADER[200:]
        answers = [torn, new, new]
        with self.region(tmp_path, x0=HEADER) as core:
            real = core.read

            def read(address: int, size: int) -> bytes:
                if address == START and size == len(new):
                    return answers.pop(0)
                return real(address, size)

            monkeypatch.setattr(core, "read", read)
            assert elfcorehdr.find(core, REGIONS, None, "x86_64") == parse(new, START)
        assert not answers

    def test_a_header_that_never_rests(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with self.region(tmp_path, x0=HEADER) as core:
            real, count = core.read, iter(range(1000))

            def read(address: int, size: int) -> bytes:
                data = real(address, size)
                if address == START and size == len(HEADER):
                    return data[:-8] + next(count).to_bytes(8, "little")
                return data

            monkeypatch.setattr(core, "read", read)
            with pytest.raises(HeaderError, match="changed during each"):
                elfcorehdr.find(core, REGIONS, None, "x86_64")
        assert next(count) <= 10


class TestCompare:
    MEMORY = MemoryMap(
        system_ram=RangeSet.of((0x1000, 0x9FC00), (0x100000, 0x40000000), (1 << 32, 5 << 30)),
        crash_regions=RangeSet.of((START, START + 16 * MIB)),
    )
    GOOD = ((0x100000, START), (START + 16 * MIB, 0x40000000), (1 << 32, 5 << 30))

    def drift(
        self, *loads: tuple[int, int], machine: str = "x86_64", cma: RangeSet | None = None
    ) -> Drift:
        return elfcorehdr.compare(header(*loads), self.MEMORY, cma or RangeSet(), {}, machine)

    def test_what_x86_expects(self) -> None:
        expected = elfcorehdr.expected_loads(self.MEMORY, RangeSet(), "x86_64")
        assert expected == RangeSet.of(*self.GOOD)

    def test_elsewhere_the_first_mebibyte_is_memory_like_any_other(self) -> None:
        expected = elfcorehdr.expected_loads(self.MEMORY, RangeSet(), "aarch64")
        assert expected == RangeSet.of((0x1000, 0x9FC00), *self.GOOD)

    def test_agreement(self) -> None:
        assert not self.drift(*self.GOOD)
        assert not self.drift((0x1000, 0x9FC00), *self.GOOD)

    def test_missing_and_extra(self) -> None:
        drift = self.drift(*self.GOOD[:2], (8 << 30, 9 << 30))
        assert drift.missing == RangeSet.of((1 << 32, 5 << 30))
        assert drift.extra == RangeSet.of((8 << 30, 9 << 30))

    def test_cma_is_left_out_or_listed(self) -> None:
        cma = RangeSet.of((1 << 32, (1 << 32) + 64 * MIB))
        without = (*self.GOOD[:2], ((1 << 32) + 64 * MIB, 5 << 30))
        assert not self.drift(*without, cma=cma)
        assert not self.drift(*self.GOOD, cma=cma)
        assert self.drift(*without).missing == cma

    def test_low_memory_and_the_crash_region_are_not_gone(self) -> None:
        assert not self.drift((0, 0x40000000), (1 << 32, 5 << 30))
        assert self.drift((0, 0x100000), *self.GOOD, machine="aarch64").extra

    def test_less_than_a_page_is_nothing(self) -> None:
        assert not self.drift((0x100FFF, START), *self.GOOD[1:2], (1 << 32, (5 << 30) + 4095))
        assert self.drift((0x101000, START), *self.GOOD[1:]).missing.size == 4096
        assert self.drift(*self.GOOD[:2], (1 << 32, (5 << 30) + 4096)).extra.size == 4096

    def test_notes(self) -> None:
        notes = {"cpu0": Note(0x5000, 368), "cpu1": Note(0x6000, 368), "vmcoreinfo": Note(7, 8)}
        listed = header(*self.GOOD, notes=(Note(0x5000, 368), Note(0x9000, 368)))
        drift = elfcorehdr.compare(listed, self.MEMORY, RangeSet(), notes, "x86_64")
        assert drift.missing_notes == ("cpu1", "vmcoreinfo")
        assert drift

    @given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 40)), max_size=8))
    def test_any_header_differs_by_exactly_what_differs(self, rows: list[tuple[int, int]]) -> None:
        loads = [(a << 24, (a + n) << 24) for a, n in rows]
        listed = RangeSet.of(*loads)
        drift = self.drift(*loads, machine="aarch64")
        expected = self.MEMORY.system_ram - self.MEMORY.crash_regions
        assert drift.missing == expected - listed
        assert drift.extra == listed - self.MEMORY.system_ram
