# SPDX-License-Identifier: GPL-2.0-or-later
"""Fedora's and RHEL's kdump-utils: what `kdumpctl start` would load.

Source: kdumpctl, kdump-lib.sh (prepare_kdump_bootinfo, prepare_cmdline) and gen-kdump-sysconfig.sh
of the repository rhkdump/kdump-utils. Their command line has changed from release to release, so
the library that is installed is asked what it takes away and what it adds; where that is more than
is known here, nothing is said. /etc/kdump.conf is about what the initrd contains, not about this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles import kexec
from kexecwatchd.profiles.reader import Idle, Obstacle, Reader
from kexecwatchd.profiles.shellvars import Variables
from kexecwatchd.profiles.watchdogs import watchdog_drivers

TOOL = "kdump-utils"
PROGRAM = "/usr/lib/kdump/kdump-lib.sh"
SETTINGS = "/etc/sysconfig/kdump"
ORIGINS = dict.fromkeys(("kernel", "initrd", "cmdline"), Path(SETTINGS))
_BOOT_DIRECTORIES = "/boot /boot/efi /efi /"
_STUB = "/sys/firmware/efi/efivars/StubImageIdentifier-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

_PREPARE_CMDLINE = re.compile(r"^prepare_cmdline\(\)\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_TAKEN_AWAY = re.compile(r"^\s*remove\[([^]$]+)\]=1$", re.MULTILINE)
_ADDED = re.compile(r'out\+="([^"]*)"')
# What is known to be added, in this order; the last is newer than the others.
_ADDITIONS = [
    "$opt=$val ", "$opt ", "$append ", "disable_cpu_apicid=$id ",
    "$drv.pretimeout=0 ", "$drv.kdumptimeout=0 ",
]  # fmt: skip
_NO_GPT = "rd.systemd.gpt_auto=no "

_XARGS = re.compile(r"""(?:'[^'\n]*'|"[^"\n]*"|\\.|[^\s'"\\])+""")
_QUOTED = re.compile(r"""'([^'\n]*)'|"([^"\n]*)"|\\(.)""")


def loaded(files: Reader, variables: Variables) -> ImageFiles:
    """What would be loaded. Raises Obstacle, NotPlain."""
    if (files.text_or_none("/sys/kernel/fadump/enabled") or "").strip() == "1":
        raise Idle("it uses fadump on this machine, which loads no image")
    if (files.text_or_none("/sys/kernel/kexec_crash_size") or "0").strip() == "0":
        raise Idle("it loads nothing: no memory is reserved for a crash image")
    release = _release(files, variables)
    kernel = _kernel(files, variables, release)
    initrd = _initrd(files, kernel, release)
    cmdline = _cmdline(files, variables, release)
    if re.search(r"\s", f"{kernel}{initrd}"):
        raise Obstacle(f"a shell takes {kernel} or {initrd} for more than one word")
    options = variables.value("KEXEC_ARGS").split()
    return kexec.loads([*options, f"--command-line={cmdline}", f"--initrd={initrd}", kernel])


def _release(files: Reader, variables: Variables) -> str:
    named = variables.value("KDUMP_KERNELVER")
    if named:
        return named
    running = files.text("/proc/sys/kernel/osrelease").strip()
    plain = re.sub(r"[+|-]debug$", "", running)
    there = plain != running and files.is_file(f"/usr/lib/modules/{plain}/modules.dep")
    return plain if there else running


def _kernel(files: Reader, variables: Variables, release: str) -> str:
    image, extension = variables.value("KDUMP_IMG"), variables.value("KDUMP_IMG_EXT")
    machine_id = (files.text_or_none("/etc/machine-id") or "").partition("\n")[0].strip()
    unified = f"EFI/Linux/{machine_id}-{release}.efi"
    names = [f"{image}-{release}{extension}", f"{machine_id}/{release}/{image}"]
    booted = re.match(r"BOOT_IMAGE=(?:\(\S*\))?(\S*)", files.text("/proc/cmdline"))
    if booted and booted[1].endswith(release):
        names.insert(0, booted[1])
    directories = variables.value("KDUMP_BOOTDIR", _BOOT_DIRECTORIES).split()
    if files.exists("/run/ostree-booted"):
        directories = [*(f"/boot/ostree/{n}" for n in files.names("/boot/ostree")), *directories]
    for directory in directories:
        for name in names:
            if files.is_file(f"{directory}/{name}"):
                return re.sub("/+", "/", f"{directory}/{name}")
        if files.exists(_STUB) or files.is_file(f"{directory}/{unified}"):
            raise Obstacle(f"its kernel is a unified kernel image of {release}")
    raise Obstacle(f"it has no kernel: there is none of {release} in {' '.join(directories)}")


def _initrd(files: Reader, kernel: str, release: str) -> str:
    """Beside the kernel; or, where nothing can be written there, in /var/lib."""
    boot = str(Path(kernel).parent)
    elsewhere = f"/var/lib/kdump/initramfs-{release}kdump.img"
    for name in (f"initramfs-{release}.img", "initrd"):
        if files.is_file(f"{boot}/{name}"):
            beside = f"{boot}/{name.removesuffix('.img')}kdump{Path(name).suffix and '.img'}"
            break
    else:
        return elsewhere
    # Whether it could be written is not to be seen from inside a unit; where it lies tells.
    if files.is_file(elsewhere) and files.is_file(beside):
        raise Obstacle(f"it has two initrds, {beside} and {elsewhere}: remove the old one")
    return elsewhere if files.is_file(elsewhere) else beside


def _cmdline(files: Reader, variables: Variables, release: str) -> str:
    if files.machine == "aarch64":
        raise Obstacle("its command line depends on the cloud that an arm64 machine is in")
    if "KDUMP_COMMANDLINE_REMOVE" not in variables.values:
        raise Obstacle(f"{SETTINGS} does not set KDUMP_COMMANDLINE_REMOVE, whose default varies")
    always, additions = _rules(files.text(PROGRAM))
    taken = {*always, *(name for name, _ in _parsed(variables.value("KDUMP_COMMANDLINE_REMOVE")))}
    begin = variables.value("KDUMP_COMMANDLINE") or files.text("/proc/cmdline")
    words = [
        f"{name}={value}" if value else name for name, value in _parsed(begin) if name not in taken
    ]
    words.append(variables.value("KDUMP_COMMANDLINE_APPEND"))
    words += [f"disable_cpu_apicid={number}" for number in _first_cpus_apicid(files)]
    for driver in watchdog_drivers(files, release):
        words.append(f"{driver}.pretimeout=0")
        words += [f"{driver}.kdumptimeout=0"] if driver == "hpwdt" else []
    return re.sub(" +", " ", " ".join([*words, *additions]).strip(" "))


def _rules(library: str) -> tuple[set[str], list[str]]:
    """What the installed library always takes away, and what it adds last. Raises Obstacle."""
    body = _PREPARE_CMDLINE.search(library)
    added = _ADDED.findall(body[1]) if body else []
    last = added[len(_ADDITIONS) :]
    known = added[: len(_ADDITIONS)] == _ADDITIONS and last in ([], [_NO_GPT])
    if body is None or not known:
        raise Obstacle(f"how this version makes the command line is not known here ({PROGRAM})")
    return set(_TAKEN_AWAY.findall(body[1])), [word.strip() for word in last]


def _parsed(text: str) -> Iterator[tuple[str, str]]:
    """Each word of a command line, after `xargs -n 1 echo` and `read`: its name and its value."""
    for word in _words(text):
        name, separator, value = word.strip().partition("=")
        if separator and not value:
            continue
        value = f'"{value}"' if re.search(r"\s", value) else value
        parts = f"{name} {value}".split(None, 1)
        if parts:
            yield parts[0], parts[1].strip() if len(parts) > 1 else ""


def _words(text: str) -> Iterator[str]:
    if _XARGS.sub("", text).strip():
        raise Obstacle("a quote in its command line has no end")
    for piece in _XARGS.findall(text):
        word = _QUOTED.sub(lambda m: next(part for part in m.groups() if part is not None), piece)
        if re.fullmatch(r"-[neE]+|--help|--version", word):
            raise Obstacle(f"{word} in its command line is an option to echo")
        yield word


def _first_cpus_apicid(files: Reader) -> Iterator[str]:
    cpu = ""
    for line in files.text("/proc/cpuinfo").splitlines():
        words = line.split()
        if words[:2] == ["processor", ":"]:
            cpu = words[-1]
        elif cpu == "0" and line.startswith("apicid"):
            yield words[-1]
