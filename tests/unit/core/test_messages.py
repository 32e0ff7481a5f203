# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of the journal's entries, and the catalog that is made of it."""

from __future__ import annotations

import re

import pytest

from kexecwatchd.messages import FIELDS, MESSAGES, Message
from tools import catalog


def test_the_committed_catalog_is_what_the_table_says() -> None:
    assert catalog.PATH.read_text() == catalog.catalog(), "run python3 -m tools.catalog"


def test_each_id_is_one_of_uuid4_and_stands_once() -> None:
    ids = [message.id for message in MESSAGES]
    assert len(set(ids)) == len(ids)
    for found in ids:
        assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", found)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_each_text_says_what_to_do_and_names_fields_that_there_are(message: Message) -> None:
    assert "\nWhat to do: " in message.body
    named = set(re.findall(r"@(\w+)@", message.subject + message.body))
    assert named <= set(FIELDS)
    # A line that begins with one of these means something else to journalctl.
    assert not re.search(r"^(?:-- |#|[ \t])", message.body, re.MULTILINE)
    assert message.body.endswith("\n")
    assert not message.body.endswith("\n\n")
