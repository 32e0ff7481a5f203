# SPDX-License-Identifier: GPL-2.0-or-later
"""udev's rules: files in force, and what they run."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.checks.sources.udevrules import Command, parse, read
from tests.unit.kernel.trees import populate


def test_a_rule() -> None:
    file = parse(
        'SUBSYSTEM=="memory|cpu", ACTION!="add", \\\n  PROGRAM=="say \\"hi\\"", RUN+=e"x"\n', "/r"
    )
    assert file.subsystems == {"memory", "cpu"}
    assert file.commands == (Command('say "hi"'), Command("x"))


def test_of_one_name_the_administrators_counts(tmp_path: Path) -> None:
    rule = 'SUBSYSTEM=="cpu", RUN+="{}"\n'
    populate(
        tmp_path,
        {
            "usr/lib/udev/rules.d/50-a.rules": rule.format("vendor"),
            "run/udev/rules.d/50-a.rules": rule.format("runtime"),
            "etc/udev/rules.d/50-a.rules": rule.format("admin"),
            "usr/lib/udev/rules.d/40-b.rules": rule.format("first"),
            "usr/lib/udev/rules.d/60-c.rules": rule.format("masked"),
            "etc/udev/rules.d/60-c.rules": "\n",
            "usr/lib/udev/rules.d/70-d.rules.dpkg-new": rule.format("no rule"),
        },
    )
    found = [(file.path, file.commands[0].text) for file in read(tmp_path)]
    assert found == [
        ("/usr/lib/udev/rules.d/40-b.rules", "first"),
        ("/etc/udev/rules.d/50-a.rules", "admin"),
    ]


@given(st.text() | st.text(alphabet='RUN+="PROGRAM{}\\\n, SUBSYTEM'))
def test_any_text_is_parsed(text: str) -> None:
    assert parse(text, "/r").path == "/r"
