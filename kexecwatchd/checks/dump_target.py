# SPDX-License-Identifier: GPL-2.0-or-later
"""Is there room for a dump where it is to be written? Local paths only.

Sources: kdump-config of kdump-tools 1.10.7 and its kdump-tools(5); kdump.conf(5) of kdump-utils;
kdump(5) of SUSE. makedumpfile(8): at dump level 31 zero pages, the page cache, user pages and free
pages are left out.

What a dump may take at level 31 is therefore what is in use now and is none of these (all of
MemTotal less MemFree, Buffers, Cached, SwapCached, AnonPages and Hugetlb of /proc/meminfo), and a
64th of all memory for the kernel's own page structures, which MemTotal leaves out (64 bytes for
4 KiB). Compression makes it smaller, by how much is not known. At any other level, all of MemTotal.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host, Source
from kexecwatchd.kernel import meminfo, mounts
from kexecwatchd.profiles import shellvars
from kexecwatchd.profiles.shell import NotPlain
from kexecwatchd.sizes import human

_DEBIAN = "etc/default/kdump-tools"
_FEDORA = "etc/kdump.conf"
_SUSE = "etc/sysconfig/kdump"
# kdump.conf(5): these say where else than on the root file system the path lies.
_ELSEWHERE = frozenset(
    {"raw", "nfs", "ssh", "ext2", "ext3", "ext4", "xfs", "btrfs", "minix", "virtiofs"}
)
_LEVEL = re.compile(r"(?:^|\s)-d\s*(\d+)(?=\s|$)")
_LEAVE_OUT = ("MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Hugetlb")


@dataclass(frozen=True, slots=True)
class Target:
    """`path`: the local directory; "" where it is elsewhere, and `where` says in words where.
    `level`: makedumpfile's dump level."""

    path: str
    level: int = 31
    where: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """Of the file system that a directory is on, or will be on; bytes."""

    free: int
    read_only: bool


def _look(host: Host) -> Space | None:
    found = target(host)
    if found is None or not found.path:
        return None
    place = host.path(found.path)
    while not place.exists() and place != host.root:
        place = place.parent
    told = os.statvfs(place)
    # f_bfree: root writes the dump, into what is kept back for root, too (statvfs(3)).
    return Space(told.f_bfree * told.f_frsize, mounts.is_read_only(place))


SPACE: Source[Space | None] = Source("dump-space", Space | None, _look)
"""Of a local target's file system; None without one."""


def target(host: Host) -> Target | None:
    """Where the distribution's tool writes a dump; None without a tool. Raises CannotTell."""
    for name, read in ((_DEBIAN, _debian), (_FEDORA, _fedora), (_SUSE, _suse)):
        path = host.path(name)
        if path.is_file():
            try:
                return read(path.read_text(encoding="utf-8", errors="replace"))
            except NotPlain as error:
                raise CannotTell(f"/{name}: {error}") from None
    return None


def _debian(text: str) -> Target:
    variables = shellvars.parse(text)
    for remote in ("SSH", "NFS", "FTP"):
        if variables.value(remote):
            return Target("", where=f"on another machine ({remote} in /{_DEBIAN})")
    args = variables.value("MAKEDUMP_ARGS", "-F -c -d 31")
    return Target(variables.value("KDUMP_COREDIR", "/var/crash"), _level(args))


def _fedora(text: str) -> Target:
    path, level = "/var/crash", 31
    for line in text.splitlines():
        words = line.split()
        match words:
            case ["path", given, *_]:
                path = given
            case ["core_collector", *args]:
                level = _level(" ".join(args))
            case [kind, *_] if kind in _ELSEWHERE:
                return Target("", where=f"not on the root file system ({kind} in /{_FEDORA})")
    return Target(path, level)


def _suse(text: str) -> Target:
    variables = shellvars.parse(text)
    directory = variables.value("KDUMP_SAVEDIR", "/var/crash")
    level = variables.value("KDUMP_DUMPLEVEL", "31")
    if len(directory.split()) > 1:
        raise NotPlain("KDUMP_SAVEDIR names several places")
    scheme, separator, path = directory.partition("://")
    if separator and scheme != "file":
        return Target("", where=f"on another machine ({scheme}, KDUMP_SAVEDIR in /{_SUSE})")
    return Target(path if separator else directory, int(level) if level.isdecimal() else 0)


def _level(args: str) -> int:
    """makedumpfile without -d leaves nothing out."""
    given = _LEVEL.findall(args)
    return int(given[-1]) if given else 0


def look(host: Host) -> Finding:
    found = target(host)
    if found is None:
        return Finding(
            Answer.NOT_APPLICABLE,
            "no tool that is known here says where dumps go",
            "What becomes of a dump is decided by what the crash image's initrd does.",
        )
    if not found.path:
        return Finding(Answer.NOT_APPLICABLE, f"dumps go elsewhere: {found.where}")
    space = host.ask(SPACE)
    if space is None:
        raise CannotTell(f"the room in {found.path} was not collected")
    needed, assumed = _needed(host, found.level)
    facts: dict[str, Fact] = {
        "path": found.path,
        "free": space.free,
        "needed": needed,
        "dump_level": found.level,
    }
    room = f"{human(space.free)} free in {found.path}"
    if space.read_only or not space.free:
        why = "its file system is read-only" if space.read_only else "its file system is full"
        return Finding(
            Answer.PROBLEM,
            f"no: nothing can be written to {found.path}: {why}",
            "The crash kernel would come up, find no place to write to, and reboot.",
            f"Make room, or mount it writable: findmnt --target {found.path}; df {found.path}.",
            facts,
        )
    if space.free < needed:
        return Finding(
            Answer.WARNING,
            f"perhaps not: {room}, and a dump may take {human(needed)}",
            f"A dump that does not fit is cut off, and what is missing then is luck. {assumed}",
            f"Make room in {found.path} (old dumps?), name a larger place, or leave more out"
            " (makedumpfile -d 31).",
            facts,
        )
    return Finding(
        Answer.OK, f"yes: {room}, and a dump may take {human(needed)}", assumed, facts=facts
    )


def _needed(host: Host, level: int) -> tuple[int, str]:
    """Bytes, and what was assumed."""
    amounts = meminfo.amounts(host.root)
    total = amounts.get("MemTotal", 0)
    if not total:
        raise CannotTell("/proc/meminfo does not say how much memory there is")
    if level != 31:
        return total, f"Assumed is all memory, since the dump level is {level}, not 31."
    in_use = total - sum(amounts.get(name, 0) for name in _LEAVE_OUT)
    return max(in_use, 0) + total // 64, (
        "Assumed is dump level 31 as memory is used now: all but free pages, the page cache and"
        " processes' memory, and not compressed. A machine in trouble may hold more."
    )


CHECK = Check(
    name="dump-target",
    question="Is there room for a dump?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=(_DEBIAN, _FEDORA, _SUSE, "proc/meminfo"),
    asks=(SPACE,),
)
