# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import blocks
from kexecwatchd.kernel.blocks import BlockReader
from kexecwatchd.model import Blocks, BlockState

from .trees import populate

MEMORY = "sys/devices/system/memory"


def put(root: Path, states: dict[int, str], size: str = "8000000") -> None:
    populate(root, {f"{MEMORY}/block_size_bytes": f"{size}\n", f"{MEMORY}/probe": ""})
    populate(root, {f"{MEMORY}/memory{n}/state": f"{s}\n" for n, s in states.items()})


def states(read: Blocks) -> dict[int, str]:
    return {number: str(block.state) for number, block in read.by_number.items()}


def test_all_blocks_in_order(tmp_path: Path) -> None:
    put(tmp_path, {40: "online", 9: "offline", 0: "going-offline"})
    read = BlockReader(tmp_path).read(None)
    assert read.size == 128 << 20
    assert list(states(read).items()) == [(0, "going-offline"), (9, "offline"), (40, "online")]


def test_no_memory_hotplug(tmp_path: Path) -> None:
    assert BlockReader(tmp_path).read(None) == Blocks(size=0, by_number={})
    assert BlockReader(tmp_path).read([3]) == Blocks(size=0, by_number={})


def test_only_new_and_changed_blocks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, dict.fromkeys(range(1000), "online"))
    reader = BlockReader(tmp_path)
    reader.read(None)
    put(tmp_path, {7: "offline", 8: "offline", 1000: "offline"})
    shutil.rmtree(tmp_path / MEMORY / "memory500")
    opened: list[str] = []
    real = os.open

    def note(path: Path, flags: int) -> int:
        opened.append(path.parent.name)
        return real(path, flags)

    monkeypatch.setattr("kexecwatchd.kernel.blocks.os.open", note)
    read = reader.read([7, 500, 4000])
    assert sorted(opened) == ["memory1000", "memory7"]
    # Block 8 changed without being named: what is remembered holds until a full look.
    expected = dict.fromkeys(range(1000), "online") | {7: "offline", 1000: "offline"}
    del expected[500]
    assert states(read) == expected
    assert states(reader.read(None))[8] == "offline"


def test_going_offline_is_never_remembered(tmp_path: Path) -> None:
    put(tmp_path, {5: "going-offline"})
    reader = BlockReader(tmp_path)
    reader.read(None)
    put(tmp_path, {5: "online"})
    assert states(reader.read([])) == {5: "online"}


def test_a_block_that_comes_back_is_read_again(tmp_path: Path) -> None:
    put(tmp_path, {5: "online", 6: "online"})
    reader = BlockReader(tmp_path)
    reader.read(None)
    shutil.rmtree(tmp_path / MEMORY / "memory5")
    assert states(reader.read([])) == {6: "online"}
    put(tmp_path, {5: "offline"})
    assert states(reader.read([])) == {5: "offline", 6: "online"}


def test_a_block_that_goes_during_the_read_is_no_error(tmp_path: Path) -> None:
    put(tmp_path, {5: "online"})
    (tmp_path / MEMORY / "memory6").mkdir()
    assert states(BlockReader(tmp_path).read(None)) == {5: "online"}


def test_other_failures_are_not_hidden(tmp_path: Path) -> None:
    put(tmp_path, {5: "online"})
    (tmp_path / MEMORY / "memory6/state").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        BlockReader(tmp_path).read(None)


def test_an_unknown_word_is_not_taken_for_safe(tmp_path: Path) -> None:
    put(tmp_path, {5: "ERROR-UNKNOWN-7", 6: ""})
    assert {b.state for b in BlockReader(tmp_path).read(None).by_number.values()} == {
        BlockState.OFFLINE
    }


def test_a_block_size_that_is_none(tmp_path: Path) -> None:
    put(tmp_path, {}, size="lots")
    with pytest.raises(ValueError, match="block_size_bytes: 'lots'"):
        BlockReader(tmp_path).read(None)


def test_zone(tmp_path: Path) -> None:
    put(tmp_path, {5: "offline", 6: "online"})
    populate(tmp_path, {f"{MEMORY}/memory5/valid_zones": "Normal Movable\n"})
    populate(tmp_path, {f"{MEMORY}/memory6/valid_zones": "none\n"})
    populate(tmp_path, {f"{MEMORY}/memory7/valid_zones": "\n"})
    reader = BlockReader(tmp_path)
    assert [reader.zone(n) for n in (5, 6, 7, 8)] == ["Normal", "none", "", ""]


def test_a_zone_is_remembered_until_its_block_is_read_again(tmp_path: Path) -> None:
    put(tmp_path, {5: "online", 6: "online"})
    reader = BlockReader(tmp_path)
    reader.read(None)
    assert reader.zone(5) == "", "one that could not be read is asked for again"

    def show(zone: str) -> None:
        populate(tmp_path, {f"{MEMORY}/memory{n}/valid_zones": f"{zone}\n" for n in (5, 6)})

    def zones() -> list[str]:
        return [reader.zone(n) for n in (5, 6)]

    show("Normal")
    assert zones() == ["Normal", "Normal"]
    show("Movable")
    reader.read([])
    assert zones() == ["Normal", "Normal"]
    reader.read([6])
    assert zones() == ["Normal", "Movable"]
    reader.read(None)
    assert zones() == ["Movable", "Movable"]
    show("DMA32")
    shutil.rmtree(tmp_path / f"{MEMORY}/memory5")
    reader.read([])
    put(tmp_path, {5: "online"})
    show("DMA32")
    reader.read([])
    assert zones() == ["DMA32", "Movable"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), max_size=12))
def test_only_numbered_directories_are_blocks(name: str) -> None:
    number = name.removeprefix("memory")
    real = name.startswith("memory") and number != "" and all(c in "0123456789" for c in number)
    assert blocks.block_number(name) == (int(number) if real else None)


@given(st.integers(0, 1 << 40))
def test_numbers_survive(number: int) -> None:
    assert blocks.block_number(f"memory{number}") == number
