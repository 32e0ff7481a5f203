# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped introspection files: made by the tool, complete, and good for other programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dbus_fast import introspection as dbus_introspection

from kexecwatchd.bus import names
from kexecwatchd.bus.service import IMAGE_PROPERTIES, MANAGER_PROPERTIES
from kexecwatchd.report import Decision, Hold
from tools import introspection
from tools.introspection import Interface, Value, interfaces

MANAGER, IMAGE = interfaces()


def test_the_committed_files_are_what_the_tool_makes() -> None:
    for path, text in introspection.files().items():
        assert path.read_text() == text, "run: build/venv/bin/python -m tools.introspection"
    shipped = {path.name for path in introspection.DIRECTORY.glob("*.xml")}
    assert shipped == {path.name for path in introspection.files()}


def described(values: tuple[Value, ...]) -> Iterator[Value]:
    for value in values:
        yield value
        yield from described(value.keys)


@pytest.mark.parametrize("interface", [MANAGER, IMAGE])
def test_everything_is_described(interface: Interface) -> None:
    values = [*described(interface.properties)]
    for signal in interface.signals:
        values += [key for value in signal.carries for key in described(value.keys)]
    texts = {interface.name: interface.description}
    texts |= {method.name: method.description for method in interface.methods}
    texts |= {signal.name: signal.description for signal in interface.signals}
    texts |= {value.name: value.description for value in values}
    assert [name for name, text in texts.items() if not text] == []


def test_signatures_and_names_are_those_of_the_service() -> None:
    assert {v.name: v.signature for v in MANAGER.properties} == MANAGER_PROPERTIES
    assert {v.name: v.signature for v in IMAGE.properties} == IMAGE_PROPERTIES
    assert (MANAGER.name, IMAGE.name) == (names.MANAGER_INTERFACE, names.IMAGE_INTERFACE)
    told = {
        method.name: (
            [(value.name, value.signature) for value in method.takes],
            [(value.name, value.signature) for value in method.gives],
        )
        for method in MANAGER.methods
    }
    # These are interface: a change here breaks who calls them.
    assert told == {
        "Reload": ([("image", "s")], [("state", "s")]),
        "Discard": ([("image", "s")], [("state", "s")]),
        "SetMode": ([("image", "s"), ("mode", "s")], [("state", "s")]),
        "Hold": ([("who", "s"), ("why", "s")], [("number", "t")]),
        "Release": ([("number", "t")], []),
        "Verify": ([], [("covered", "b")]),
        "GetStatus": ([], [("status", "s")]),
        "GetHistory": ([], [("history", "s")]),
        "GetDetails": ([], [("details", "s")]),
    }
    carried = {s.name: [(v.name, v.signature) for v in s.carries] for s in MANAGER.signals}
    assert carried == {
        "Changed": [("image", "s"), ("state", "s")],
        "Decided": [("decision", "a{sv}")],
    }


def test_dictionaries_are_told_entry_by_entry() -> None:
    (holds,) = [value for value in MANAGER.properties if value.name == "Holds"]
    assert [key.name for key in holds.keys] == list(Hold.model_fields)
    (decided,) = [signal for signal in MANAGER.signals if signal.name == "Decided"]
    entries = {key.name: key for key in decided.carries[0].keys}
    assert list(entries) == list(Decision.model_fields)
    assert entries["image"].signature == "s"
    assert [key.signature for key in entries["drift"].keys] == 5 * ["t"]
    assert "drift.missing_bytes (t): " in introspection.xml(MANAGER)


@pytest.mark.parametrize("interface", [MANAGER, IMAGE])
def test_other_programs_can_read_the_files(interface: Interface) -> None:
    node = dbus_introspection.Node.parse(introspection.xml(interface))
    (parsed,) = node.interfaces
    assert [method.name for method in parsed.methods] == [m.name for m in interface.methods]
    assert [signal.name for signal in parsed.signals] == [s.name for s in interface.signals]
    assert [found.name for found in parsed.properties] == [v.name for v in interface.properties]
