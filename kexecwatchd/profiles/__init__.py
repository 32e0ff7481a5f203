# SPDX-License-Identifier: GPL-2.0-or-later
"""What the distribution's own kdump tool would load as the crash image: a module for each tool.

None of their files is run. Each module works out, from what a Reader shows it, the very arguments
that its tool would give to kexec(8); where only a shell, or the tool itself, could tell them, it
says so and guesses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from kexecwatchd.addresses import without_addresses
from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles import debian, fedora, shellvars, suse
from kexecwatchd.profiles.reader import Idle, Obstacle, Reader
from kexecwatchd.profiles.shell import NotPlain

_PROFILES = (debian, fedora, suse)

#: Whose coming and going makes another tool the one that is installed.
PROGRAMS = tuple(Path(profile.PROGRAM) for profile in _PROFILES)


@dataclass(frozen=True, slots=True)
class SetUp:
    """A tool that is installed. All paths are those of the machine, without the root's.

    `files`: what it would load, its command line byte for byte; None, and `obstacle` says why. It
    says so of the tool: "it is switched off: ...". `idle`: that is what the tool means to do.
    `origins`: for "kernel", "initrd" and "cmdline", the file that decided. `reads`: files and links
    whose change can change all this.
    """

    tool: str
    files: ImageFiles | None
    obstacle: str = ""
    idle: bool = False
    origins: Mapping[str, Path] = field(default_factory=dict)
    reads: tuple[Path, ...] = ()


def find(root: Path) -> SetUp | None:
    """What the tool that is installed on the machine below `root` would load; None: there is none.

    Raises nothing: what goes wrong is the SetUp's obstacle.
    """
    for profile in _PROFILES:
        reader = Reader(root)
        try:
            if not reader.exists(profile.PROGRAM):
                continue
            files = _loaded(profile, reader)
        except (Obstacle, OSError) as error:
            idle = isinstance(error, Idle)
            return SetUp(profile.TOOL, None, _plain(str(error)), idle=idle, reads=reader.reads)
        return SetUp(profile.TOOL, files, origins=profile.ORIGINS, reads=reader.reads)
    return None


def _plain(text: str) -> str:
    """One line that UTF-8 can say, and everyone may read: there are words of others in it."""
    return without_addresses("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def _loaded(profile: ModuleType, reader: Reader) -> ImageFiles:
    """What the tool's settings come to. Raises Obstacle."""
    variables = shellvars.parse(reader.text_or_none(profile.SETTINGS) or "")
    try:
        loaded: ImageFiles = profile.loaded(reader, variables)
    except NotPlain as error:
        raise Obstacle(f"{profile.SETTINGS}: {error}") from None
    return loaded
