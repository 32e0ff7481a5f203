# SPDX-License-Identifier: GPL-2.0-or-later
"""Does another tool load the crash image again when memory changes, and can it?

The tools of Debian (50-kdump-tools.rules), Fedora (98-kexec.rules) and SUSE (70-kdump.rules) hang
on udev rules. What a rule runs itself lives in systemd-udevd.service, whose SystemCallFilter= lets
neither kexec_load nor kexec_file_load through (seen of systemd 252 and 257: kexec fails with EPERM,
and the old image stays); what it hands over to systemd does not.
Sources: systemd.exec(5), udev(7); the rules of kdump-tools 1.8.1 and 1.10.7, of the repositories
rhkdump/kdump-utils and openSUSE/kdump; Documentation/core-api/cpu_hotplug.rst (crash_hotplug).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import daemon, udevrules, units
from kexecwatchd.checks.sources.udevrules import Command, RuleFile
from kexecwatchd.kernel import kexec_state
from kexecwatchd.model import ImageName

_UDEVD = "systemd-udevd.service"
_CALLS = ("kexec_load", "kexec_file_load")
_TOOLS = {
    "50-kdump-tools.rules": "kdump-tools",
    "98-kexec.rules": "kdump-utils",
    "70-kdump.rules": "SUSE's kdump",
}
# Programs that load (or unload) an image themselves.
_LOADERS = frozenset({"kdump-config", "kdumpctl", "kexec", "kdump-udev-throttler", "boot.kdump"})
_LOADER_PATH = re.compile(r"/kdump/load[\w-]*\.sh$")
_STARTS = frozenset({"start", "restart", "try-restart", "reload", "reload-or-restart"})
_OURS = "kexecwatchd"

#: What working() reads.
FILES = (*udevrules.FILES, *units.files(_UDEVD))


@dataclass(frozen=True, slots=True)
class Rival:
    """A file of rules that has the crash image loaded again. `in_udev`: by a program in udev's own
    service; else systemd starts it."""

    path: str
    in_udev: bool

    @property
    def tool(self) -> str:
        return _TOOLS.get(self.path.rpartition("/")[2], self.path)


def rivals(files: Sequence[RuleFile]) -> list[Rival]:
    """Those of `files` that load upon memory or CPUs."""
    found = []
    for file in files:
        ways = {way for command in file.commands if (way := _in_udev(command)) is not None}
        if ways and file.subsystems & {"memory", "cpu"}:
            found.append(Rival(file.path, in_udev=True in ways))
    return found


def _in_udev(command: Command) -> bool | None:
    """True: it loads in udev's own service. False: it has systemd do it. None: it does not load."""
    if command.by_systemd:
        return False if _is_kdump(command.text) else None
    ways = [_part(part.split()) for part in re.split(r"[;&|'\"]+", command.text)]
    return True if True in ways else False if False in ways else None


def _part(words: list[str]) -> bool | None:
    program = words[0].rpartition("/")[2] if words else ""
    if program == "systemctl":
        asked = any(word in _STARTS for word in words) and any(map(_is_kdump, words[1:]))
        return False if asked else None
    loads = any(w.rpartition("/")[2] in _LOADERS or _LOADER_PATH.search(w) for w in words)
    if not loads:
        return None
    return program != "systemd-run"


def _is_kdump(unit: str) -> bool:
    return ("kdump" in unit or "kexec" in unit) and _OURS not in unit


def in_force(host: Host) -> list[Rival]:
    """Those of the machine. Raises OSError."""
    return rivals(udevrules.read(host.root))


def look(host: Host) -> Finding:
    if not any(host.path(directory).is_dir() for directory in udevrules.DIRECTORIES):
        raise CannotTell("there is no directory of udev rules")
    found = in_force(host)
    tended = daemon.tends(host, ImageName.CRASH)
    if not found:
        return Finding(
            Answer.OK,
            "no: no udev rule of another tool does",
            "" if tended else "Nor does kexecwatchd: see [crash] of kexecwatchd.toml.",
            facts={"rules": []},
        )
    denied = _denied(host, found)
    able = _able(found, denied)
    blocked = [rival for rival in found if rival not in able]
    facts: dict[str, Fact] = {
        "rules": [rival.path for rival in found],
        "blocked_rules": [rival.path for rival in blocked],
        "denied_system_calls": denied,
    }
    if able:
        return _both(able, facts) if tended else _theirs(able, facts)
    return _broken(host, blocked, denied, facts, tended=tended)


def working(host: Host) -> list[Rival]:
    """Those that nothing known keeps from loading. Raises CannotTell, OSError."""
    found = in_force(host)
    return _able(found, _denied(host, found))


def _able(found: Sequence[Rival], denied: Sequence[str]) -> list[Rival]:
    return [rival for rival in found if not (rival.in_udev and denied)]


def _denied(host: Host, found: Sequence[Rival]) -> list[str]:
    """The system calls that udev's service may not make; asked where any rule needs them there."""
    if not any(rival.in_udev for rival in found):
        return []
    filters = units.assignments(host.root, _UDEVD, "SystemCallFilter")
    if filters is None:
        raise CannotTell(f"there is no {_UDEVD}, so what the rules' programs may do is not known")
    return [call for call in _CALLS if not units.permits_kexec(filters, call)]


def _theirs(working: list[Rival], facts: dict[str, Fact]) -> Finding:
    return Finding(
        Answer.OK,
        f"{names(working)} does, and nothing that is known keeps it from it",
        "Its rule runs a reload where memory or CPUs come or go. kexecwatchd does not load"
        " the crash image here, so the two are not in each other's way.",
        facts=facts,
    )


def _both(working: list[Rival], facts: dict[str, Fact]) -> Finding:
    return Finding(
        Answer.WARNING,
        f"{names(working)} does, and so does kexecwatchd",
        "Both answer the same events, so an image is loaded twice or more, and a panic while any"
        " load runs writes no dump. The other tool unloads first, for each block of memory, and"
        " puts its own command line in place of the one in kexecwatchd.toml.",
        "Switch the other rule off: kexecwatchctl takeover.",
        facts,
    )


def _broken(
    host: Host, blocked: list[Rival], denied: list[str], facts: dict[str, Fact], *, tended: bool
) -> Finding:
    told = names(blocked)
    why = (
        f"The rule runs its program inside {_UDEVD}, and that service's SystemCallFilter= does not"
        f' permit {" and ".join(denied)}: each try fails with "Operation not permitted".'
    )
    if len(denied) < len(_CALLS):
        why += " The other call is permitted, so it may unload the image and then fail to load one."
    elif tended:
        return Finding(
            Answer.OK,
            f"{told} means to, and cannot; kexecwatchd does",
            f"{why} That does no harm, since kexecwatchd loads the image; it costs some processes"
            " and a line in the journal for each block of memory.",
            facts=facts,
        )
    why += " The same command from a shell works, since it does not run in that service."
    remedy = (
        f"{daemon.tend_crash(host)} Then switch the other rule off: kexecwatchctl takeover."
        " Or permit it to what udev runs:"
        f" systemctl edit {_UDEVD}, with the lines [Service] and SystemCallFilter=@reboot, then"
        f" systemctl restart {_UDEVD}."
    )
    if kexec_state.updates_itself(host.root):
        return Finding(
            Answer.WARNING,
            f"{told} means to, and cannot: udev's service forbids it; the kernel does part of it",
            f"{why} This kernel can bring an image up to date by itself, where it came through"
            " kexec_file_load, but it leaves memory that was removed in the list, and a dump that"
            " reads it may hang.",
            remedy,
            facts,
        )
    return Finding(
        Answer.PROBLEM,
        f"{told} means to, and cannot: udev's service forbids it, and nobody else does",
        f"{why} So after memory or CPUs are added, the image still describes the machine as it was,"
        " and that memory is missing from the dump.",
        remedy,
        facts,
    )


def names(of: Sequence[Rival]) -> str:
    """Their tools, in words."""
    return " and ".join(rival.tool for rival in of)


CHECK = Check(
    name="rivals",
    question="Does another tool load the crash image again when memory changes?",
    look=look,
    answers=frozenset({Answer.OK, Answer.WARNING, Answer.PROBLEM}),
    files=(
        *FILES,
        *daemon.FILES,
        "sys/kernel/kexec/crash_elfcorehdr_size",
        "sys/kernel/crash_elfcorehdr_size",
    ),
)
