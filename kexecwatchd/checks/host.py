# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that is looked at: the running one, or one whose files were collected in a directory.

Most of what checks read are files, and these lie below `root` either way. What is no file that
could be copied (the kernel's log, what an image lists, free space) is a Source: looked at on the
running machine, and read from COLLECTED on a collected one.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from kexecwatchd import config, profiles
from kexecwatchd.config import Config, ConfigError, Sources
from kexecwatchd.kernel import kexec_state
from kexecwatchd.profiles import SetUp

#: Below the root of a collected machine: ABOUT, and a file `NAME.json` for each Source.
COLLECTED = "kexecwatchd-collected"
ABOUT = "about.json"

#: What Host.config is read from.
CONFIG_FILES = (
    "usr/lib/kexecwatchd/kexecwatchd.toml",
    "etc/kexecwatchd/kexecwatchd.toml",
    "etc/kexecwatchd/kexecwatchd.toml.d/*.toml",
)

#: What every collection has, for whatever check.
FILES = ("proc/sys/kernel/arch", "proc/sys/kernel/osrelease", "proc/cmdline")

T = TypeVar("T")


class CannotTell(Exception):
    """The question has no answer here; the message, without addresses, says why."""


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """Something that a machine tells, but not in a file. `type` is what pydantic makes JSON of and
    back. `addresses`: there are physical addresses in it.

    `look` may raise CannotTell, OSError or ValueError.
    """

    name: str
    type: Any
    look: Callable[[Host], T]
    addresses: bool = False


class Host:
    """A machine. `live`: the running one, with its files below `root` (tests have others).
    `in_force`: the daemon's configuration, which need not be what the files say by now."""

    def __init__(
        self, root: Path = Path("/"), *, live: bool = True, in_force: Config | None = None
    ) -> None:
        self.root = root
        self.live = live
        self._in_force = in_force
        self._asked: dict[str, Any] = {}

    def path(self, absolute: Path | str) -> Path:
        """Where a file of that machine lies here."""
        return self.root / str(absolute).lstrip("/")

    def ask(self, source: Source[T]) -> T:
        """What the source tells; asked once. Raises CannotTell, and what its `look` raises."""
        if source.name not in self._asked:
            try:
                self._asked[source.name] = (
                    source.look(self) if self.live else self._collected(source)
                )
            except (CannotTell, OSError, ValueError) as error:
                self._asked[source.name] = error
        answer = self._asked[source.name]
        if isinstance(answer, Exception):
            raise answer
        told: T = answer
        return told

    def words_for(self, error: Exception) -> str:
        """Why something has no answer, with paths as they are on that machine."""
        if isinstance(error, OSError) and error.filename and error.strerror:
            path = Path(os.fsdecode(error.filename))
            if path.is_relative_to(self.root):
                path = "/" / path.relative_to(self.root)
            return f"{path}: {error.strerror}"
        return str(error)

    def left_out(self, name: str) -> str:
        """Why a file or a Source was not to be collected, though the machine may have it; "" where
        it was."""
        return self._noted("left_out", name)

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What `kexecwatchctl collect` noted; nothing of the running machine."""
        if self.live:
            return {}
        try:
            content = json.loads((self.root / COLLECTED / ABOUT).read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def machine(self) -> str:
        """As uname -m says it. Raises CannotTell."""
        try:
            return (self.root / "proc/sys/kernel/arch").read_text(encoding="ascii").strip()
        except FileNotFoundError:  # before 6.1
            pass
        if self.live:
            return platform.machine()
        if self.about.get("machine"):
            return str(self.about["machine"])
        raise CannotTell("what machine this is was not collected (/proc/sys/kernel/arch)")

    @cached_property
    def release(self) -> str:
        """The running kernel's, as uname -r says it. Raises OSError."""
        return kexec_state.kernel_release(self.root)

    @cached_property
    def cmdline(self) -> str:
        """The running kernel's command line. Raises OSError."""
        path = self.root / "proc/cmdline"
        return path.read_text(encoding="utf-8", errors="replace").strip()

    @cached_property
    def config(self) -> Config:
        """kexecwatchd's configuration, or what it would be without a file of its own, with the
        files of the distribution's tool. Raises CannotTell."""
        if self._in_force is not None:
            return self._in_force
        places = Sources(self.root)
        configured = places.vendor.exists() or places.local.exists()
        try:
            own = config.load(places) if configured else Config()
            if own.crash.kernel is not None:
                return own
            return own.completed(self.ask(PROFILE), self.machine)
        except ConfigError as error:
            raise CannotTell(f"kexecwatchd's configuration is wrong: {error.problems[0]}") from None

    def _collected(self, source: Source[T]) -> T:
        path = self.root / COLLECTED / f"{source.name}.json"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            noted = self._noted("unreadable", source.name)
            raise CannotTell(noted or f"{source.name}: it was not collected") from None
        try:
            told: T = TypeAdapter(source.type).validate_json(content)
        except ValidationError as error:
            raise CannotTell(f"{path} is not what kexecwatchctl collect writes: {error}") from None
        return told

    def _noted(self, kind: str, name: str) -> str:
        reasons = self.about.get(kind, {})
        return str(reasons.get(name, "")) if isinstance(reasons, Mapping) else ""


PROFILE: Source[SetUp | None] = Source("profile", SetUp | None, lambda h: profiles.find(h.root))
"""What the distribution's tool would load."""

#: What every collection has besides FILES: Host.config is completed by it.
SOURCES = (PROFILE,)
