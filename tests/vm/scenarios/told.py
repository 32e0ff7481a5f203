# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the reboot image lies by what the daemon tells root; placement.py asks without it."""

from __future__ import annotations

import json
from typing import Any

from tests.vm.lab.hotplug import Dimm
from tests.vm.lab.machine import Machine
from tests.vm.scenarios.placement import MEMORY, Span, blocks
from tests.vm.watched import Watched

Spans = list[Span]


def details(watched: Watched, image: str = "reboot") -> dict[str, Any]:
    """What the daemon tells root of an image, after a look of now."""
    answer = json.loads(watched.vm.run("kexecwatchctl verify --json", check=False).text)
    found: dict[str, Any] = next(i for i in answer["details"]["images"] if i["image"] == image)
    return found


def segments(watched: Watched) -> Spans:
    """Where the reboot image lies; ends exclusive."""
    return [(int(s["start"], 16), int(s["end"], 16) + 1) for s in details(watched)["segments"]]


def hazards(watched: Watched) -> dict[str, set[str]]:
    """What is wrong with the place of each of the reboot image's segments, by its name."""
    return {
        s["name"]: {risk["hazard"] for risk in s["risks"]} for s in details(watched)["segments"]
    }


def inside(spans: Spans, dimm: Dimm) -> bool:
    """True when all of them, and at least one, lie in the DIMM."""
    return bool(spans) and all(dimm.start <= low and high <= dimm.end for low, high in spans)


def outside(spans: Spans, dimm: Dimm) -> bool:
    """True when none of them, and there is one, touches the DIMM."""
    return bool(spans) and all(high <= dimm.start or dimm.end <= low for low, high in spans)


def extent(spans: Spans) -> str:
    """For the figures: from the lowest to the highest address."""
    return f"{min(low for low, _ in spans):#x}-{max(high for _, high in spans) - 1:#x}"


def without_kexec_tools(vm: Machine) -> None:
    """A machine on which they are not installed."""
    vm.run("mv /usr/sbin/kexec /usr/sbin/kexec.away")


def with_kexec_tools(vm: Machine) -> None:
    """And back again: the lab itself starts images by `kexec -e`."""
    vm.run("mv /usr/sbin/kexec.away /usr/sbin/kexec")


def take_offline(vm: Machine, spans: Spans) -> str:
    """Take one memory block offline that has some of the spans in it; its state file."""
    numbers = blocks(vm, spans)
    said = ""
    for number in numbers:
        state = f"{MEMORY}/memory{number}/state"
        answer = vm.run(f"echo offline >{state}", check=False)
        if answer.code == 0:
            return state
        said = answer.stderr.decode()
    raise AssertionError(f"none of the memory blocks {numbers} goes offline: {said}")
