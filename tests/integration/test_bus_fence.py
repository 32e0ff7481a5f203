# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's own fence: root's calls are root's, whatever the policy of the bus."""

from __future__ import annotations

import json

import pytest

from kexecwatchd.bus import names
from tests.integration.harness import (
    MISSING,
    NOBODY,
    FakeBackend,
    asked_for,
    read_all,
    serving,
)
from tests.integration.polkit import YES, polkit

pytestmark = pytest.mark.usefixtures("open_bus")


async def test_only_root_changes_anything_and_sees_addresses(backend: FakeBackend) -> None:
    backend.may_reload.set()
    async with serving(backend):
        answers = await read_all(NOBODY)
    assert [asked[0] for asked in backend.asked] == ["release", "release"], "it is for holders"
    assert backend.verifies == 2, "with an interface and without"
    assert MISSING.start not in json.dumps(answers)
    for member in ("GetDetails", "Reload", "Discard", "SetMode", "Hold"):
        refused = asked_for(answers, member)
        assert len(refused) == 2, "with an interface and without"
        for error, body in refused:
            assert error == names.ERROR_ACCESS_DENIED
            assert body[0].startswith("Only root may")


async def test_not_even_those_whom_polkit_lets_see_addresses(backend: FakeBackend) -> None:
    backend.may_reload.set()
    async with serving(backend), polkit() as asked:
        asked.says = YES
        answers = await read_all(NOBODY)
    assert backend.reloads
    assert MISSING.start not in json.dumps(answers)
    assert {error for error, _ in asked_for(answers, "GetDetails")} == {names.ERROR_ACCESS_DENIED}
