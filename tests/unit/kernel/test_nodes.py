# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import nodes

from .trees import populate

NODES = "sys/devices/system/node"
MEMORY = "sys/devices/system/memory"


def put(root: Path, blocks: Mapping[int, Sequence[int]]) -> None:
    """{node: its blocks}, as links beside what else a node's directory holds."""
    populate(root, {f"{NODES}/online": "0\n", f"{NODES}/has_memory": "0\n"})
    for node, numbers in blocks.items():
        populate(root, {f"{NODES}/node{node}/meminfo": "Node 0 MemTotal: 1 kB\n"})
        for number in numbers:
            (root / MEMORY / f"memory{number}").mkdir(parents=True, exist_ok=True)
            link = root / NODES / f"node{node}/memory{number}"
            link.symlink_to(f"../../memory/memory{number}")
        (root / NODES / f"node{node}/cpu{node}").symlink_to(f"../../cpu/cpu{node}")


def test_each_block_is_on_its_node(tmp_path: Path) -> None:
    put(tmp_path, {0: [0, 1, 32], 3: [40, 41], 10: []})
    assert nodes.of_blocks(tmp_path) == {0: 0, 1: 0, 32: 0, 40: 3, 41: 3}


def test_a_block_on_two_nodes_counts_for_the_lower_number(tmp_path: Path) -> None:
    put(tmp_path, {10: [7], 9: [7]})
    assert nodes.of_blocks(tmp_path) == {7: 9}


def test_no_nodes(tmp_path: Path) -> None:
    assert nodes.of_blocks(tmp_path) == {}


def test_a_node_that_goes_meanwhile_has_no_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {0: [0], 1: [1]})
    real = os.listdir

    def listdir(path: Path) -> list[str]:
        if path.name == "node1":
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr("kexecwatchd.kernel.nodes.os.listdir", listdir)
    assert nodes.of_blocks(tmp_path) == {0: 0}


def test_no_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {0: range(100)})

    def refuse(*arguments: object) -> int:
        raise AssertionError(arguments)

    monkeypatch.setattr("kexecwatchd.kernel.nodes.os.open", refuse)
    assert len(nodes.of_blocks(tmp_path)) == 100


@given(st.dictionaries(st.integers(0, 1023), st.sets(st.integers(0, 50)), max_size=5))
def test_every_block_is_found_on_the_first_node_that_has_it(blocks: dict[int, set[int]]) -> None:
    with TemporaryDirectory() as directory:
        put(Path(directory), {node: sorted(numbers) for node, numbers in blocks.items()})
        found = nodes.of_blocks(Path(directory))
    assert found.keys() == set().union(*blocks.values())
    for number, node in found.items():
        assert node == min(n for n, numbers in blocks.items() if number in numbers)
