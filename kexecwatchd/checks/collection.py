# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checks read of a machine, gathered, so that they can be asked elsewhere.

Nothing else is taken: no initrd, no kernel, no file that no check asks for. Links are followed, for
an absolute one would lead to a file of the machine where the collection is looked at. Files of the
kernel have no size before they are read, so contents are what counts.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from kexecwatchd import __version__
from kexecwatchd.checks.check import Check
from kexecwatchd.checks.host import ABOUT, COLLECTED, FILES, SOURCES, CannotTell, Host

WITHOUT_ADDRESSES = "left out because it has physical addresses (collect --with-addresses)"

# Bytes. Nothing that is asked for comes near.
_MOST = 64 << 20
_PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class Collected:
    """Files by name, relative to the root, with their permission bits. `unreadable`: what could not
    be taken, and why."""

    files: Mapping[str, tuple[bytes, int]]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def collect(host: Host, checks: Iterable[Check], *, with_addresses: bool) -> Collected:
    """All that these checks read of the running machine, ready for Host(…, live=False)."""
    checks = tuple(checks)
    addresses = {pattern for check in checks for pattern in check.addresses}
    patterns = {*addresses, *FILES, *(pattern for check in checks for pattern in check.files)}
    secret = {name for pattern in addresses for name in _names(host.root, pattern)}
    files: dict[str, tuple[bytes, int]] = {}
    left_out = {} if with_addresses else dict.fromkeys(addresses, WITHOUT_ADDRESSES)
    unreadable: dict[str, str] = {}
    for name in sorted({name for pattern in patterns for name in _names(host.root, pattern)}):
        if name in secret and not with_addresses:
            continue
        try:
            files[name] = _read(host.root / name)
        except OSError as error:
            unreadable[name] = str(error.strerror or error)
    asked = (*SOURCES, *(source for check in checks for source in check.asks))
    for source in {source.name: source for source in asked}.values():
        if source.addresses and not with_addresses:
            left_out[source.name] = WITHOUT_ADDRESSES
            continue
        try:
            told = TypeAdapter(source.type).dump_json(host.ask(source), indent=1)
        except (CannotTell, OSError, ValueError) as error:
            unreadable[source.name] = host.words_for(error)
        else:
            files[f"{COLLECTED}/{source.name}.json"] = told, 0o600
    about = {
        "version": __version__,
        "machine": host.machine,
        "with_addresses": with_addresses,
        "left_out": left_out,
        "unreadable": unreadable,
    }
    files[f"{COLLECTED}/{ABOUT}"] = json.dumps(about, indent=1).encode(), 0o600
    return Collected(files, unreadable)


def _names(root: Path, pattern: str) -> Iterator[str]:
    """The files, not directories, that a pattern means."""
    for path in root.glob(pattern):
        if not path.is_dir():
            yield str(path.relative_to(root))


def _read(path: Path) -> tuple[bytes, int]:
    if path.is_symlink() and not path.exists():
        return b"", 0o644  # a link to nowhere masks as one to /dev/null does
    content = b""
    with path.open("rb", buffering=0) as file:
        # Piece by piece: a sysctl has the kernel allocate as much as is asked for
        # (proc_sys_call_handler() in fs/proc/proc_sysctl.c), and fail.
        while piece := file.read(_PIECE):
            content += piece
            if len(content) > _MOST:
                raise OSError(f"more than {_MOST >> 20} MiB")
    return content, stat.S_IMODE(path.stat().st_mode)
