# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd's unit files: what a setting of a service comes to, drop-ins included; and what a
SystemCallFilter= permits.

Sources: systemd.unit(5), systemd.syntax(7), systemd.exec(5); unit_file_find_dropin_paths() in
systemd's src/shared/dropin.c, config_parse_syscall_filter() in src/core/load-fragment.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

#: What comes first counts more.
DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
)

# The groups that have kexec_load and kexec_file_load in them (systemd-analyze syscall-filter, seen
# of 252 and 257; syscall_filter_sets in src/shared/seccomp-util.c).
_KEXEC_GROUPS = frozenset({"@reboot", "@privileged", "@known"})


def files(unit: str) -> tuple[str, ...]:
    """Patterns of all files that assignments() may read of a unit."""
    return tuple(
        f"{directory}/{name}"
        for directory in DIRECTORIES
        for name in (unit, *(f"{d}/*.conf" for d in _drop_in_names(unit)))
    )


def assignments(root: Path, unit: str, key: str) -> list[str] | None:
    """Every value that is assigned to a [Service] `key`, in systemd's order, empty ones too.

    None where there is no such unit, or it is masked. Raises OSError.
    """
    main = next((p for d in DIRECTORIES if (p := root / d / unit).exists()), None)
    text = _text(main) if main else ""
    if not text:
        return None
    found = list(_values(text, key))
    drop_ins: dict[str, Path] = {}
    own, *for_many = _drop_in_names(unit)
    for names in ((own,), for_many):
        for directory in DIRECTORIES:
            for name in names:
                for path in sorted((root / directory / name).glob("*.conf")):
                    drop_ins.setdefault(path.name, path)
    for _, path in sorted(drop_ins.items()):
        found += _values(_text(path), key)
    return found


def permits_kexec(filters: Sequence[str], call: str) -> bool:
    """Whether a service with these assignments of SystemCallFilter= may make the system call
    `call`, kexec_load or kexec_file_load.

    The first assignment makes the list one of what is permitted or, with "~", of what is not; those
    after it add to it or take from it; an empty one begins anew.
    """
    allows: bool | None = None
    listed = False
    for value in filters:
        if not value:
            allows, listed = None, False
            continue
        takes_away = value.startswith("~")
        if allows is None:
            allows = not takes_away
        for word in value.removeprefix("~").split():
            name, _, error = word.partition(":")
            # An error number is for what is not permitted; elsewhere the word is left out.
            if (name == call or name in _KEXEC_GROUPS) and not (error and not takes_away):
                listed = allows is not takes_away
    return allows is None or allows is listed


def _drop_in_names(unit: str) -> tuple[str, ...]:
    """foo-bar.service.d first, then foo-.service.d, and that of all services."""
    stem, _, kind = unit.rpartition(".")
    parts = stem.split("-")
    shorter = ["-".join(parts[:n]) + "-" for n in range(len(parts) - 1, 0, -1)]
    return (f"{unit}.d", *(f"{name}.{kind}.d" for name in shorter), f"{kind}.d")


def _text(path: Path) -> str:
    # A link to /dev/null, which masks.
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _values(text: str, key: str) -> Iterator[str]:
    section, begun = "", ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            begun += line[:-1] + " "
            continue
        line, begun = begun + line, ""
        if line.startswith("[") and line.endswith("]"):
            section = line
        name, is_assignment, value = line.partition("=")
        if is_assignment and section == "[Service]" and name.strip() == key:
            yield value.strip()
