# SPDX-License-Identifier: GPL-2.0-or-later
"""SUSE's kdump: what /usr/lib/kdump/load.sh would load.

Source: init/load.sh, kdump-read-config.sh and sysconfig.kdump.in of the repository openSUSE/kdump.
mkdumprd makes initrd and links to it and its kernel, for KDUMP_KERNELVER or what it finds; load.sh
loads what they lead to. Its words have changed from release to release, so the script that is
installed is held against those known here; where it has others, nothing is said.
"""

from __future__ import annotations

import re
from pathlib import Path

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles import kexec, shell
from kexecwatchd.profiles.reader import Idle, Obstacle, Reader
from kexecwatchd.profiles.shellvars import Variables

TOOL = "SUSE's kdump"
PROGRAM = "/usr/lib/kdump/load.sh"
_READ_CONFIG = "/usr/lib/kdump/kdump-read-config.sh"
SETTINGS = "/etc/sysconfig/kdump"
_KERNEL, _INITRD = "/var/lib/kdump/kernel", "/var/lib/kdump/initrd"
ORIGINS = {"kernel": Path(_KERNEL), "initrd": Path(_INITRD), "cmdline": Path(SETTINGS)}

# All that the script makes of the command line, in this order.
_ASSIGNED = re.compile(
    r'^\s*(?:test -n "\$boot_apicid" &&[\s\\]*)?commandline="(.*)"$', re.MULTILINE
)
_KNOWN = [
    "$commandline sysrq=yes reset_devices acpi_no_memhotplug cgroup_disable=memory nokaslr",
    "$commandline numa=off",
    "$commandline irqpoll ${nr_cpus}",
    "$commandline root=kdump rootflags=bind rd.udev.children-max=8",
    "$commandline disable_cpu_apicid=$boot_apicid",
    "$commandline zfcp.allow_lun_scan=0",
    "$commandline kernelversion=$kernelrelease",
    "$commandline $(set_serial_console)",
    "$commandline $KDUMP_COMMANDLINE_APPEND",
    "$commandline panic=1",
]
_REMOVALS = re.compile(r"remove_from_commandline[\s\\]+'([^']*)'")
_REMOVED = (
    r"root|resume|crashkernel|splash|mem|BOOT_IMAGE|showopts|zfcp\.allow_lun_scan|hugepages"
    r"|acpi_no_memhotplug|cgroup_disable|unknown_nmi_panic|rd\.udev\.children-max"
)
_REMOVED_ON_X86 = "unknown_nmi_panic|notsc|console=hvc0"
_CPUS = re.compile(r"^\s*option\s+int\s+KDUMP_CPUS\s+(\d+)\s*$", re.MULTILINE)
_WORD = re.compile(r'(\s*)((?:"[^"]*"?|[^"\s])*)', re.ASCII)


def loaded(files: Reader, variables: Variables) -> ImageFiles:
    """What would be loaded. Raises Obstacle, NotPlain."""
    if variables.value("KDUMP_FADUMP") in ("yes", "1", "true"):
        raise Idle(f"it uses fadump, which loads no image: KDUMP_FADUMP in {SETTINGS}")
    if (files.text_or_none("/sys/kernel/kexec_crash_size") or "0").strip() == "0":
        raise Idle("it loads nothing: no memory is reserved for a crash image")
    for path in (_KERNEL, _INITRD):
        if not files.is_file(path):
            raise Obstacle(f"it has no {path}: mkdumprd makes it")
    command = f'/sbin/kexec -p {_KERNEL} --append="{_cmdline(files, variables)}"'
    command += f" --initrd={_INITRD} {variables.value('KEXEC_OPTIONS')} -a"
    return kexec.loads(shell.words(command)[1:])


def _cmdline(files: Reader, variables: Variables) -> str:
    script = files.text(PROGRAM)
    first, second, panic, *more = [*_REMOVALS.findall(script), "", "", ""]
    known = (first, second, panic) == (_REMOVED, _REMOVED_ON_X86, "panic") and not any(more)
    if not known or _ASSIGNED.findall(script) != _KNOWN:
        raise Obstacle(f"how this version makes the command line is not known here ({PROGRAM})")
    if files.exists("/proc/xen/capabilities"):
        raise Obstacle("its command line depends on how Xen was started")
    cmdline = variables.value("KDUMP_COMMANDLINE") or _from_running(files, variables)
    cmdline += f"  {variables.value('KDUMP_COMMANDLINE_APPEND')}"
    return cmdline if _without("panic", cmdline) != cmdline else f"{cmdline} panic=1"


def _from_running(files: Reader, variables: Variables) -> str:
    cpus = _cpus(files, variables)
    cmdline = _without(_REMOVED, files.text("/proc/cmdline").rstrip("\n"))
    cmdline += " sysrq=yes reset_devices acpi_no_memhotplug cgroup_disable=memory nokaslr numa=off"
    cmdline += f" irqpoll {f'nr_cpus={cpus}' if cpus else ''}"
    cmdline += " root=kdump rootflags=bind rd.udev.children-max=8"
    if re.fullmatch("i.86|x86_64", files.machine):
        apicid = re.search(
            r"^initial apicid[ \t]*:[ \t](.*)$", files.text("/proc/cpuinfo"), re.MULTILINE
        )
        cmdline += f" disable_cpu_apicid={apicid[1]}" if apicid and apicid[1] else ""
        cmdline = _without(_REMOVED_ON_X86, cmdline)
    elif files.machine.startswith("s390"):
        cmdline += " zfcp.allow_lun_scan=0"
    release = files.text("/proc/sys/kernel/osrelease").strip()
    return f"{cmdline} kernelversion={release}" if release.endswith("-xen") else cmdline


def _cpus(files: Reader, variables: Variables) -> str:
    """How many; "" = all of them."""
    told = variables.value("KDUMP_CPUS")
    if not re.fullmatch("[0-9]+", told):
        default = _CPUS.search(files.text(_READ_CONFIG))
        if default is None:
            raise Obstacle(f"{SETTINGS} does not set KDUMP_CPUS, whose default varies")
        told = default[1]
    return told if told.strip("0") else ""


def _without(options: str, cmdline: str) -> str:
    """The command line without these options (a regular expression), and the space before each."""
    kept = []
    for space, word in _WORD.findall(cmdline):
        if not re.match(rf"(?:{options})(?:=|\Z)", word.replace('"', "")):
            kept.append(space + word)
    return "".join(kept)
