# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes completions/ for bash and zsh, from kexecwatchctl's own parser.

    python3 -m tools.completions

An argument whose metavar is one of _FILES completes to files, one called COMMAND to programs;
any other to its choices, or to nothing.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

from kexecwatchd.checks.registry import CHECKS
from kexecwatchd.ctl import images
from kexecwatchd.ctl.main import make_parser

DIRECTORY = Path(__file__).parent.parent / "completions"
PROGRAM = "kexecwatchctl"

_BY_METAVAR = {"NAME": [check.name for check in CHECKS], "IMAGE": list(images.NAMES)}
_FILES = ("FILE", "FILE.tar", "DIR")
_HEAD = f"""\
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of {PROGRAM}. Made by tools/completions.py; do not edit.
"""
_BASH = """\
_{program}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local verb= options= with_file= with_value= count=0 i
    local -a arguments=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${{COMP_WORDS[i]}} == -* ]] || break
    done
    ((i == COMP_CWORD)) || verb=${{COMP_WORDS[i]}}
    case $verb in
{cases}
    esac
    # The arguments before this one; the value of an option is none.
    for ((i += 1; i < COMP_CWORD; i++)); do
        [[ " $with_file $with_value " == *" ${{COMP_WORDS[i-1]}} "* ]] && continue
        [[ ${{COMP_WORDS[i]}} == -* ]] || count=$((count + 1))
    done
    # An argument that may stand several times is the last one, and ends in "...".
    local last=$((${{#arguments[@]}} - 1))
    if ((last >= 0 && count > last)) && [[ ${{arguments[last]}} == *... ]]; then
        count=$last
    fi
    local words=${{arguments[count]-}}
    COMPREPLY=()
    if [[ " $with_file " == *" $before "* || $words == FILE && $word != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ " $with_value " == *" $before "* ]]; then
        return
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [[ $words == COMMAND... ]]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "${{words%...}}" -- "$word")
    fi
}}
complete -F _{program} {program}
"""
_ZSH = """\
_{program}() {{
    local context state line
    typeset -A opt_args
    local -a verbs=(
{verbs}
    )
    _arguments -C \\
{options}
        '1:verb:->verb' \\
        '*::argument:->rest'
    case $state in
        verb) _describe verb verbs ;;
        rest)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}
_{program} "$@"
"""


def bash() -> str:
    """The file for bash."""
    parser = make_parser()
    verbs = _verbs(parser)
    cases = [_bash_case('""', parser, [" ".join(verbs)])]
    cases += [_bash_case(name, verb, _words(verb)) for name, verb in verbs.items()]
    return f"{_HEAD}\n{_BASH.format(program=PROGRAM, cases=chr(10).join(cases))}"


def zsh() -> str:
    """The file for zsh."""
    parser = make_parser()
    helps = _helps(parser)
    verbs = [f"        {shlex.quote(f'{name}:{text}')}" for name, text in helps.items()]
    cases = [
        f"                {name})\n                    _arguments \\\n"
        + " \\\n".join(f"                        {spec}" for spec in _zsh_specs(verb))
        + " ;;"
        for name, verb in _verbs(parser).items()
    ]
    options = [f"        {spec} \\" for spec in _zsh_specs(parser)]
    text = _ZSH.format(
        program=PROGRAM, verbs="\n".join(verbs), options="\n".join(options), cases="\n".join(cases)
    )
    return f"#compdef {PROGRAM}\n{_HEAD}\n{text}"


def _subparsers(
    parser: argparse.ArgumentParser,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    (found,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return found


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return dict(_subparsers(parser).choices)


def _helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {a.dest: a.help or "" for a in _subparsers(parser)._choices_actions}


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
    ]


def _choices(action: argparse.Action) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    # argparse does not take choices together with "any number, or none".
    return _BY_METAVAR.get(str(action.metavar), [])


def _many(action: argparse.Action) -> bool:
    return action.nargs in ("*", "+", argparse.REMAINDER)


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """For each argument what it completes to, in bash."""
    found = []
    for action in _arguments(parser):
        words = " ".join(_choices(action))
        if action.metavar in _FILES:
            words = "FILE"
        elif action.metavar == "COMMAND":
            words = "COMMAND"
        found.append(words + ("..." if _many(action) else ""))
    return found


def _bash_case(name: str, parser: argparse.ArgumentParser, words: list[str]) -> str:
    options = _options(parser)
    names = [name for option in options for name in option.option_strings]
    valued = [option for option in options if option.nargs != 0]
    of_files = [n for o in valued if o.metavar in _FILES for n in o.option_strings]
    others = [n for o in valued if o.metavar not in _FILES for n in o.option_strings]
    lines = [f'options="{" ".join(names)}"']
    if of_files:
        lines.append(f'with_file="{" ".join(of_files)}"')
    if others:
        lines.append(f'with_value="{" ".join(others)}"')
    if words:
        lines.append(f"arguments=({' '.join(shlex.quote(w) for w in words)})")
    return "\n".join([f"    {name})", *(f"        {line}" for line in lines), "        ;;"])


def _zsh_specs(parser: argparse.ArgumentParser) -> Iterator[str]:
    for option in _options(parser):
        for name in option.option_strings:
            value = "" if option.nargs == 0 else f":{option.metavar}:{_zsh_values(option)}"
            yield shlex.quote(f"{name}[{_escaped(option.help)}]{value}")
    for action in _arguments(parser):
        many = "*" if _many(action) else ""
        optional = ":" if action.nargs == "?" else ""
        yield shlex.quote(f"{many}:{optional}{action.metavar or action.dest}:{_zsh_values(action)}")


def _zsh_values(action: argparse.Action) -> str:
    if action.metavar in _FILES:
        return "_files"
    if action.metavar == "COMMAND":
        return "_command_names -e"
    choices = _choices(action)
    return f"({' '.join(choices)})" if choices else " "


def _escaped(text: str | None) -> str:
    text = (text or "").replace("%(prog)s", PROGRAM)
    return "".join(f"\\{letter}" if letter in "[]:" else letter for letter in text)


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{PROGRAM}.bash").write_text(bash())
    (DIRECTORY / f"_{PROGRAM}").write_text(zsh())
