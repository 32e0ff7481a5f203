# SPDX-License-Identifier: GPL-2.0-or-later
"""What the code itself defines, as the manual's source (markup.py)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from textwrap import indent
from xml.etree import ElementTree

from kexecwatchd import __main__ as daemon
from kexecwatchd import metrics
from kexecwatchd.bus import names
from kexecwatchd.bus.errors import ERRORS
from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl import main as ctl
from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.messages import FIELDS, MESSAGES
from tools import introspection
from tools.introspection import Interface, Value
from tools.manual import settings

ROOT = Path(__file__).resolve().parent.parent.parent
POLICY = ROOT / "dbus/org.kexecwatch1.policy"


def items(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms with their texts."""
    return "\n".join(f"- {term}\n{indent(text, '  ')}" for term, text in pairs)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


# Command lines


def options(parser: argparse.ArgumentParser) -> str:
    """Arguments and options; not --help, which stands once in the page."""
    shown = [a for a in parser._actions if a.dest != "help" and _is_plain(a)]
    return items((_term_of(action), _help(action)) for action in shown)


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb."""
    (action,) = [a for a in parser._actions if not _is_plain(a)]
    return dict(action.choices or {})


def synopsis(parser: argparse.ArgumentParser) -> str:
    """The arguments in one line; argparse's own usage is another with each version of Python."""
    shown = [a for a in parser._actions if a.dest != "help" and _is_plain(a)]
    placed = sorted(shown, key=lambda action: not action.option_strings)
    return " ".join(map(_in_synopsis, placed))


def _in_synopsis(action: argparse.Action) -> str:
    if action.option_strings:
        return f"[{' '.join([f'`{action.option_strings[0]}`', *_value_of(action)])}]"
    (value,) = _value_of(action)
    endings = {"*": f"[{value} ...]", argparse.REMAINDER: f"[{value} ...]", "?": f"[{value}]"}
    return endings.get(str(action.nargs), value)


def _is_plain(action: argparse.Action) -> bool:
    return not isinstance(action.choices, dict)


def _value_of(action: argparse.Action) -> list[str]:
    """What stands for its value; nothing for a switch."""
    return [] if action.nargs == 0 else [f"*{action.metavar or action.dest.upper()}*"]


def _term_of(action: argparse.Action) -> str:
    value = _value_of(action)
    return ", ".join(" ".join([f"`{o}`", *value]) for o in action.option_strings) or value[0]


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {"prog": "the program", "default": action.default}
    # That of an argument can begin with a value as it is typed.
    return sentence(text) if action.option_strings else f"{text}."


def verbs(prose: Mapping[str, str]) -> str:
    """A subsection for each verb of kexecwatchctl; `prose`: what there is to say besides."""
    made = []
    for name, parser in verbs_of(ctl.make_parser()).items():
        made += [
            f"## kexecwatchctl {name}",
            f"`kexecwatchctl {name}` {synopsis(parser)}".strip(),
            "",
            sentence(parser.description or ""),
            "",
            prose.get(name, ""),
            "",
            options(parser),
            "",
        ]
    return "\n".join(made)


def verb_synopses() -> str:
    lines = [
        f"`kexecwatchctl {name}` {synopsis(parser)}".strip()
        for name, parser in verbs_of(ctl.make_parser()).items()
    ]
    return "\n\n".join(lines)


# Tables


def exit_codes() -> str:
    return items((f"`{code.value}`", sentence(code.meaning)) for code in ExitCode)


def checks() -> str:
    return items((f"`{check.name}`", check.question) for check in CHECKS)


def messages() -> str:
    """Each kind of journal entry: the catalog has the whole text, the page what to do."""
    made = []
    for message in MESSAGES:
        subject = re.sub(r"@(\w+)@", r"*\1*", message.subject)
        # Plain: most stand within what is to be typed.
        todo = re.sub(r"@(\w+)@", r"\1", message.body[message.body.index("What to do:") :])
        made.append((f"{subject} ({message.name})", f"`{message.id}`\n\n{todo.strip()}"))
    return items(made)


def fields() -> str:
    return items((f"`{name}`", sentence(text)) for name, text in FIELDS.items())


def families() -> str:
    made = []
    for family in metrics.FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        term = f"`{family.name}` ({family.kind}{'; ' + labels if labels else ''})"
        made.append((term, sentence(family.help)))
    return items(made)


# The bus


def errors() -> str:
    return items((f"`{name}`", text) for name, text in ERRORS.items())


def actions() -> str:
    made = []
    for action in ElementTree.parse(POLICY).getroot().iter("action"):
        default = action.findtext("defaults/allow_active") or ""
        what = action.findtext("description") or ""
        made.append((f"`{action.attrib['id']}`", f"{sentence(what)} Default: `{default}`."))
    return items(made)


def manager() -> str:
    return _interface(introspection.interfaces()[0])


def image() -> str:
    return _interface(introspection.interfaces()[1])


def _interface(interface: Interface) -> str:
    parts = [sentence(interface.description)]
    if interface.methods:
        methods = [
            (f"`{m.name}`({_arguments(m.takes)}) -> ({_arguments(m.gives)})", m.description)
            for m in interface.methods
        ]
        parts += [f"## Methods of {interface.name}", items(methods)]
    if interface.signals:
        signals = [
            (f"`{s.name}`({_arguments(s.carries)})", _with_keys(s.description, s.carries))
            for s in interface.signals
        ]
        parts += [f"## Signals of {interface.name}", items(signals)]
    parts += [f"## Properties of {interface.name}", items(map(_value, interface.properties))]
    return "\n\n".join(parts)


def _arguments(values: tuple[Value, ...]) -> str:
    return ", ".join(f"{value.signature} *{value.name}*" for value in values)


def _value(value: Value) -> tuple[str, str]:
    # Without a capital: many begin with a value as it is typed.
    text = _with_keys(f"{value.description.removesuffix('.')}.", (value,))
    return f"`{value.name}` ({value.signature})", text


def _with_keys(text: str, values: tuple[Value, ...]) -> str:
    keys = [key for value in values for key in value.keys]
    return f"{text}\n\n{items(map(_value, keys))}" if keys else text


# The configuration


def table(name: str) -> str:
    """The keys of a table; keys that are explained together stand together."""
    made = []
    for text, keys in groupby(settings.table(name), key=lambda setting: setting.text):
        found = list(keys)
        terms = "\n".join(f"- `{setting.key}`" for setting in found)
        if not text:
            made.append(f"{terms}\n  As in [crash].")
            continue
        allowed = "\n\n".join(_allowed(setting, alone=len(found) == 1) for setting in found)
        made.append(f"{terms}\n{indent(text + allowed, '  ')}")
    return "\n".join(made)


def _allowed(setting: settings.Setting, *, alone: bool) -> str:
    what = "Allowed" if alone else f"`{setting.key}`"
    return f"{what}: {setting.expected}. Default: {setting.default}."


MACROS: Mapping[str, Callable[[], str]] = {
    "daemon-options": lambda: options(daemon.make_parser()),
    "verb-synopses": verb_synopses,
    "exit-codes": exit_codes,
    "checks": checks,
    "messages": messages,
    "fields": fields,
    "metrics": families,
    "manager": manager,
    "image": image,
    "errors": errors,
    "actions": actions,
    "bus-name": lambda: f"    {names.BUS_NAME}",
    "crash": lambda: table("crash"),
    "reboot": lambda: table("reboot"),
    "pacing": lambda: table("pacing"),
    "modes": lambda: settings.table("crash")[0].text,
}
"""What `@name@` on a line of a source stands for."""
