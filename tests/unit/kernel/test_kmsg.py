# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel.kmsg import KernelLog, LoggedLoad, parse_line, parse_load
from kexecwatchd.model import Segment

from .trees import DATA, populate

CRASH = (DATA / "kmsg-crash-7.3").read_text().splitlines()
REBOOT = (DATA / "kmsg-reboot-7.3").read_text().splitlines()


class TestKernelLog:
    def log(self, root: Path, text: str) -> KernelLog:
        populate(root, {"dev/kmsg": text})
        return KernelLog(root)

    def append(self, root: Path, text: str) -> None:
        with (root / "dev/kmsg").open("a") as file:
            file.write(text)

    def test_only_what_comes_after_the_mark(self, tmp_path: Path) -> None:
        with self.log(tmp_path, "6,1,100,-;old\n") as log:
            log.mark()
            self.append(tmp_path, "6,2,200,-;kexec_file: new\n SUBSYSTEM=x\n DEVICE=y\n")
            self.append(tmp_path, "4,3,300,-,caller=T1;tab\\x09 and \\x5c backslash\n")
            assert log.since_mark() == (["kexec_file: new", "tab\t and \\ backslash"], True)
            assert log.since_mark() == ([], True)

    def test_programs_lines_are_left_out(self, tmp_path: Path) -> None:
        with self.log(tmp_path, "30,1,100,-;nr_segments = 1\n6,2,200,-;real\n") as log:
            assert log.since_mark() == (["real"], True)

    def test_overwritten_records_are_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers: list[bytes | int] = [b"6,1,1,-;one\n", errno.EPIPE, b"6,9,9,-;two\n", errno.EAGAIN]

        def read(fd: int, size: int) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, int):
                raise OSError(answer, os.strerror(answer))
            return answer

        with self.log(tmp_path, "") as log:
            monkeypatch.setattr("kexecwatchd.kernel.kmsg.os.read", read)
            assert log.since_mark() == (["one", "two"], False)
            answers.append(errno.EIO)
            with pytest.raises(OSError, match="Input/output"):
                log.since_mark()

    def test_a_flood_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.log(tmp_path, "") as log:
            monkeypatch.setattr("kexecwatchd.kernel.kmsg.os.read", lambda *_: b"6,1,1,-;again\n")
            lines, complete = log.since_mark()
        assert lines
        assert not complete

    def test_no_such_device(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="dev/kmsg"):
            KernelLog(tmp_path)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n")))
def test_any_message_survives_its_escapes(text: str) -> None:
    escaped = "".join(
        c if c.isprintable() and c != "\\" and ord(c) < 128 else f"\\x{ord(c):02x}"
        for c in text
        if ord(c) < 256
    )
    kept = "".join(c for c in text if ord(c) < 256)
    assert parse_line(f"6,1234,5678,-;{escaped}") == kept


@given(st.text())
def test_any_line_is_text_or_nothing(line: str) -> None:
    parse_line(line)
    assert parse_load([line]) is None


class TestLoad:
    def test_a_crash_image(self) -> None:
        assert parse_load(CRASH) == LoggedLoad(
            type=1,
            segments=(
                Segment(0xF000000, 0xE1000),
                Segment(0x1EFFB000, 0x5000, "purgatory"),
                Segment(0x1EFF9000, 0x2000, "boot parameters"),
                Segment(0x1B000000, 0x3E4E000, "kernel"),
                Segment(0x1AE1C000, 0x1E4000, "initrd"),
            ),
            elfcorehdr=0xF000000,
        )

    def test_a_reboot_image_has_no_header(self) -> None:
        placement = parse_load(REBOOT)
        assert placement is not None
        assert (placement.type, placement.elfcorehdr) == (0, None)
        assert [(s.mem, s.name) for s in placement.segments] == [
            (0x11FFFB000, "purgatory"),
            (0x11FFF9000, "boot parameters"),
            (0x11C000000, "kernel"),
            (0x11BE1C000, "initrd"),
        ]

    def test_names_are_those_of_this_load(self) -> None:
        """Not those of a load that failed after it had placed its segments, nor of the last one."""
        failed = [*REBOOT[:5], *REBOOT[:1], *(line for line in REBOOT[1:] if "Loaded" not in line)]
        placement = parse_load(failed)
        assert placement is not None
        assert [s.name for s in placement.segments] == [""] * 4
        again = parse_load([*REBOOT, *(line for line in REBOOT[1:] if "Loaded" not in line)])
        assert again == placement

    def test_the_last_complete_one_counts(self) -> None:
        assert parse_load(CRASH + REBOOT) == parse_load(REBOOT)
        assert parse_load(REBOOT + CRASH) == parse_load(CRASH)
        assert parse_load(CRASH + REBOOT[:-1]) == parse_load(CRASH)

    def test_a_failed_load_leaves_nothing_behind(self) -> None:
        """A crash load that fails after its header, then one whose header the log lost."""
        lost = [line for line in CRASH if "ELF headers" not in line]
        placement = parse_load(CRASH[:-1] + lost)
        assert placement is not None
        assert placement.elfcorehdr is None

    @pytest.mark.parametrize("index", range(len(CRASH)))
    def test_a_lost_line_is_never_papered_over(self, index: int) -> None:
        whole = parse_load(CRASH)
        without = parse_load(CRASH[:index] + CRASH[index + 1 :])
        if any(word in CRASH[index] for word in ("nr_segments", "segment[", "type:")):
            assert without is None
        elif "Loaded" in CRASH[index]:
            assert without is not None
            assert without != whole
            assert whole is not None
            assert [s.range for s in without.segments] == [s.range for s in whole.segments]
        else:
            assert without == whole

        # A header that belongs to no line of a reboot image's load.
        stray = next(line for line in CRASH if "ELF headers" in line)
        assert parse_load([stray, *REBOOT[1:]]) == parse_load(REBOOT)

    def test_segments_come_in_order_and_once(self) -> None:
        again = next(i for i, line in enumerate(CRASH) if "segment[1]" in line)
        assert parse_load([*CRASH[:again], CRASH[again], *CRASH[again:]]) is None
        twice = [line.replace("segment[2]", "segment[1]") for line in CRASH]
        assert parse_load(twice) is None

    def test_arm64_names_the_header_otherwise(self) -> None:
        lines = [
            line.replace("kexec: Loaded ELF headers at", "kexec_file: Loaded elf core header at")
            for line in CRASH
        ]
        assert lines != CRASH
        assert parse_load(lines) == parse_load(CRASH)

    def test_other_words_before_the_message(self) -> None:
        bare = [line.split(": ", 1)[1] if ": " in line else line for line in CRASH]
        assert parse_load(bare) == parse_load(CRASH)
        assert parse_load([f"[T12] {line}" for line in bare]) is None

    @given(
        st.lists(
            st.tuples(st.integers(0, 1 << 50), st.integers(1, 1 << 40)), min_size=1, max_size=16
        ),
        st.sampled_from([0, 1]),
        st.lists(st.sampled_from(["systemd[1]: x", "kexec: elfcorehdr", "", "E820 memmap:"])),
    )
    def test_placements_survive(
        self, rows: list[tuple[int, int]], kind: int, noise: list[str]
    ) -> None:
        lines = [f"kexec_file: nr_segments = {len(rows)}"]
        lines += [
            f"kexec_file: segment[{i}]: buf=0x00000000cafe0000 bufsz=0x10 mem=0x{m:x} memsz=0x{n:x}"
            for i, (m, n) in enumerate(rows)
        ]
        done = f"kexec_file: kexec_file_load: type:{kind}, start:0x1 head:0x2 flags:0xa"
        placement = parse_load([*noise, *lines, *noise, done, *noise])
        assert placement == LoggedLoad(kind, tuple(Segment(m, n) for m, n in rows))
