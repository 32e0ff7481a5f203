# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's own fence: root's calls are root's, whatever the policy of the bus."""

from __future__ import annotations

import json

import pytest

from tests.integration.harness import MISSING, NOBODY, FakeBackend, read_all, serving

pytestmark = pytest.mark.usefixtures("open_bus")


async def test_only_root_reloads_and_sees_addresses(backend: FakeBackend) -> None:
    backend.may_reload.set()
    async with serving(backend):
        answers = await read_all(NOBODY)
    assert backend.reloads == []
    assert backend.verifies == 2
    assert MISSING.start not in json.dumps(answers)
    denied = {question: said for question, (error, said) in answers.items() if error}
    assert {question.split()[0] for question in denied} == {"GetDetails", "Reload"}
    assert len(denied) == 4, "with an interface and without"
    assert all("Only root may" in said[0] for said in denied.values())
