# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual: it is what its sources make, lint-clean, and every fact is in its page.

What a page says is read as a person reads it, from mandoc, and not from the generator.
"""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kexecwatchd import __main__ as daemon
from kexecwatchd.bus.errors import ERRORS
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.config import Config
from kexecwatchd.ctl import main as ctl
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.messages import FIELDS, MESSAGES
from kexecwatchd.metrics import FAMILIES
from kexecwatchd.model import Mode, State
from tests.conftest import NOT_HERE
from tools.manual.__main__ import pages, prose
from tools.manual.markup import roff

ROOT = Path(__file__).parent.parent.parent
PAGES = ("kexecwatchctl.1", "kexecwatchd.8", "kexecwatchd.toml.5", "org.kexecwatch1.5")


@functools.cache
def shown(page: str) -> str:
    """The page as it is read, in lines long enough that no word is broken."""
    if shutil.which("mandoc") is None:
        pytest.skip(f"{NOT_HERE} no mandoc")
    command = ["mandoc", "-T", "ascii", "-O", "width=500", str(ROOT / "man" / page)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r".\x08", "", text)


def terms(page: str) -> set[str]:
    """What begins a line of the page: list entries, with what follows them on it cut off."""
    return {line.split()[0].rstrip(",") for line in shown(page).splitlines() if line.strip()}


def verbs() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in ctl.make_parser()._actions if isinstance(a.choices, dict))
    return dict(action.choices or {})


def section(page: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    _, _, after = shown(page).partition(f"\n   {title}\n")
    return re.split(r"\n {0,3}\S", after)[0]


def test_the_committed_pages_are_what_the_sources_make() -> None:
    made = pages()
    assert {path.name for path in made} == set(PAGES)
    assert {path: path.read_text() for path in made} == made


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_clean(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip(f"{NOT_HERE} no mandoc")
    command = ["mandoc", "-T", "lint", "-W", "warning", str(ROOT / "man" / page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_the_usual_sections(page: str) -> None:
    heads = re.findall(r"^[A-Z].*$", shown(page), re.MULTILINE)
    assert [h for h in heads if h in ("NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "SEE ALSO")] == [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "FILES",
        "SEE ALSO",
    ]


@pytest.mark.parametrize("verb", verbs())
def test_each_verb_has_its_options_and_something_to_say(verb: str) -> None:
    assert prose().get(verb), f"man/verbs has nothing on {verb}"
    text = section("kexecwatchctl.1", f"kexecwatchctl {verb}")
    assert prose()[verb].split()[0].strip("`*") in text.split()
    for action in verbs()[verb]._actions:
        for option in action.option_strings:
            if action.dest != "help":
                assert re.search(rf"^ +(-\w.*, )?{option}\b", text, re.MULTILINE), option


def test_kexecwatchctl_names_codes_checks_states_and_modes() -> None:
    wanted = {str(code.value) for code in ExitCode} | {check.name for check in CHECKS}
    wanted |= {state.value for state in State} | {mode.value for mode in Mode}
    assert wanted - terms("kexecwatchctl.1") == set()
    text = shown("kexecwatchctl.1").lower()
    assert [code.meaning for code in ExitCode if code.meaning not in text] == []
    assert [c.question for c in CHECKS if c.question.lower() not in text] == []


def test_kexecwatchd_names_options_messages_fields_and_metrics() -> None:
    found = terms("kexecwatchd.8")
    wanted = {message.id for message in MESSAGES} | set(FIELDS) | {f.name for f in FAMILIES}
    for action in daemon.make_parser()._actions:
        wanted |= set(action.option_strings) - {"--help"}
    assert wanted - found == set()
    text = shown("kexecwatchd.8").lower()
    assert [f.name for f in FAMILIES if " ".join(f.help.lower().split()) not in text] == []


@pytest.mark.parametrize("table", Config.model_fields)
def test_the_configuration_has_each_key_with_what_is_allowed(table: str) -> None:
    _, _, after = shown("kexecwatchd.toml.5").partition(f"\n[{table}]\n")
    text = re.split(r"\n\S", after)[0]
    fields = type(getattr(Config(), table)).model_fields
    found = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert set(fields) - found == set()
    shared = Config.model_fields["crash"].annotation.model_fields if table == "reboot" else {}  # type: ignore[union-attr]
    for key, field in fields.items():
        assert key in shared or (field.description or "?") in text, key


def test_the_bus_page_has_all_that_introspection_tells() -> None:
    found = terms("org.kexecwatch1.5")
    text = shown("org.kexecwatch1.5")
    for path in (ROOT / "dbus").glob("*.xml"):
        for element in ElementTree.parse(path).getroot().iter():
            name = element.get("name")
            if element.tag in ("method", "signal"):
                assert f" {name}(" in text, name
            elif element.tag == "property":
                assert name in found
                assert re.search(rf"^ +{name} \({re.escape(element.attrib['type'])}\)", text, re.M)


def test_the_bus_page_has_each_error_and_action() -> None:
    policy = ElementTree.parse(ROOT / "dbus/org.kexecwatch1.policy").getroot()
    wanted = set(ERRORS) | {action.attrib["id"] for action in policy.iter("action")}
    assert wanted - terms("org.kexecwatch1.5") == set()
    assert [text for text in ERRORS.values() if text not in shown("org.kexecwatch1.5")] == []


MARKUP = [
    ("# FILES\ntext", '.SH "FILES"\ntext\n'),
    ("one\n\ntwo", ".PP\none\n.PP\ntwo\n"),
    ("- `a`\n- `b`\n  both", ".TP\n\\fBa\\fR\n.TQ\n\\fBb\\fR\nboth\n"),
    ("- x\n  one\n\n  two", ".TP\nx\none\n.RS\n.PP\ntwo\n.RE\n"),
    ("say `ls -l` *FILE*", ".PP\nsay \\fBls \\-l\\fR \\fIFILE\\fR\n"),
    ("    a 'b'\n", ".IP\n.EX\na \\(aqb\\(aq\n.EE\n"),
    (".dot \\ and ~", ".PP\n\\&.dot \\e and \\(ti\n"),
]


@pytest.mark.parametrize(("source", "made"), MARKUP)
def test_markup(source: str, made: str) -> None:
    assert roff(source) == made
