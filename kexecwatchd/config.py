# SPDX-License-Identifier: GPL-2.0-or-later
"""kexecwatchd.toml: what it may say, where it is read from, and what is wrong with it.

A problem is one line, `FILE: [table] key: what is wrong; what would be right`, and names the file
that the value came from even after several files were merged.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
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
from pydantic_core import ErrorDetails, PydanticCustomError

from kexecwatchd import trusted
from kexecwatchd.model import ImageFiles, ImageName, Mode, WhenUnsafe
from kexecwatchd.trusted import Untrusted

Origins = Mapping[tuple[str, ...], Path]
"""The file that each table, as (table,), and each key, as (table, key), was last set in."""


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

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.kernel is None and self.mode is Mode.ENSURE:
            _refuse("kernel", 'is missing, and mode = "ensure" needs it', blame="mode")
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


class RebootConfig(ImageConfig):
    """[reboot]."""

    when_unsafe: Annotated[WhenUnsafe, Strict(False)] = Field(
        default=WhenUnsafe.REFUSE,
        description="one of " + ", ".join(f'"{answer}"' for answer in WhenUnsafe),
    )


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

    def __eq__(self, other: object) -> bool:
        """Where a value came from does not make it another one."""
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    def image(self, name: ImageName) -> ImageConfig:
        return self.crash if name is ImageName.CRASH else self.reboot

    def origin(self, table: str, key: str) -> Path | None:
        """The file that set `key`; None for a default."""
        return self._origins.get((table, key))

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
        raise ConfigError([_problem(detail, origins) for detail in details]) from None


def check_files(config: Config) -> list[str]:
    """What is wrong with the kernels and initrds that `config` names; one problem a line."""
    problems = []
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


def _refuse(key: str, wrong: str, *, right: str = "", blame: str = "") -> NoReturn:
    """Refuse a table for its `key`; `blame` is the key whose file is to be changed."""
    context = {"key": key, "wrong": wrong, "right": right, "blame": blame or key}
    raise PydanticCustomError("table", "{key} {wrong}", context)


def _problem(detail: ErrorDetails, origins: Origins) -> str:
    """One problem in words, from one of pydantic's."""
    table, key = (*map(str, detail["loc"][:2]), "")[:2]
    if detail["type"] == "table":
        context = detail["ctx"]
        key, wrong = context["key"], context["wrong"]
        right = context["right"] or _expected(table, key)
        return f"{_origin(origins, table, context['blame'])}: [{table}] {key}: {wrong}; {right}"
    if detail["type"] == "extra_forbidden":
        wrong, right = _unknown(table, key)
    else:
        wrong, right = _wrong(detail), _expected(table, key)
    place = f"[{_name(table)}] {_name(key)}".rstrip() if key else f"[{_name(table)}]"
    return f"{_origin(origins, table, key)}: {place}: {wrong}; {right}"


def _origin(origins: Origins, table: str, key: str) -> Path | str:
    return origins.get((table, key)) or origins.get((table,)) or "kexecwatchd.toml"


def _keys(table: str) -> dict[str, str]:
    """What each key of `table`, or with "" each table, is expected to be."""
    model: Any = Config.model_fields[table].annotation if table else Config
    return {key: field.description or "" for key, field in model.model_fields.items()}


def _expected(table: str, key: str) -> str:
    return f"expected {_keys(table)[key] if key else _keys('')[table]}"


def _unknown(table: str, key: str) -> tuple[str, str]:
    kind, known = ("key", _keys(table)) if key else ("table", _keys(""))
    near = get_close_matches(key or table, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown {kind}", f"{meant}known here: {', '.join(known)}"


_WORDS = {
    "enum": "is not one of them",
    "greater_than": "is too small",
    "less_than_equal": "is too large",
    "finite_number": "is not a finite number",
    "relative": "is not an absolute path",
    "nul": "contains a NUL",
    "lines": "contains a NUL or a line break",
}
_TYPES = {
    bool: "a boolean",
    str: "a string",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}


def _wrong(detail: ErrorDetails) -> str:
    value, kind = detail["input"], detail["type"]
    if kind == "enum" and not isinstance(value, str):
        kind = "type"
    return (
        f"{_value(value)} {_WORDS.get(kind) or 'is ' + _TYPES.get(type(value), 'a date or time')}"
    )


def _value(value: object) -> str:
    """A value as one would write it in TOML, cut short."""
    try:
        text = json.dumps(value, default=str)
    except ValueError:  # Python's limit on the digits of an integer
        return "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def _name(name: str) -> str:
    """A table or key as TOML writes it: bare where that is possible."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)
