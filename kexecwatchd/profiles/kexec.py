# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command line of kexec(8) would load: the options that kexec-tools' getopt takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles.reader import Obstacle

_CMDLINE = ("--command-line", "--append")
_INITRD = ("--initrd", "--ramdisk")
# Which system call, how much is said, and the form of elfcorehdr: not what is loaded.
_HARMLESS = frozenset({
    "-p", "--load-panic", "-s", "--kexec-file-syscall", "-c", "--kexec-syscall",
    "-a", "--kexec-syscall-auto", "-d", "--debug", "--args-linux", "--elf32-core-headers",
    "--elf64-core-headers", "--dt-no-old-root",
})  # fmt: skip


def loads(arguments: Sequence[str]) -> ImageFiles:
    """What `kexec ARGUMENTS` would load. Raises Obstacle where that cannot be told."""
    kernels: list[str] = []
    initrd = cmdline = ""
    for argument in arguments:
        option, separator, value = argument.partition("=")
        if separator and option in _CMDLINE:
            cmdline = value
        elif separator and option in _INITRD:
            initrd = value
        elif not argument.startswith("-"):
            kernels.append(argument)
        elif argument not in _HARMLESS:
            raise Obstacle(f"it gives kexec {argument}, and what that does is not known here")
    if len(kernels) != 1:
        raise Obstacle(f"it gives kexec {len(kernels)} kernels: is there a space in quotes?")
    for path in (*kernels, initrd or "/"):
        if not path.startswith("/"):
            raise Obstacle(f"{path or 'an empty word'} is not an absolute path")
    if not "".join((*kernels, initrd, cmdline)).replace("\t", " ").isprintable():
        raise Obstacle(
            "it gives kexec characters that are not text: does a line end as on Windows?"
        )
    return ImageFiles(Path(kernels[0]), Path(initrd) if initrd else None, cmdline)
