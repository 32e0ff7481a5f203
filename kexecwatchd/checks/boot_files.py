# SPDX-License-Identifier: GPL-2.0-or-later
"""Are kernel and initrd of each image there, trusted, and do they belong together?

What is cheap to see: that each can be opened and is root's alone, that the kernel is one that
kexec_file_load(2) takes (kernel/bootimage.py), that kernel, initrd and modules are of one release,
and what the command line lacks. A crash kernel of another release than the running one is fine.
The initrd is not unpacked: that takes seconds, and every load does it first (preflight.py).

Sources: Documentation/admin-guide/kdump/kdump.rst (nr_cpus=1); drivers/acpi/acpi_memhotplug.c
(acpi_no_memhotplug, see kernel/acpi_memory.py); arch/x86/kernel/kexec-bzimage64.c (the length).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd import trusted
from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import Host, Source
from kexecwatchd.checks.sources import bootfiles, daemon
from kexecwatchd.checks.sources.bootfiles import BootFiles
from kexecwatchd.kernel import acpi_memory
from kexecwatchd.kernel.acpi_memory import NO_MEMORY_HOTPLUG
from kexecwatchd.kernel.bootimage import ELFCOREHDR_STRING, BootImage
from kexecwatchd.model import ImageName
from kexecwatchd.trusted import Untrusted

# Debian's and SUSE's initrd(.img)-RELEASE, Fedora's initramfs-RELEASE.img and …kdump.img.
_INITRD_NAME = re.compile(r"(?:initrd(?:\.img)?|initramfs)-(\d.*?)(?:[.-]?kdump)?(?:\.img)?")


@dataclass(frozen=True, slots=True)
class Seen:
    """`problems`: why root should not load it. `name`: the file's own, links followed. `releases`:
    those that there are modules of (the same for each file)."""

    problems: list[str]
    name: str
    size: int
    releases: list[str]


def _look(host: Host) -> dict[str, Seen]:
    releases = {
        path.name for top in ("usr/lib/modules", "lib/modules") for path in host.path(top).glob("*")
    }
    paths = {p for files in bootfiles.chosen(host) for p in (files.kernel, files.initrd) if p}
    return {path: _see(host.path(path), sorted(releases)) for path in sorted(paths)}


def _see(path: Path, releases: list[str]) -> Seen:
    name = path.resolve().name
    try:
        fd = trusted.open_file(path)
    except Untrusted as error:
        return Seen(list(error.problems), name, 0, releases)
    try:
        return Seen([], name, os.fstat(fd).st_size, releases)
    finally:
        os.close(fd)


SEEN: Source[dict[str, Seen]] = Source("boot-files", dict[str, Seen], _look)
"""By path, each kernel and initrd of bootfiles.chosen()."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    answer: Answer
    what: str
    remedy: str


def look(host: Host) -> Finding:
    chosen = bootfiles.chosen(host)
    if not chosen:
        return Finding(Answer.NOT_APPLICABLE, f"none are configured{host.config.crash.none}")
    seen, kernels = host.ask(SEEN), host.ask(bootfiles.KERNELS)
    troubles = [
        trouble
        for files in chosen
        for trouble in (
            *_files(files, seen),
            *_kernel(files, kernels.get(files.kernel, "not looked at"), seen),
            *_cmdline(host, files),
        )
    ]
    facts: dict[str, Fact] = {
        files.image.value: {
            "kernel": files.kernel,
            "initrd": files.initrd or "",
            "origin": files.origin,
        }
        for files in chosen
    }
    facts["sizes"] = {path: told.size for path, told in seen.items()}
    if not troubles:
        images = " and ".join(f"the {files.image} image's" for files in chosen)
        return Finding(Answer.OK, f"yes, {images}", facts=facts)
    worst = min(troubles, key=lambda trouble: list(Answer).index(trouble.answer))
    others = [trouble for trouble in troubles if trouble is not worst]
    more = f" (and {len(others)} more)" if others else ""
    return Finding(
        worst.answer,
        f"{'no' if worst.answer is Answer.PROBLEM else 'perhaps not'}: {worst.what}{more}",
        "kexecwatchd sees before a load what cannot be loaded, and the old image stays; but then it"
        " grows out of date. What can be loaded and does not work is only seen after the crash."
        + "".join(f" Also: {trouble.what}." for trouble in others),
        " ".join(dict.fromkeys(trouble.remedy for trouble in (worst, *others))),
        facts,
    )


def _files(files: BootFiles, seen: dict[str, Seen]) -> Iterator[_Trouble]:
    for path in (files.kernel, files.initrd):
        told = seen.get(path) if path else None
        if told is None:
            continue
        for problem in told.problems:
            yield _Trouble(Answer.PROBLEM, problem, f"Put {path} right, or name another file.")
        if not told.problems and not told.size:
            yield _Trouble(Answer.PROBLEM, f"{path} is empty", f"Make {path} anew.")


def _kernel(files: BootFiles, kernel: BootImage | str, seen: dict[str, Seen]) -> Iterator[_Trouble]:
    told = seen.get(files.kernel)
    if told is None or told.problems or not told.size:
        return  # said already
    if isinstance(kernel, str):
        yield _Trouble(
            Answer.PROBLEM, f"{files.kernel}: {kernel}", "Install the kernel's package again."
        )
        return
    release = kernel.release
    if release and told.releases and release not in told.releases:
        yield _Trouble(
            Answer.WARNING,
            f"{files.kernel} is {release}, and there are no modules of that release",
            "Name a kernel that is installed, or install that one again.",
        )
    initrd = seen.get(files.initrd) if files.initrd else None
    named = _INITRD_NAME.fullmatch(initrd.name) if initrd else None
    if release and named and named[1] != release:
        yield _Trouble(
            Answer.WARNING,
            f"{files.kernel} is {release}, and its initrd by its name of {named[1]}",
            "Name the two of one release: modules of another one are not loaded.",
        )
    limit = kernel.cmdline_size
    if limit is not None:
        length, room = len(os.fsencode(files.cmdline)) + 1, limit - ELFCOREHDR_STRING
        if length > room:
            yield _Trouble(
                Answer.PROBLEM,
                f"the {files.image} image's command line takes {length} bytes, its kernel {room}",
                "Shorten it: cmdline in kexecwatchd.toml, or what the distribution's tool appends.",
            )


def _cmdline(host: Host, files: BootFiles) -> Iterator[_Trouble]:
    """What a crash kernel needs to be told."""
    if files.image is not ImageName.CRASH:
        return
    words = files.cmdline.split()
    added = files.theirs and daemon.tends(host, files.image)  # by kexecwatchd
    if acpi_memory.memory_present(host.root) and NO_MEMORY_HOTPLUG not in words and not added:
        yield _Trouble(
            Answer.PROBLEM,
            "the crash image's command line lacks acpi_no_memhotplug, and memory comes through ACPI"
            " here",
            "Have kexecwatchd keep the image, which adds it to what the distribution's tool says;"
            " or add it to the crash kernel's command line: without it the crash kernel"
            " takes that memory for its own, and it is missing from the dump. It goes into cmdline"
            " of kexecwatchd.toml; KDUMP_CMDLINE_APPEND in /etc/default/kdump-tools, behind the"
            " default that a comment there shows; KDUMP_COMMANDLINE_APPEND in /etc/sysconfig/kdump."
            " Then load the image again.",
        )
    names = {word.partition("=")[0] for word in words}
    if not files.theirs and not names & {"nr_cpus", "maxcpus", "nosmp"}:
        yield _Trouble(
            Answer.WARNING,
            "the crash image's command line lacks nr_cpus=1",
            "Add nr_cpus=1 to cmdline of [crash]: each CPU takes memory, of which a crash kernel"
            " has little.",
        )


CHECK = Check(
    name="boot-files",
    question="Are kernel and initrd of each image there and good?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=(
        *daemon.FILES,
        "sys/bus/acpi/devices/PNP0C80:*/status",
        "proc/cmdline",
    ),
    asks=(SEEN, bootfiles.KERNELS),
)
