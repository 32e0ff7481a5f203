# SPDX-License-Identifier: GPL-2.0-or-later
"""Pure: where the files of the wheel belong on a machine that has no package of ours.

The wheel carries them where a package would put them (pyproject.toml). Here they go where an
administrator's files belong, and what names our programs is made to name this environment's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_UNITS = "usr/lib/systemd/system/"

_PLACES = {
    "etc/": "/etc/",
    "usr/lib/systemd/catalog/": "/usr/local/lib/systemd/catalog/",
    _UNITS: "/etc/systemd/system/",
    "usr/lib/udev/rules.d/": "/etc/udev/rules.d/",
    "usr/share/dbus-1/system.d/": "/etc/dbus-1/system.d/",
    # Before version 124 polkit looks nowhere else.
    "usr/share/polkit-1/": "/usr/share/polkit-1/",
    "usr/share/zsh/vendor-completions/": "/usr/local/share/zsh/site-functions/",
    "usr/share/": "/usr/local/share/",
}
"""Directory of a package, and what takes its place; the first that matches counts."""

# Whether or not anyone enables them: see the units.
_WANTS = (
    ("sysinit.target", "kexecwatchd-boot-memory.service"),
    ("kexec.target", "kexecwatchd-kexec-check.service"),
)

_PROGRAMS = (
    "usr/bin/kexecwatchctl",
    "usr/lib/kexecwatchd/check-kexec",
    "usr/lib/kexecwatchd/record-boot-memory",
    "usr/sbin/kexecwatchd",
)
_IN_PATH = {
    "usr/bin/kexecwatchctl": "/usr/local/bin/kexecwatchctl",
    "usr/sbin/kexecwatchd": "/usr/local/sbin/kexecwatchd",
}
_INTERPRETER = b"#!/usr/bin/python3 -I\n"

CONFIG = PurePosixPath("/etc/kexecwatchd/kexecwatchd.toml")
"""The administrator's from the moment it is there."""


class LayoutError(Exception):
    """A file of the wheel is not as this module knows it: the two are of different versions."""


@dataclass(frozen=True, slots=True)
class File:
    path: PurePosixPath
    content: bytes
    mode: int = 0o644

    @property
    def fingerprint(self) -> str:
        """What tells it from another one at the same place."""
        return file_print(self.content)


@dataclass(frozen=True, slots=True)
class Link:
    path: PurePosixPath
    target: str

    @property
    def fingerprint(self) -> str:
        """What tells it from another one at the same place."""
        return link_print(self.target)


Item = File | Link


def file_print(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def link_print(target: str) -> str:
    return f"link:{target}"


def items(data: Mapping[str, bytes], environment: PurePosixPath) -> list[Item]:
    """All that is to be there for the programs of `environment`, in the order of its paths.

    `data` has the wheel's files by their paths below /. Raises LayoutError.
    """
    units = ("kexecwatchd.service", *(unit for _, unit in _WANTS))
    expected = (*_PROGRAMS, *(f"{_UNITS}{unit}" for unit in units))
    if missing := [name for name in expected if name not in data]:
        raise LayoutError(f"the wheel lacks {', '.join(missing)}")
    programs = {f"/{old}": _program(old, environment) for old in _PROGRAMS}
    found: list[Item] = []
    for name, content in data.items():
        if name in _PROGRAMS:
            found.append(File(programs[f"/{name}"], _start(name, content, environment), 0o755))
        elif name.endswith(".service"):
            found.append(File(_place(name), _point(name, content, programs)))
        else:
            found.append(File(_place(name), content))
    found += [Link(PurePosixPath(new), str(programs[f"/{old}"])) for old, new in _IN_PATH.items()]
    for target, unit in _WANTS:
        found.append(Link(_place(f"{_UNITS}{target}.wants/{unit}"), f"../{unit}"))
    return sorted(found, key=lambda item: item.path)


def _program(name: str, environment: PurePosixPath) -> PurePosixPath:
    """Beside what pip installs, whose programs would heed PYTHONPATH and root's ~/.local."""
    return environment / "lib/kexecwatchd" / PurePosixPath(name).name


def _place(name: str) -> PurePosixPath:
    for packaged, local in _PLACES.items():
        if name.startswith(packaged):
            return PurePosixPath(local + name.removeprefix(packaged))
    raise LayoutError(f"the wheel has {name}, and nobody says where it belongs")


def _start(name: str, content: bytes, environment: PurePosixPath) -> bytes:
    if not content.startswith(_INTERPRETER):
        raise LayoutError(f"{name} does not begin with {_INTERPRETER.decode().strip()}")
    return f"#!{environment}/bin/python3 -I\n".encode() + content.removeprefix(_INTERPRETER)


def _point(name: str, content: bytes, programs: Mapping[str, PurePosixPath]) -> bytes:
    """A unit, with each of our programs named at its new place."""
    text = content.decode()
    for old, new in programs.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(old)}(?![\w/.-])", str(new), text)
    started = re.findall(r"^ExecStart=(\S+)$", text, re.MULTILINE)
    if len(started) != 1 or PurePosixPath(started[0]) not in programs.values():
        raise LayoutError(f"{name} does not start one of {', '.join(programs)}")
    for left in ("/usr/lib/kexecwatchd", "/usr/sbin/kexecwatch", "/usr/bin/kexecwatch"):
        if left in text:
            raise LayoutError(f"{name} names something at {left}, which is not there")
    return text.encode()
