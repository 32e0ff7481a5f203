# SPDX-License-Identifier: GPL-2.0-or-later
"""NUMA nodes: which memory block is on which, from /sys/devices/system/node/nodeN/memoryM.

The links tell it for all blocks at the price of one directory a node; nothing is opened. Format:
Documentation/ABI/stable/sysfs-devices-node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kexecwatchd.kernel.blocks import block_number

_NODE = re.compile(r"node([0-9]+)")


def of_blocks(root: Path = Path("/")) -> Mapping[int, int]:
    """{block number: node}; of a block on several nodes the lowest, {} where there are no nodes.

    Raises OSError where a directory that is there cannot be listed.
    """
    found: dict[int, int] = {}
    for node, directory in sorted(_nodes(root / "sys/devices/system/node")):
        try:
            names = os.listdir(directory)
        except FileNotFoundError:  # gone since: its memory was taken away
            continue
        for name in names:
            number = block_number(name)
            if number is not None:
                found.setdefault(number, node)
    return found


def _nodes(directory: Path) -> Iterator[tuple[int, Path]]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:  # no CONFIG_NUMA
        return
    for name in names:
        match = _NODE.fullmatch(name)
        if match:
            yield int(match[1]), directory / name
