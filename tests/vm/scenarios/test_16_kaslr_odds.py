# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 16: with the kernel where KASLR put it, the crash kernel's memory is there or not, as
predicted from the firmware map; each boot of it, to the byte.

The machines have one room for 200 MiB below 4 GiB, and half of all places for the kernel are in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kexecwatchd.checks import next_boot, reservation
from kexecwatchd.checks.check import Answer
from kexecwatchd.checks.doctor import examine
from kexecwatchd.checks.host import Host
from kexecwatchd.kernel import iomem
from tests.vm.kaslrodds import as_predicted, outlook
from tests.vm.lab import Lab

from .conftest import Figures
from .kaslrboots import Boots, Seen

pytestmark = pytest.mark.vm

LOW, HIGH = 768, 256
# Leaves one range of 256 MiB below 4 GiB, and what the initrd lies in.
CMDLINE = "crashkernel=64M,high crashkernel=200M,low memmap=112M$16M,368M$384M"
BOOTS = {"6.12": 10, "6.1": 4, "7.3": 4}


def test_each_boot_is_as_predicted(lab: Lab, tmp_path: Path, figures: Figures) -> None:
    """Of 18 boots with odds of 48 % each, all end alike with a probability of 1 in 100,000."""
    seen: list[Seen] = []
    for kernel, many in BOOTS.items():
        directory = tmp_path / kernel
        directory.mkdir()
        boots = Boots(lab, kernel, directory, (LOW, HIGH), CMDLINE)
        host = Host(boots.look())
        predicted = outlook(host)
        assert predicted.odds.least == predicted.odds.most
        assert 0.4 < predicted.odds.most / predicted.odds.places < 0.6

        here = [boots.boot() for _ in range(many)]
        for boot in here:
            assert as_predicted(predicted, boot), boot
        seen += here
        _the_checks_say_so(host)
        figures(
            kernel=boots.kernel.release,
            places=predicted.odds.places,
            failing=predicted.odds.most,
            boots=many,
            failed=sum(boot.reserved is None for boot in here),
        )
    assert {boot.reserved is None for boot in seen} == {True, False}


def _the_checks_say_so(host: Host) -> None:
    """Of the boot that was looked at to its end."""
    reserved = bool(iomem.read_memory_map(host.root).crash_regions)
    this = examine(host, reservation.CHECK)
    assert this.answer is (Answer.OK if reserved else Answer.PROBLEM), this
    if not reserved:
        assert "crashkernel low memory" in this.summary, "the kernel's own message"
    following = examine(host, next_boot.CHECK)
    assert following.answer is (Answer.WARNING if reserved else Answer.PROBLEM), following
    assert re.search(r"\b(4\d|50) % of boots", following.summary), following
