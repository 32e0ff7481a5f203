# SPDX-License-Identifier: GPL-2.0-or-later
"""kexec-tools: when they may be used, how they are run, and what is made of their words.

data/kexec-tools-2.0.29 is what `kexec -c -l -d` said on Linux 6.12 (its lines about relocations cut
down to a few).
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd import loaders
from kexecwatchd.kernel import kexec_file
from kexecwatchd.loaders import Call, kexec_tools
from kexecwatchd.loaders.kexec_tools import BUSY_PAUSES, PROGRAMS, obstacle, parse_segments
from kexecwatchd.model import PlacedBy, Placement, Segment
from kexecwatchd.preflight import Files
from kexecwatchd.ranges import RangeSet
from tests.unit.kernel.trees import populate

SAID = (Path(__file__).parent / "data/kexec-tools-2.0.29").read_text()
SEGMENTS = (
    Segment(0x100000, 0x1000),
    Segment(0x2C600000, 0x37EE000, "kernel"),
    Segment(0x2FE04000, 0x1C7000, "initrd"),
    Segment(0x2FFCB000, 0x6000, "boot parameters"),
    Segment(0x2FFD1000, 0x9000, "purgatory"),
)
LIST = SAID[SAID.index("nr_segments") :]
NO_ROOM = "Could not find a free area of memory of 0x37ee000 bytes...\nlocate_hole failed\n"
BELOW = 0x30000000


class TestParsing:
    def test_what_it_said(self) -> None:
        assert parse_segments(SAID) == SEGMENTS

    def test_the_last_list_counts(self) -> None:
        assert parse_segments(SAID + "nr_segments = 7\n" + LIST) == SEGMENTS
        assert parse_segments(SAID + "nr_segments = 7\n") is None

    def test_null_is_an_address(self) -> None:
        said = "nr_segments = 1\nsegment[0].buf   = (nil)\nsegment[0].mem   = (nil)\n"
        assert parse_segments(said + "segment[0].memsz = 0x1000\n") == (Segment(0, 0x1000),)

    @pytest.mark.parametrize("line", [n for n, _ in enumerate(LIST.splitlines())])
    def test_a_list_with_a_line_lost_is_none(self, line: int) -> None:
        lines = LIST.splitlines()
        if ".buf" not in lines[line]:
            del lines[line]
            assert parse_segments("\n".join(lines)) is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("nr_segments = 5", "nr_segments = 4"),
            ("nr_segments = 5", "nr_segments = 0"),
            ("segment[1]", "segment[2]"),
            ("segment[4]", "segment[3]"),
            ("0x37ee000\n", "0x0\n"),
        ],
    )
    def test_a_list_that_does_not_add_up_is_none(self, old: str, new: str) -> None:
        assert parse_segments(LIST.replace(old, new)) is None

    @given(st.lists(st.tuples(st.integers(0, 1 << 52), st.integers(1, 1 << 40)), min_size=1))
    def test_any_list_comes_back(self, segments: list[tuple[int, int]]) -> None:
        said = f"nr_segments = {len(segments)}\n"
        for number, (mem, size) in enumerate(segments):
            said += f"segment[{number}].mem   = {mem:#x}\nsegment[{number}].memsz = {size:#x}\n"
        assert parse_segments(said) == tuple(Segment(mem, size) for mem, size in segments)

    @given(st.text() | st.lists(st.sampled_from(SAID.splitlines())).map("\n".join))
    def test_any_text_is_understood_whole_or_not_at_all(self, said: str) -> None:
        segments = parse_segments(said)
        assert segments is None or f"nr_segments = {len(segments)}" in said


def machine(root: Path, **more: str | bytes) -> Path:
    populate(
        root,
        {
            "usr/sbin/kexec": "",
            "proc/sys/kernel/osrelease": "6.12.48\n",
            "proc/cmdline": "quiet\n",
            "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
            "sys/kernel/security/ima/violations": "0\n",
            "boot/config-6.12.48": "CONFIG_KEXEC=y\nCONFIG_IMA_APPRAISE=y\n",
            **more,
        },
    )
    return root


class TestObstacle:
    @pytest.mark.parametrize("program", PROGRAMS)
    def test_none(self, tmp_path: Path, program: str) -> None:
        (machine(tmp_path) / "usr/sbin/kexec").unlink()
        populate(tmp_path, {program: ""})
        assert obstacle(tmp_path) == ""

    def test_where_little_is_known_it_may_be_tried(self, tmp_path: Path) -> None:
        populate(tmp_path, {"usr/sbin/kexec": ""})
        assert obstacle(tmp_path) == ""

    def test_a_signature_for_kexec_file_load_is_none(self, tmp_path: Path) -> None:
        config = "CONFIG_KEXEC=y\nCONFIG_KEXEC_SIG=y\nCONFIG_KEXEC_SIG_FORCE=y\n"
        assert obstacle(machine(tmp_path, **{"boot/config-6.12.48": config})) == ""

    def test_not_installed(self, tmp_path: Path) -> None:
        (machine(tmp_path) / "usr/sbin/kexec").unlink()
        assert "install kexec-tools" in obstacle(tmp_path)

    def test_a_program_that_others_may_write(self, tmp_path: Path) -> None:
        (machine(tmp_path) / "usr/sbin/kexec").chmod(0o775)
        assert "kexec: others may write to it (mode 0775): chmod go-w" in obstacle(tmp_path)

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality", "lockdown=integ"),
            ("sys/kernel/security/lockdown", "none integrity [confidentiality]", "lockdown=conf"),
            ("boot/config-6.12.48", "# CONFIG_KEXEC is not set\n", "CONFIG_KEXEC=y"),
            ("sys/kernel/security/ima/policy", "appraise func=KEXEC_KERNEL_CHECK", "IMA forbids"),
        ],
    )
    def test_the_kernel_would_refuse(
        self, tmp_path: Path, name: str, text: str, words: str
    ) -> None:
        assert words in obstacle(machine(tmp_path, **{name: text}))

    def test_a_state_that_cannot_be_read_is_one(self, tmp_path: Path) -> None:
        (machine(tmp_path) / "proc/cmdline").unlink()
        assert "cannot be read" in obstacle(tmp_path)


class TestHiding:
    def test_memory_is_taken_from_the_map(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        ranges = RangeSet.of((0x180000000, 0x1A0000000), (0x200000000, 0x208000000))
        words = "memmap=0x20000000%0x180000000-1 memmap=0x8000000%0x200000000-1"
        assert kexec_tools.hiding("quiet", ranges) == f"quiet {words}"
        assert kexec_tools.hiding("", ranges) == words
        assert kexec_tools.hiding("quiet", RangeSet()) == "quiet"

    def test_elsewhere_there_is_no_such_map(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        assert kexec_tools.hiding("quiet", RangeSet.of((0x1000, 0x2000))) == "quiet"


class Program:
    """A program in the place of kexec, the files to load, and what is known of its runs."""

    def __init__(self, root: Path, files: Files) -> None:
        self.root = machine(root)
        self.files = files
        self.slept: list[float] = []

    def does(self, body: str) -> None:
        """`body`: Python that finds `say` to write to its standard error."""
        path = self.root / "usr/sbin/kexec"
        path.write_text(
            f"#!{sys.executable} -I\nimport json, os, sys, time\n"
            f"say = sys.stderr.write\nsaid = {SAID!r}\n{body}\n"
        )
        path.chmod(0o755)

    def load(self, again: bool = True, below: int = BELOW) -> Call:
        return kexec_tools.load(self.root, self.files, "root=/dev/vda1 ro", below, again=again)

    def error(self) -> str:
        error = self.load().error
        assert error is not None
        return str(error)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    fds = []
    for name in ("vmlinuz", "initrd"):
        (tmp_path / name).write_text(f"the {name}")
        fds.append(os.open(tmp_path / name, os.O_RDONLY | os.O_CLOEXEC))
        (tmp_path / name).unlink()  # only the descriptors are left
    made = Program(tmp_path, Files(fds[0], fds[1], "", ""))
    clock = types.SimpleNamespace(monotonic=time.monotonic, sleep=made.slept.append)
    monkeypatch.setattr(loaders, "time", clock)
    yield made
    for fd in fds:
        os.close(fd)


@contextmanager
def our_input(text: str) -> Iterator[None]:
    """This process's standard input."""
    kept = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


class TestLoading:
    def test_a_load(self, program: Program) -> None:
        program.does("say(said)")
        call = program.load()
        assert call.error is None
        assert call.seconds > 0
        assert call.placement == Placement(SEGMENTS, PlacedBy.LOADER)

    def test_how_it_is_run(self, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        """The arguments, the very files that were checked, and nothing of our own."""
        monkeypatch.setenv("LD_PRELOAD_OF_OURS", "1")
        note = program.root / "note"
        program.does(
            "names = [a.partition('=')[2] or a for a in sys.argv[1:]]\n"
            "files = [open(n).read() for n in names if n.startswith('/proc/self/fd/')]\n"
            "seen = [sys.argv[1:], dict(os.environ), files, sys.stdin.read(), os.getcwd()]\n"
            f"open({str(note)!r}, 'w').write(json.dumps(seen))\n"
        )
        with our_input("not for it"):
            assert program.load().error is None
        arguments, environment, files, stdin, where = json.loads(note.read_text())
        kernel, initrd = program.files.kernel_fd, program.files.initrd_fd
        assert arguments == [
            *("-c", "-l", "-d", "--no-sync", "--mem-max=0x2fffffff"),
            f"--initrd=/proc/self/fd/{initrd}",
            "--command-line=root=/dev/vda1 ro",
            f"/proc/self/fd/{kernel}",
        ]
        environment.pop("LC_CTYPE", None)  # Python's own
        assert environment == {"LC_ALL": "C"}
        assert files == ["the initrd", "the vmlinuz"]
        assert (stdin, where) == ("", "/")

    def test_without_an_initrd(self, program: Program) -> None:
        program.files = Files(program.files.kernel_fd, None, "", "")
        program.does("sys.exit(any('--initrd' in a for a in sys.argv))")
        assert program.load().error is None

    def test_words_that_are_not_understood_cost_the_placement_alone(self, program: Program) -> None:
        program.does("say('all is well')")
        call = program.load()
        assert (call.error, call.placement) == (None, None)

    def test_an_obstacle_is_told_and_nothing_is_run(self, program: Program) -> None:
        program.does(f"open({str(program.root / 'ran')!r}, 'w')")
        populate(program.root, {"sys/kernel/security/lockdown": "none [integrity]"})
        assert "lockdown=integrity" in program.error()
        assert program.load().seconds == 0
        assert not (program.root / "ran").exists()

    def test_nothing_stays_open(self, program: Program) -> None:
        before = os.listdir("/proc/self/fd")
        program.does("say('no'); sys.exit(1)")
        program.load()
        (program.root / "usr/sbin/kexec").write_text("no program")
        program.load()
        assert os.listdir("/proc/self/fd") == before


class TestFailing:
    @pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOMEM, errno.EINVAL])
    def test_the_system_call_refused(self, program: Program, number: int) -> None:
        text = f"{SAID}kexec_load failed: {os.strerror(number)}\n"
        program.does(
            f"say({text!r} + 'entry = 0x2ffd1730 flags = 0x3e0000\\n' + said); sys.exit(255)"
        )
        call = program.load()
        assert call.error is not None
        assert (call.error.number, call.error.blames_files) == (number, False)
        assert str(call.error).startswith(f"kexec_load: {errno.errorcode[number]}: ")
        assert call.seconds > 0

    def test_no_room_is_not_held_against_the_files(self, program: Program) -> None:
        program.does(f"say({NO_ROOM!r}); sys.exit(1)")
        call = program.load()
        assert call.error is not None
        assert (call.error.number, call.error.blames_files) == (errno.EADDRNOTAVAIL, False)
        assert "no hole below the limit" in str(call.error)

    def test_what_it_makes_of_the_files_is(self, program: Program) -> None:
        program.does(
            "say('warning\\nCannot determine the file type of ' + sys.argv[-1]); sys.exit(255)"
        )
        call = program.load()
        assert call.error is not None
        assert (call.error.number, call.error.blames_files) == (0, True)
        assert "Cannot determine the file type of the kernel; check the files" in str(call.error)

    @pytest.mark.parametrize(
        "line",
        [
            "Overlapping memory segments at 0x2ffd1000",
            "Base address: 0x2ffd1000 is not aligned",
            "sym: memcpy value: 2ffd1000 addr: 2ffd1000",
            "000000002ffd1000-000000002ffd1fff (1)",
        ],
    )
    def test_no_address_is_quoted(self, program: Program, line: str) -> None:
        program.does(f"say({line!r}); sys.exit(1)")
        told = program.error()
        assert "[address]" in told
        assert "2ffd1" not in told

    def test_silence_is_told(self, program: Program) -> None:
        program.does("sys.exit(3)")
        assert "exit status 3" in program.error()

    def test_a_program_that_cannot_be_started(self, program: Program) -> None:
        assert "kexec cannot be run: " in program.error()  # the file is not executable

    def test_a_busy_lock_is_tried_again(self, program: Program) -> None:
        count = program.root / "count"
        program.does(
            f"with open({str(count)!r}, 'a') as f: f.write('x')\n"
            f"busy = len(open({str(count)!r}).read()) < 3\n"
            "say(said + 'kexec_load failed: Device or resource busy\\n' * busy); sys.exit(busy)"
        )
        assert program.load().error is None
        assert program.slept == list(BUSY_PAUSES[:2])

    def test_a_lock_that_stays_busy_cost_nothing(self, program: Program) -> None:
        program.does("say('kexec_load failed: Device or resource busy\\n'); sys.exit(255)")
        call = program.load()
        assert call.error is not None
        assert (call.error.number, call.seconds) == (errno.EBUSY, 0)
        assert program.slept == list(BUSY_PAUSES)
        program.slept.clear()
        assert program.load(again=False).error is not None
        assert not program.slept


class TestBrokenOff:
    """A program that does not live to say whether it loaded."""

    @pytest.fixture
    def unloads(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        flags: list[int] = []
        monkeypatch.setattr(kexec_file, "unload", flags.append)
        return flags

    def test_hanging_before_the_load(
        self, program: Program, unloads: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kexec_tools, "HANG", 0.1)
        program.does("time.sleep(600)")
        call = program.load()
        assert call.error is not None
        assert str(call.error) == "kexec hung for 0.1 s and was killed"
        assert (call.error.number, call.error.blames_files) == (errno.ETIMEDOUT, False)
        assert not unloads

    def test_hanging_in_the_load(
        self, program: Program, unloads: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once it has said its segments it may have loaded them."""
        program.does("say(said); sys.stderr.flush(); time.sleep(600)")
        for seconds in (0.5, 2.0, 8.0, 32.0):  # however long it takes to say them
            monkeypatch.setattr(kexec_tools, "HANG", seconds)
            told = program.error()
            if unloads:
                break
        assert unloads == [0]
        assert "was killed while it loaded; whatever image it left was unloaded" in told

    def test_a_signal(self, program: Program, unloads: list[int]) -> None:
        program.does("say(said); sys.stderr.flush(); os.kill(os.getpid(), 9)")
        assert "killed by signal 9 while it loaded" in program.error()
        assert unloads == [0]

    def test_an_unload_that_fails_is_told(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(flags: int) -> None:
            raise OSError(errno.EPERM, "not permitted")

        monkeypatch.setattr(kexec_file, "unload", refuse)
        program.does("say(said); sys.stderr.flush(); os.kill(os.getpid(), 9)")
        assert "cannot be unloaded: kexec_file_load: EPERM" in program.error()
