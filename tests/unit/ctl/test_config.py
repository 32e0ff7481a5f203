# SPDX-License-Identifier: GPL-2.0-or-later
"""The verb config: what the files say, which says it, and in what a daemon differs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kexecwatchd.config import Sources
from kexecwatchd.ctl.config import look, render
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.ctl.main import main
from kexecwatchd.model import ImageName, Mode
from kexecwatchd.report import ConfigReport, Profile, Setting, Status
from tests.unit.ctl.test_screen import image, status
from tests.unit.kernel.trees import populate
from tests.unit.profiles.test_debian import DEFAULTS, INITRD, KERNEL, machine

LATER = 1e11  # after any file was written


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    made = Sources(root=tmp_path)
    for path, text in (
        (made.vendor, "[pacing]\nquiet = 0.5\n"),
        (made.local, '[crash]\nmode = "observe"\n'),
        (made.drop_ins / "50-local.toml", "[pacing]\nmax_wait = 3\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    return made


def alone(directory: Path, text: str) -> Path:
    path = directory / "alone.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def daemon(configured_at: float = LATER, **changes: Any) -> Status:
    return status(image(), image(ImageName.REBOOT), **{"configured_at": configured_at, **changes})


def test_each_value_has_the_file_that_sets_it(sources: Sources) -> None:
    report = look(sources, None, check=False)
    assert (report.problems, report.notes) == ([], [])
    settings = {(s.table, s.key): s for s in report.settings}
    assert settings["crash", "mode"] == Setting(
        table="crash", key="mode", value="observe", file=str(sources.local)
    )
    assert settings["pacing", "quiet"].file == str(sources.vendor)
    assert settings["pacing", "max_wait"].file == str(sources.drop_ins / "50-local.toml")
    assert settings["reboot", "when_unsafe"].file == ""
    assert settings["crash", "kernel"].value is None


def test_the_text_is_a_configuration_that_says_the_same(sources: Sources, tmp_path: Path) -> None:
    before = look(sources, None, check=False)
    text = render(before)
    assert tomllib.loads(text)["crash"] == {"mode": "observe"}
    again = look(Sources(explicit=alone(tmp_path, text)), None, check=False)
    assert [s.value for s in again.settings] == [s.value for s in before.settings]
    assert f'mode = "observe"        # {sources.local}' in text
    assert "unarmed_budget = 0.05   # default" in text
    assert "# kernel is not set     # default" in text


def test_every_problem_is_told_and_no_setting(sources: Sources) -> None:
    sources.local.write_text('[crash]\nmode = "often"\n[pacing]\nquiet = -1\n')
    report = look(sources, None, check=False)
    assert report.settings == []
    assert len(report.problems) == 2
    assert all(str(sources.local) in problem for problem in report.problems)


def test_only_a_check_looks_at_the_files_that_are_named(sources: Sources) -> None:
    sources.local.write_text('[crash]\nkernel = "/nowhere/vmlinuz"\ncmdline = "ro"\n')
    assert look(sources, None, check=False).problems == []
    checked = look(sources, None, check=True)
    assert len(checked.problems) == 1
    assert "[crash] kernel: /nowhere/vmlinuz: does not exist" in checked.problems[0]


def test_a_daemon_that_goes_by_these_files_is_no_news(sources: Sources) -> None:
    assert look(sources, daemon(), check=False).notes == []


def test_files_that_the_daemon_has_not_read_are_named(sources: Sources) -> None:
    read = sources.vendor.stat().st_ctime
    notes = look(sources, daemon(configured_at=read - 1), check=False).notes
    assert [note.split()[0] for note in notes] == [
        str(sources.vendor),
        str(sources.local),
        str(sources.drop_ins / "50-local.toml"),
        str(sources.drop_ins),
    ]
    assert all(note.endswith(": systemctl reload kexecwatchd") for note in notes)


def test_what_the_daemon_does_not_do_as_configured_is_a_comment(sources: Sources) -> None:
    told = status(image(mode=Mode.OBSERVE), configured_at=LATER, config_error="it is\nwrong")
    text = render(look(sources, told, check=False))
    first, second = text.splitlines()[-2:]
    assert first.endswith("did not take the last change: it is wrong")
    assert second == (
        "# the crash image has mode observe until the next boot, as somebody asked for; the"
        " configured mode again: kexecwatchctl mode crash configured"
    )
    assert first.startswith("# ")


def test_the_verb_prints_it_and_wrong_files_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(alone(tmp_path, "[pacing]\nquiet = 0.5\n"))
    assert main(["config", "--config", path]) == ExitCode.CURRENT
    assert f"quiet = 0.5             # {path}\n" in capsys.readouterr().out
    assert main(["config", "--config", path, "--check"]) == ExitCode.CURRENT
    assert capsys.readouterr() == ("the configuration is good\n", "")
    alone(tmp_path, "[pacing]\nquiet = 0\nquit = 1\n")
    assert main(["config", "--config", path]) == ExitCode.ERROR
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["kexecwatchctl"] * 2


def test_json_is_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = alone(tmp_path, "[pacing]\nquiet = 0.5\n")
    assert main(["config", "--json", "--config", str(path)]) == ExitCode.CURRENT
    report = ConfigReport.model_validate_json(capsys.readouterr().out)
    assert report == look(Sources(explicit=path), None, check=False)
    path.write_text("[pacing]\nquiet = 0\n")
    assert main(["config", "--json", "--config", str(path)]) == ExitCode.ERROR
    printed = capsys.readouterr()
    assert ConfigReport.model_validate_json(printed.out).problems
    assert printed.err == ""


def test_what_a_tool_would_load_is_shown_with_its_file(sources: Sources) -> None:
    populate(sources.root, machine("KDUMP_CMDLINE=a KDUMP_CMDLINE_APPEND=b\n"))
    report = look(sources, None, check=False)
    settings = {s.key: (s.value, s.file) for s in report.settings if s.table == "crash"}
    assert settings == {
        "mode": ("observe", str(sources.local)),
        "kernel": (KERNEL, f"/{DEFAULTS}"),
        "initrd": (INITRD, f"/{DEFAULTS}"),
        "cmdline": ("a b acpi_no_memhotplug", f"/{DEFAULTS}"),
    }
    word = "acpi_no_memhotplug"
    assert report.profile == Profile(tool="kdump-tools", obstacle="", added=word)
    first, second = render(report).splitlines()[-2:]
    assert first == "# kernel, initrd and cmdline of [crash] are what kdump-tools would load"
    assert second.startswith(f"# only {word} is not its word but kexecwatchd's")


def test_why_a_tool_names_none_is_shown(sources: Sources) -> None:
    populate(sources.root, machine("USE_KDUMP=0\n"))
    report = look(sources, None, check=False)
    assert report.profile is not None
    assert "USE_KDUMP is 0" in report.profile.obstacle
    assert "USE_KDUMP is 0" in render(report).splitlines()[-1]
    sources.local.write_text('[crash]\nmode = "ensure"\n')
    [problem] = look(sources, None, check=True).problems
    assert problem.startswith(f"{sources.local}: [crash] kernel: is missing")
    assert "USE_KDUMP is 0" in problem


def test_the_tool_s_files_need_no_reload(sources: Sources) -> None:
    populate(sources.root, machine())
    notes = look(sources, daemon(configured_at=1.0), check=False).notes
    assert notes, "ours do"
    assert str(sources.root / DEFAULTS) not in {note.split()[0] for note in notes}
