# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts real boots against the predicted odds: python -m tests.vm.kaslrodds [KERNEL] [BOOTS]

Each boot is held against what is predicted of its own place; at the end, how many failed, and
whether the places came up evenly (chi-square over 20 groups of places). A boot takes seconds.

The machine has one room for the 256 MiB below 4 GiB that go with 320 MiB above, and holes made with
memmap= around it.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kexecwatchd.checks import next_boot
from kexecwatchd.checks.host import Host
from kexecwatchd.kernel import boot_params, crashkernel, firmware_map
from kexecwatchd.ranges import RangeSet
from tests.vm.lab import Lab
from tests.vm.scenarios.kaslrboots import Boots, Seen

MEMORY = (768, 768)
CMDLINE = "crashkernel=320M memmap=16M$128M,16M$456M memmap=16M$600M"
_GROUPS = 20


def outlook(host: Host) -> next_boot.NextBoot:
    """What is predicted of the machine's boots."""
    params = boot_params.read(host.root)
    assert params
    memory = firmware_map.usable((*params.entries, *params.extra), host.cmdline)
    request = crashkernel.parse(host.cmdline, memory.size)
    assert request
    return next_boot.next_boot(host, params, request, RangeSet())


def as_predicted(predicted: next_boot.NextBoot, boot: Seen) -> bool:
    """True when it lay at one of the places, and reserved what had to come of that."""
    layouts = (predicted.model.hopeful, predicted.model.cautious)
    return boot.place in predicted.model.slots and boot.reserved in [
        layout.reserve(predicted.request, boot.place) for layout in layouts
    ]


def chi_square(places: Sequence[int], seen: Sequence[int]) -> float:
    """Of how often each of 20 groups of places came up; 19 degrees of freedom."""
    group = {place: n * _GROUPS // len(places) for n, place in enumerate(sorted(places))}
    total = 0.0
    for n in range(_GROUPS):
        expected = len(seen) * sum(g == n for g in group.values()) / len(places)
        total += (sum(group[place] == n for place in seen) - expected) ** 2 / expected
    return total


def main(kernel: str, many: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        boots = Boots(Lab(), kernel, Path(directory), MEMORY, CMDLINE)
        predicted = outlook(Host(boots.look()))
        odds = predicted.odds
        print(f"{boots.kernel.release}: {odds.places} places, {odds.least} to {odds.most} fail")
        seen = []
        for number in range(1, many + 1):
            boot = boots.boot()
            seen.append(boot)
            right = as_predicted(predicted, boot)
            print(
                f"{number:4} {boot.place:#x} {'as predicted' if right else 'WRONG'}: {boot.message}"
            )
    failed, p = sum(boot.reserved is None for boot in seen), odds.most / odds.places
    print(
        f"{many} boots, {failed} failed, {p * many:.1f} predicted"
        f" (standard deviation {math.sqrt(many * p * (1 - p)):.1f}),"
        f" {sum(as_predicted(predicted, boot) for boot in seen)} as predicted each;"
        f" chi-square {chi_square(list(predicted.model.slots), [b.place for b in seen]):.1f}"
    )


if __name__ == "__main__":
    _, kernel, boots = (*sys.argv, *("", "6.12", "200")[len(sys.argv) :])
    main(kernel, int(boots))
