# SPDX-License-Identifier: GPL-2.0-or-later
"""udev's rules: files in force, and what they run."""

from __future__ import annotations

from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("rule", "commands"),
    [
        ('RUN="x"', (Command("x"),)),
        ('RUN{program}+="x"', (Command("x"),)),
        ('RUN{builtin}+="kmod load x"', ()),
        ('RUN-="x"', ()),
        ('IMPORT{program}="x"', (Command("x"),)),
        ('IMPORT{file}="x"', ()),
        ('ENV{SYSTEMD_WANTS}+="x.service"', (Command("x.service", by_systemd=True),)),
        ('ENV{SYSTEMD_WANTS}=="x.service"', ()),
        ('ENV{OTHER}="x", NAME="y", ATTR{program}="z"', ()),
        (' # RUN+="x"', ()),
    ],
)
def test_what_is_run(rule: str, commands: tuple[Command, ...]) -> None:
    assert parse(rule, "/r").commands == commands


def test_what_a_rule_is_not_for() -> None:
    assert not parse('SUBSYSTEM!="memory", SUBSYSTEMS=="cpu"', "/r").subsystems


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
    populate(tmp_path, {"usr/lib/udev/rules.d/80-e.rules": rule.format("hidden by a link")})
    (tmp_path / "etc/udev/rules.d/80-e.rules").symlink_to("/dev/null")
    (tmp_path / "etc/udev/rules.d/90-f.rules").symlink_to("nowhere")
    found = [(file.path, file.commands[0].text) for file in read(tmp_path)]
    assert found == [
        ("/usr/lib/udev/rules.d/40-b.rules", "first"),
        ("/etc/udev/rules.d/50-a.rules", "admin"),
    ]


@given(st.text() | st.text(alphabet='RUN+="PROGRAM{}\\\n, SUBSYTEM'))
def test_any_text_is_parsed(text: str) -> None:
    assert parse(text, "/r").path == "/r"
