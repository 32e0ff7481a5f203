# SPDX-License-Identifier: GPL-2.0-or-later
"""An initrd of no bytes (a full disk while it was made) must not end the daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kexecwatchd.model import State
from tests.integration.world import World
from tests.unit.kernel.trees import kexec_rules


@pytest.mark.parametrize("what", ["empty", "fifo"])
@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_an_initrd_of_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, what: str
) -> None:
    w = World(tmp_path, monkeypatch)
    kexec_rules(w.kernel.root)
    initrd = w.kernel.path("boot/initrd.img")

    def spoil() -> None:
        initrd.unlink()
        if what == "fifo":
            os.mkfifo(initrd)
        else:
            initrd.touch()

    if when == "at the start":
        spoil()
    await w.start(w.configured(crash="off", reboot="ensure"))
    await w.run(600)
    if when == "later":
        assert w.reboot().state is State.CURRENT
        spoil()
        w.kernel.add_dimm(zone="Movable")
        w.kernel.set_state(7, "offline")  # it is to be loaded anew: from the last good files
        await w.run(600)
        assert "is empty" in w.reboot().degraded or "regular" in w.reboot().degraded
    else:
        assert "initrd" in w.reboot().reason
