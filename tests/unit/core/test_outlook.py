# SPDX-License-Identifier: GPL-2.0-or-later
"""What the forecast is made from, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kexecwatchd import forecast
from kexecwatchd.forecast import Request
from kexecwatchd.kernel.placement_rules import Rules
from kexecwatchd.model import ImageFiles, MemoryMap, Observation, PlacedBy
from kexecwatchd.outlook import Outlook
from kexecwatchd.ranges import Range, RangeSet
from tests.fake_kernel import CMDLINE, bzimage
from tests.unit.core.cases import seen
from tests.unit.kernel.trees import kexec_rules, populate

MIB, GIB = 1 << 20, 1 << 30
RULES = Rules(highest_first=True, purgatory=0x5000, boot_parameters=(160,))
LOW, MAIN = Range(0x1000, 0x9F000), Range(MIB, GIB)


def memory(*resources: Range) -> MemoryMap:
    return MemoryMap(RangeSet(resources), resources=resources)


MEMORY = memory(LOW, MAIN)


def kernel_file(
    init_size: int = 3 * MIB, alignment: int = 4 * MIB, preferred: int = 16 * MIB
) -> bytes:
    image = bytearray(bzimage(init_size=init_size))
    struct.pack_into("<I", image, 0x230, alignment)
    struct.pack_into("<Q", image, 0x258, preferred)
    return bytes(image)


class Machine:
    """A root with a kernel whose rules can be read, and the files of an image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        kexec_rules(root)
        populate(root, {"boot/vmlinuz": kernel_file(), "boot/initrd.img": bytes(5000)})
        self.kernel, self.initrd = root / "boot/vmlinuz", root / "boot/initrd.img"
        self.files = ImageFiles(self.kernel, self.initrd, CMDLINE)
        self.outlook = Outlook(root, "x86_64")

    def add(self, files: ImageFiles | None = None, where: MemoryMap = MEMORY) -> Observation:
        return self.outlook.add(seen(), where, files or self.files)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_forecast_joins_the_look(machine: Machine) -> None:
    look = machine.add()
    assert look.forecast is not None
    request = Request(3 * MIB, 4 * MIB, 16 * MIB, 5000, len(CMDLINE) + 1)
    assert look.forecast.segments == forecast.forecast(RULES, request, (LOW, MAIN))
    assert look.forecast.source is PlacedBy.PREDICTION
    assert replace(look, forecast=None) == seen()


def test_the_resources_count_and_not_what_they_make_up_together(machine: Machine) -> None:
    """Two that touch are two to the kernel; and driver-managed ones are none."""
    halves = (Range(MIB, GIB - 2 * MIB), Range(GIB - 2 * MIB, GIB))
    together, apart = machine.add(where=memory(MAIN)), machine.add(where=memory(*halves))
    assert together.forecast is not None
    assert apart.forecast is not None
    assert apart.forecast.segments[0] == together.forecast.segments[0]
    assert apart.forecast.segments[2].range.end <= GIB - 2 * MIB
    assert apart.forecast.segments != together.forecast.segments


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the rules are asked for."""
    requests: list[Request] = []
    answer = forecast.forecast

    def ask(rules: Rules, request: Request, resources: tuple[Range, ...]) -> object:
        assert rules == RULES
        requests.append(request)
        return answer(rules, request, resources)

    monkeypatch.setattr(forecast, "forecast", ask)
    return requests


@pytest.mark.parametrize(
    ("cmdline", "count"), [("", 1), ("quiet", 6), ("name=\u00e4", 8), ("x" * 2000, 2001)]
)
def test_the_command_line_counts_in_bytes_and_with_its_end(
    machine: Machine, asked: list[Request], cmdline: str, count: int
) -> None:
    machine.add(machine.files._replace(cmdline=cmdline))
    assert asked == [Request(3 * MIB, 4 * MIB, 16 * MIB, 5000, count)]


def test_the_files_are_looked_at_each_time(machine: Machine, asked: list[Request]) -> None:
    machine.add()
    machine.kernel.write_bytes(kernel_file(5 * MIB, 2 * MIB, 32 * MIB))
    machine.initrd.write_bytes(bytes(7))
    machine.add()
    machine.add(machine.files._replace(initrd=None))
    assert [r.initrd_size for r in asked] == [5000, 7, None]
    assert asked[1] == Request(5 * MIB, 2 * MIB, 32 * MIB, 7, len(CMDLINE) + 1)


def test_without_an_initrd_there_is_no_segment_for_one(machine: Machine) -> None:
    look = machine.add(machine.files._replace(initrd=None))
    assert look.forecast is not None
    names = [segment.name for segment in look.forecast.segments]
    assert names == ["purgatory", "boot parameters", "kernel"]


def test_the_rules_are_read_once(machine: Machine) -> None:
    first = machine.add()
    shutil.rmtree(machine.root / "proc")
    assert machine.add() == first
    assert first.forecast is not None


def test_rules_that_are_unknown_stay_so(machine: Machine) -> None:
    """The file is large on a real machine, and says the same until the next boot."""
    kallsyms = machine.root / "proc/kallsyms"
    symbols = kallsyms.read_text()
    kallsyms.write_text("")
    for text in ("", symbols):
        kallsyms.write_text(text)
        look = machine.add()
        assert look.forecast is None
        assert "no kexec_file_load" in look.forecast_problem
    machine.outlook = Outlook(machine.root, "x86_64")
    assert machine.add().forecast is not None


def test_another_machine_has_other_rules(machine: Machine) -> None:
    machine.outlook = Outlook(machine.root, "aarch64")
    look = machine.add()
    assert look.forecast is None
    assert "not aarch64's" in look.forecast_problem


def become(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


KERNELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "boot/vmlinuz: No such file or directory"),
    "fifo": (become(os.mkfifo), "not a regular file"),
    "directory": (become(Path.mkdir), "not a regular file"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_bytes(b"x" * 5000), "not a bzImage"),
    "cut short": (lambda path: os.truncate(path, 3000), "truncated"),
    "dangling": (become(lambda path: path.symlink_to("nowhere")), "No such file"),
}


@pytest.mark.parametrize("how", KERNELS)
def test_a_kernel_that_cannot_be_looked_at(machine: Machine, how: str) -> None:
    change, words = KERNELS[how]
    change(machine.kernel)
    before = len(os.listdir("/proc/self/fd"))
    look = machine.add()
    assert look.forecast is None
    assert words in look.forecast_problem
    assert replace(look, forecast_problem="") == seen()
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_stays_open(machine: Machine) -> None:
    before = len(os.listdir("/proc/self/fd"))
    machine.add()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_initrd_that_is_gone(machine: Machine) -> None:
    machine.initrd.unlink()
    look = machine.add()
    assert look.forecast is None
    assert look.forecast_problem == f"{machine.initrd}: No such file or directory"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ((LOW,), "no System RAM resource has room"),
        ((), "no System RAM resource has room"),
        ((Range(0x1000, 0x9F000), Range(MIB, 12 * MIB)), "2 different ways"),
    ],
)
def test_where_the_rules_give_no_answer(
    machine: Machine, resources: tuple[Range, ...], words: str
) -> None:
    look = machine.add(machine.files._replace(initrd=None), memory(*resources))
    assert look.forecast is None
    assert words in look.forecast_problem
    for address in ("0x", "9f000", "1000"):
        assert address not in look.forecast_problem


def test_a_kernel_that_hides_its_data_is_told_without_addresses(machine: Machine) -> None:
    os.truncate(machine.root / "proc/kcore", 512)
    look = machine.add()
    assert look.forecast is None
    assert "kcore" in look.forecast_problem
    assert "0x" not in look.forecast_problem
    assert "ffffffff" not in look.forecast_problem
