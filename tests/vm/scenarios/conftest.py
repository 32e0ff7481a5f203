# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests with kexecwatchd installed, and the figures that the scenarios measure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.vm.conftest import FIGURES
from tests.vm.lab import Lab
from tests.vm.scenarios.kdumptools import Debian, with_kdump_tools
from tests.vm.watched import INSTALL, ROOT, Watched, stage
from tools import package

# Boot memory for guests that give a DIMM back. A load keeps its own copies of kernel and initrd in
# pages that cannot be moved; where boot memory is short they come from the DIMM.
ROOMY = "2G"

Guest = Callable[..., AbstractContextManager[Watched]]
Figures = Callable[..., None]


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kexecwatchd as `make install` lays it out."""
    return stage(tmp_path_factory.mktemp("payload"))


@pytest.fixture(scope="session")
def deb() -> Path:
    """The Debian package, as `make deb` builds it."""
    return package.build("deb", ROOT, ROOT / "build/deb", ROOT / "dist")


@pytest.fixture
def guest(lab: Lab, payload: Path) -> Guest:
    """guest("6.1", cmdline="…"): a running guest with the daemon installed but not started."""

    @contextmanager
    def start(kernel: str, cmdline: str = "", memory: str = "1G") -> Iterator[Watched]:
        with lab.machine(
            kernel, payload=payload, install=INSTALL, cmdline=cmdline, memory=memory
        ) as vm:
            watched = Watched(vm)
            yield watched
            _require_no_denied_call(vm.console.text())
            if vm.alive() and vm.stage == "system":
                _require_right_prediction(watched)

    return start


# A system call that a unit's filter denied: systemd has the kernel log them (guest/init).
_DENIED = re.compile(r'audit: type=1326 .* comm="(.*?)" exe="(.*?)" .* syscall=(\d+) ')
_OURS = re.compile(r"/usr/(bin/python3.*|sbin/kexec)")
# clone3: with RestrictNamespaces= it is denied so that the C library calls clone instead.
_MEANT = ("435",)


def _require_no_denied_call(console: str) -> None:
    """In every scenario: no filter of our units denied a call, which its caller may take silently.

    The console has what was denied to the last, in shutdowns too.
    """
    denied = [
        f"{comm}: system call {number}"
        for comm, program, number in _DENIED.findall(console)
        if _OURS.fullmatch(program) and number not in _MEANT
    ]
    assert not denied, f"denied by the units' SystemCallFilter=: {denied}"


def _require_right_prediction(watched: Watched) -> None:
    """In every scenario: where a reboot image's place was predicted and logged, both agree."""
    ledger = watched.vm.run("cat /run/kexecwatchd/ledger.json", check=False).text
    if ledger:
        assert json.loads(ledger)["reboot"]["prediction"] != "disagrees", ledger


@pytest.fixture
def bare(lab: Lab) -> Guest:
    """bare("6.1", cmdline="…"): a running guest without the daemon.

    For controls that plug memory: where it is installed, the first memory event starts it.
    """

    @contextmanager
    def start(kernel: str, cmdline: str = "", memory: str = "1G") -> Iterator[Watched]:
        with lab.machine(kernel, cmdline=cmdline, memory=memory) as vm:
            yield Watched(vm)

    return start


@pytest.fixture
def debian(lab: Lab, payload: Path, tmp_path: Path) -> Debian:
    """debian("6.1"): a plain Debian with kdump-tools, whose crash image is loaded."""
    return with_kdump_tools(lab, payload, tmp_path)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """figures(name=value, …): measurements for the report at the end; never asserted on."""

    def note(**values: object) -> None:
        with FIGURES.open("a") as file:
            file.write(json.dumps({"scenario": request.node.name, **values}) + "\n")

    return note
