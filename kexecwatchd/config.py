# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchd.toml: what it may say, where it is read from, and what is wrong with it.

A problem is one line, `FILE: [table] key: what is wrong; what would be right`, and names the file
that the value came from even after several files were merged.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kexecwatchd import configproblems, trusted
from kexecwatchd.configproblems import Origins
from kexecwatchd.kernel.acpi_memory import NO_MEMORY_HOTPLUG
from kexecwatchd.model import ImageFiles, ImageName, Mode, WhenUnsafe
from kexecwatchd.profiles import SetUp
from kexecwatchd.trusted import Untrusted

#: What is wrong with a mode of ensure where there is nothing to load.
NEEDED = 'is missing, and mode = "ensure" needs it'


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line for each thing to put right."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to read: the usual places below `root`, or `explicit` instead of all of them."""

    root: Path = Path("/")
    explicit: Path | None = None

    @property
    def vendor(self) -> Path:
        return self.root / "usr/lib/kexecwatchd/kexecwatchd.toml"

    @property
    def local(self) -> Path:
        return self.root / "etc/kexecwatchd/kexecwatchd.toml"

    @property
    def drop_ins(self) -> Path:
        return self.root / "etc/kexecwatchd/kexecwatchd.toml.d"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise PydanticCustomError("relative", "not an absolute path")
    if "\0" in str(path):
        raise PydanticCustomError("nul", "contains a NUL")
    return path


def _one_line(text: str) -> str:
    if any(c in text for c in "\0\n\r"):
        raise PydanticCustomError("lines", "contains a NUL or a line break")
    return text


AbsolutePath = Annotated[Path, Strict(False), AfterValidator(_absolute)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Table(BaseModel):
    """A table. Each field's description completes the sentence "expected ..."."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ImageConfig(_Table):
    """[crash], and most of [reboot]."""

    mode: Annotated[Mode, Strict(False)] = Field(
        default=Mode.FOLLOW, description="one of " + ", ".join(f'"{mode}"' for mode in Mode)
    )
    kernel: AbsolutePath | None = Field(
        default=None, description='the absolute path of a kernel, such as "/boot/vmlinuz"'
    )
    initrd: AbsolutePath | None = Field(
        default=None, description='the absolute path of an initrd, such as "/boot/initrd.img"'
    )
    cmdline: Annotated[str, AfterValidator(_one_line)] | None = Field(
        default=None, description="the kernel's command line, one line in one string"
    )

    _none: str = PrivateAttr("")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.kernel is None and self.initrd is not None:
            _refuse("initrd", "is set, but kernel is not", right="set kernel too, or neither")
        if self.kernel is None and self.cmdline is not None:
            _refuse("cmdline", "is set, but kernel is not", right="set kernel too, or neither")
        if self.kernel is not None and self.cmdline is None:
            _refuse("cmdline", "is missing, and kernel is set", blame="kernel")
        return self

    @property
    def files(self) -> ImageFiles | None:
        """What to load, or None where the configuration names no kernel."""
        if self.kernel is None or self.cmdline is None:
            return None
        return ImageFiles(self.kernel, self.initrd, self.cmdline)

    @property
    def none(self) -> str:
        """Behind "no kernel is configured": why the distribution's tool names none, if one does."""
        return self._none

    def completed(self, setup: SetUp, machine: str) -> Self:
        """With the tool's files, or with why it names none."""
        completed = self.model_copy()
        if setup.files is None:
            completed._none = f"; {setup.tool} names none: {setup.obstacle}"
            return completed
        files = setup.files._asdict()
        if machine == "x86_64":
            files["cmdline"] = _without_memory_hotplug(setup.files.cmdline)
        return completed.model_copy(update=files)


class RebootConfig(ImageConfig):
    """[reboot]."""

    when_unsafe: Annotated[WhenUnsafe, Strict(False)] = Field(
        default=WhenUnsafe.REFUSE,
        description="one of " + ", ".join(f'"{answer}"' for answer in WhenUnsafe),
    )

    @model_validator(mode="after")
    def _ensure_needs_a_kernel(self) -> Self:
        if self.kernel is None and self.mode is Mode.ENSURE:
            _refuse("kernel", NEEDED, blame="mode")
        return self


class PacingConfig(_Table):
    """[pacing]: when to act on events. See pacing.py for how the three play together."""

    quiet: Seconds = Field(default=0.1, description="seconds, more than 0")
    max_wait: Seconds = Field(default=2.0, description="seconds, at least as many as quiet")
    unarmed_budget: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="a share of the time, more than 0 and at most 1"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_wait < self.quiet:
            blame = "max_wait" if "max_wait" in self.model_fields_set else "quiet"
            wrong = f"{self.max_wait:g} is less than quiet, which is {self.quiet:g}"
            _refuse("max_wait", wrong, blame=blame)
        return self


class Config(_Table):  # noqa: PLW1641 (a frozen model has a hash)
    """All of kexecwatchd.toml; every table and key may be left out."""

    crash: ImageConfig = Field(default=ImageConfig(), description="a table, [crash]")
    reboot: RebootConfig = Field(default=RebootConfig(), description="a table, [reboot]")
    pacing: PacingConfig = Field(default=PacingConfig(), description="a table, [pacing]")

    _origins: Origins = PrivateAttr(default_factory=dict)
    _setup: SetUp | None = PrivateAttr(None)
    _toml: Config | None = PrivateAttr(None)

    def __eq__(self, other: object) -> bool:
        """Where a value came from does not make it another one."""
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    def image(self, name: ImageName) -> ImageConfig:
        return self.crash if name is ImageName.CRASH else self.reboot

    def origin(self, table: str, key: str) -> Path | None:
        """The file that set `key`; None for a default."""
        return self._origins.get((table, key))

    @property
    def setup(self) -> SetUp | None:
        """What the distribution's tool would load, where [crash] goes by that."""
        return self._setup

    @property
    def toml(self) -> Config:
        """This as kexecwatchd.toml alone has it."""
        return self._toml or self

    def completed(self, setup: SetUp | None, machine: str) -> Config:
        """This, with the crash image's files from `setup` where [crash] names no kernel.

        The command line gets acpi_no_memhotplug on x86_64 (`machine`), all else is the tool's.
        """
        if setup is None or self.crash.kernel is not None:
            return self
        completed = self.model_copy(update={"crash": self.crash.completed(setup, machine)})
        theirs: Origins = {("crash", key): path for key, path in setup.origins.items()}
        completed._origins = {**self._origins, **theirs}
        completed._setup, completed._toml = setup, self
        return completed

    @model_validator(mode="after")
    def _keep_origins(self, info: ValidationInfo) -> Self:
        if info.context is not None:
            self._origins = info.context
        return self


def load(sources: Sources) -> Config:
    """Read and merge the files of `sources`; of two that set the same key, the later one counts.

    Raises ConfigError with every problem that could be told, and nothing else.
    """
    merged: dict[str, Any] = {}
    origins: dict[tuple[str, ...], Path] = {}
    problems: list[str] = []
    for path in files(sources):
        try:
            _merge(merged, origins, _read(path), path)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return from_tables(merged, origins)


def from_tables(tables: Mapping[str, Any], origins: Origins) -> Config:
    """Check parsed TOML. Raises ConfigError, and nothing else."""
    try:
        return Config.model_validate(tables, context=origins)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError([configproblems.told(d, origins, Config) for d in details]) from None


def check_files(config: Config) -> list[str]:
    """What is wrong with what `config` would have loaded; one problem a line."""
    problems = []
    if config.crash.mode is Mode.ENSURE and config.crash.files is None:
        where = config.origin("crash", "mode") or "kexecwatchd.toml"
        problems.append(f"{where}: [crash] kernel: {NEEDED}{config.crash.none}")
    for name in ImageName:
        for key, path in _named_files(config.image(name)):
            try:
                os.close(trusted.open_file(path))
            except Untrusted as error:
                where = config.origin(name, key) or "kexecwatchd.toml"
                problems += [f"{where}: [{name}] {key}: {problem}" for problem in error.problems]
    return problems


def _named_files(image: ImageConfig) -> list[tuple[str, Path]]:
    named = (("kernel", image.kernel), ("initrd", image.initrd))
    return [(key, path) for key, path in named if path is not None]


def files(sources: Sources) -> list[Path]:
    """The files to read, in order. Raises ConfigError where there is no place to begin."""
    if sources.explicit is not None:
        return [sources.explicit]
    present = [path for path in (sources.vendor, sources.local) if not _absent(path)]
    if not present:
        wrong = f"neither {sources.vendor} nor {sources.local} exists"
        raise ConfigError([f"{wrong}; install the first again, or write the second"])
    try:
        names = sorted(os.listdir(sources.drop_ins))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise ConfigError([f"{sources.drop_ins}: cannot list it: {error.strerror}"]) from None
    # Names with a leading dot are what editors leave while they write.
    drop_ins = [name for name in names if name.endswith(".toml") and not name.startswith(".")]
    return present + [sources.drop_ins / name for name in drop_ins]


def _absent(path: Path) -> bool:
    """False also where we may not look: then reading it says so."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(trusted.open_file(path), "rb") as file:
            text = file.read().decode()
        return tomllib.loads(text)
    except Untrusted as error:
        raise ConfigError(list(error.problems)) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot read it: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        wrong = f"not UTF-8 at byte {error.start}; save it in UTF-8"
        raise ConfigError([f"{path}: {wrong}"]) from None
    except (ValueError, RecursionError) as error:
        # Besides TOMLDecodeError: integers and nesting beyond what Python takes.
        raise ConfigError([f"{path}: not valid TOML: {error}; see https://toml.io"]) from None


def _merge(
    merged: dict[str, Any],
    origins: dict[tuple[str, ...], Path],
    tables: dict[str, Any],
    path: Path,
) -> None:
    for table, value in tables.items():
        origins[table,] = path
        known = merged.get(table)
        if isinstance(value, dict):
            merged[table] = (known if isinstance(known, dict) else {}) | value
            origins.update({(table, key): path for key in value})
        else:
            merged[table] = value


def _without_memory_hotplug(cmdline: str) -> str:
    """With acpi_no_memhotplug, before what is handed on to init."""
    kernels, separator, inits = cmdline.partition(" -- ")
    if NO_MEMORY_HOTPLUG in kernels.split():
        return cmdline
    return f"{kernels} {NO_MEMORY_HOTPLUG}{separator}{inits}"


def _refuse(key: str, wrong: str, *, right: str = "", blame: str = "") -> NoReturn:
    """Refuse a table for its `key`; `blame` is the key whose file is to be changed."""
    context = {"key": key, "wrong": wrong, "right": right, "blame": blame or key}
    raise PydanticCustomError("table", "{key} {wrong}", context)
