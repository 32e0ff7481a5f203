# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion in a real bash, and what zsh makes of its file."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl.main import VERBS
from tests.conftest import NOT_HERE
from tools import completions

BASH = completions.DIRECTORY / "kexecwatchctl.bash"
ZSH = completions.DIRECTORY / "_kexecwatchctl"
MODES = {"ensure", "follow", "observe", "off", "configured"}

# What is typed -> what of it must be offered, and nothing that begins otherwise.
TYPED = [
    ("", set(VERBS)),
    ("ver", {"verify"}),
    ("status --j", {"--json"}),
    ("check ", {check.name for check in CHECKS}),
    ("check permission pan", {"panic"}),
    ("reload ", {"crash", "reboot"}),
    ("reload crash re", {"reboot"}),
    ("mode crash ", MODES),
    ("map --svg pic", {"picture.svg"}),
    ("history -n 5 ", {"crash", "reboot"}),
    ("history -n ", set()),
    ("mode --json crash en", {"ensure"}),
    ("collect pic", {"picture.svg"}),
    ("config --config pic", {"picture.svg"}),
]


def test_the_files_are_what_the_tool_makes() -> None:
    assert BASH.read_text() == completions.bash(), "run make generated"
    assert ZSH.read_text() == completions.zsh(), "run make generated"


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_bash_completes(tmp_path: Path, typed: str, offered: set[str]) -> None:
    assert bash(tmp_path, typed) == offered


def test_bash_completes_the_command_to_run(tmp_path: Path) -> None:
    assert "bash" in bash(tmp_path, "hold bas")
    assert bash(tmp_path, "hold --why ") == set()


def bash(directory: Path, typed: str) -> set[str]:
    """What is offered for the last word."""
    (directory / "picture.svg").touch()
    words = ["kexecwatchctl", *typed.split(" ")]
    script = (
        f"source {shlex.quote(str(BASH))}; COMP_WORDS=({' '.join(map(shlex.quote, words))});"
        f"COMP_CWORD={len(words) - 1}; _kexecwatchctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=directory, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_zsh_takes_it(tmp_path: Path) -> None:
    """What it then offers can be seen on a terminal alone, at the speed of the machine."""
    if shutil.which("zsh") is None:
        pytest.skip(f"{NOT_HERE} no zsh")
    (tmp_path / ZSH.name).symlink_to(ZSH)
    script = (
        f"fpath=({shlex.quote(str(tmp_path))} $fpath); autoload -Uz compinit; compinit -u -D;"
        f"zsh -n {shlex.quote(str(ZSH))} && print $_comps[kexecwatchctl]"
    )
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("_kexecwatchctl\n", "")
