# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads reboot images below an address, through the program kexec (kexec-tools) and kexec_load(2).

kexec_file_load(2) puts a reboot image as high as it can and takes no address. `kexec -c -l` chooses
the place itself, at most at --mem-max. What it says with -d, on its standard error, is documented
nowhere; it was read from kexec/kexec.c (my_load, print_segments, locate_hole) and
kexec/arch/x86_64/kexec-bzImage64.c, and seen of 2.0.29.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kexecwatchd import trusted
from kexecwatchd.addresses import without_addresses
from kexecwatchd.kernel import ima, kconfig, kexec_state
from kexecwatchd.loaders import Call, LoadError, kexec_file, patiently
from kexecwatchd.model import ImageName, PlacedBy, Placement, Segment
from kexecwatchd.preflight import Files
from kexecwatchd.ranges import RangeSet
from kexecwatchd.trusted import Untrusted

PROGRAMS = ("usr/sbin/kexec", "sbin/kexec", "usr/bin/kexec")

# Seconds: a guard against hanging, below the unit's TimeoutStopSec= and WatchdogSec=.
HANG = 90.0

# Each try reads and hashes the files anew before it meets the lock.
BUSY_PAUSES = (0.1, 0.5, 1.0)

_COUNT = re.compile(r"nr_segments = (\d+)")
_SEGMENT = re.compile(r"segment\[(\d+)\]\.(buf|bufsz|mem|memsz) *= (0x[0-9a-f]+|0|\(nil\))")
_LOADED = re.compile(r"Loaded (.+?) at (?:addr )?0x([0-9a-f]+)(?: .*)?")
_NAMES = {
    "purgatory": "purgatory",
    "real_mode_data and command line": "boot parameters",
    "64bit kernel": "kernel",
    "initrd": "initrd",
}

_REFUSED = re.compile(r"^kexec_load failed: (.*)$", re.MULTILINE)
_NO_ROOM = re.compile(r"locate_hole failed|Could not find a free area .*|Invalid memory segment .*")
# Besides those that without_addresses() knows: 2ffd1002.
_BARE_ADDRESS = re.compile(r"\b[0-9a-f]{6,}\b")

_NUMBERS = {os.strerror(number): number for number in errno.errorcode}
_EXPLANATIONS = {
    errno.EPERM: "not permitted: CAP_SYS_BOOT is missing, kernel.kexec_load_disabled is 1, "
    "kernel.kexec_load_limit_reboot is used up, or lockdown is on; look at these four",
    errno.EACCES: "a security module such as IMA wants kernels to be signed, which kexec_load "
    "cannot show; relax its policy",
    errno.EBUSY: "another kexec operation holds the kernel's lock; try again shortly",
    errno.ENOMEM: "the kernel is out of memory; free some and try again",
    errno.ENOSYS: "the running kernel has no kexec_load (CONFIG_KEXEC); run another kernel",
}


@dataclass(frozen=True, slots=True)
class Finished:
    """How the program ended. `status`: its exit status, -N for signal N, None when it hung and was
    killed. `said`: its standard error."""

    status: int | None
    said: str


def obstacle(root: Path = Path("/")) -> str:
    """Why this loader cannot be used here and what to do about it, without trying; "" when nothing
    speaks against it. Cheap enough for every look.

    The kernel's reasons are those of kexec_load_check() in kernel/kexec.c. CONFIG_KEXEC_SIG_FORCE
    is none of them: it is for kexec_file_load(2) alone.
    """
    try:
        os.close(_program(root))
        lockdown = kexec_state.lockdown(root)
        unsigned = ima.refuses_kexec_load(root)
    except Untrusted as error:
        return str(error)
    except OSError as error:
        return f"what kexec_load(2) may do cannot be read: {error}"
    if lockdown not in ("", "none"):
        return f"lockdown={lockdown} is on and forbids kexec_load(2); boot without lockdown"
    if unsigned:
        return f"IMA forbids kexec_load(2): {unsigned}; relax its policy"
    if kconfig.is_set(root, "KEXEC") is False:
        return "the running kernel has no kexec_load(2); run one with CONFIG_KEXEC=y"
    return ""


def hiding(cmdline: str, ranges: RangeSet) -> str:
    """The command line with which the next kernel does not take `ranges` from the map it is given.

    kexec-tools hands on the map of /sys/firmware/memmap, hot-added memory and all; a kernel started
    after that memory was removed dies early. The kernel removes `memmap=SIZE%START-1` from its map
    (parse_memmap_one() in arch/x86/kernel/e820.c); of what is there it learns from ACPI later. Only
    x86 is handed such a map.
    """
    if platform.machine() != "x86_64":
        return cmdline
    return " ".join([cmdline, *(f"memmap={r.size:#x}%{r.start:#x}-1" for r in ranges)]).strip()


def load(root: Path, files: Files, cmdline: str, below: int, *, again: bool) -> Call:
    """Load a reboot image into memory below the address `below`. See `hiding` for the command line.

    `again`: a busy lock may be tried again; not so where each try uses up
    kernel.kexec_load_limit_reboot.
    """
    problem = obstacle(root)
    if problem:
        return Call(LoadError(problem))
    said = ""

    def call() -> None:
        nonlocal said
        said = _run(root, files, cmdline, below)

    error, seconds = patiently(call, BUSY_PAUSES if again else ())
    segments = parse_segments(said) if error is None else None
    placement = None if segments is None else Placement(segments, PlacedBy.LOADER)
    return Call(error, seconds, placement)


def run(program: int, arguments: Sequence[str], inherited: Sequence[int]) -> Finished:
    """Run an open program file to its end; the daemon starts no other process.

    `inherited`: further descriptors that it gets. Raises OSError when it cannot be started.
    """
    try:
        done = subprocess.run(
            ["kexec", *arguments],
            executable=f"/proc/self/fd/{program}",
            pass_fds=(program, *inherited),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"LC_ALL": "C"},
            timeout=HANG,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        return Finished(None, _text(hung.stderr))
    return Finished(done.returncode, _text(done.stderr))


def parse_segments(said: str) -> tuple[Segment, ...] | None:
    """The last list of segments in the program's words; None where it is not whole.

    Whole: as many segments as nr_segments says, numbered in order, each with an address and a size.
    """
    names: dict[int, str] = {}
    count: int | None = None
    fields: list[dict[str, int]] = []
    for line in said.splitlines():
        if match := _LOADED.fullmatch(line):
            names[int(match[2], 16)] = _NAMES.get(match[1], "")
        elif match := _COUNT.fullmatch(line):
            count, fields = int(match[1]), []
        elif match := _SEGMENT.fullmatch(line):
            number = int(match[1])
            if number == len(fields):
                fields.append({})
            elif number != len(fields) - 1:
                return None
            fields[number][match[2]] = 0 if match[3] == "(nil)" else int(match[3], 16)
    if not count or count != len(fields):
        return None
    if not all("mem" in segment and segment.get("memsz") for segment in fields):
        return None
    return tuple(Segment(s["mem"], s["memsz"], names.get(s["mem"], "")) for s in fields)


def _program(root: Path) -> int:
    """The open program. Raises Untrusted."""
    for name in PROGRAMS:
        if os.path.exists(root / name):
            return trusted.open_file(root / name)
    raise Untrusted(["the program kexec is not installed; install kexec-tools"])


def _run(root: Path, files: Files, cmdline: str, below: int) -> str:
    """One load; what the program said. Raises LoadError."""
    inherited = {files.kernel_fd: "the kernel"}
    # --mem-max is the last address that may be used. Without --no-sync it waits for every file
    # system at the end.
    arguments = ["-c", "-l", "-d", "--no-sync", f"--mem-max={below - 1:#x}"]
    if files.initrd_fd is not None:
        inherited[files.initrd_fd] = "the initrd"
        arguments.append(f"--initrd=/proc/self/fd/{files.initrd_fd}")
    arguments += [f"--command-line={cmdline}", f"/proc/self/fd/{files.kernel_fd}"]
    program = -1
    try:
        program = _program(root)
        done = run(program, arguments, tuple(inherited))
    except (OSError, Untrusted) as error:
        raise LoadError(f"kexec cannot be run: {error}") from error
    finally:
        if program >= 0:
            os.close(program)
    if done.status == 0:
        return done.said
    if done.status is None or done.status < 0:
        raise _broken_off(done)
    raise _failed(done, inherited)


def _broken_off(done: Finished) -> LoadError:
    """The program did not live to say what became of its load."""
    if done.status is None:
        number, what = errno.ETIMEDOUT, f"kexec hung for {HANG:g} s and was killed"
    else:
        number, what = errno.EINTR, f"kexec was killed by signal {-done.status}"
    if parse_segments(done.said) is None:
        return LoadError(what, number)  # it had not come to the system call
    # The old image or the new one may be loaded now, and the daemon would take it for the old one.
    problem = kexec_file.unload(ImageName.REBOOT).error
    left = f"cannot be unloaded: {problem}" if problem else "was unloaded"
    return LoadError(f"{what} while it loaded; whatever image it left {left}", number)


def _failed(done: Finished, inherited: Mapping[int, str]) -> LoadError:
    """In words, and without addresses, why the program gave up."""
    refused = _REFUSED.search(done.said)
    if refused:
        number = _NUMBERS.get(refused[1], 0)
        name = errno.errorcode.get(number, "?")
        explanation = _EXPLANATIONS.get(number, f"{refused[1]}; see the kernel log")
        return LoadError(f"kexec_load: {name}: {explanation}", number)
    last = (done.said.strip().splitlines() or [f"exit status {done.status}"])[-1]
    if _NO_ROOM.fullmatch(last):
        return LoadError(
            "kexec found no hole below the limit that is large enough for the image; make the"
            " initrd smaller",
            errno.EADDRNOTAVAIL,
        )
    for fd, name in inherited.items():
        last = last.replace(f"/proc/self/fd/{fd}", name)
    quoted = _BARE_ADDRESS.sub("[address]", without_addresses(last))
    return LoadError(f"kexec could not load it: {quoted}; check the files", blames_files=True)


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
