# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kdump-tools: what `kdump-config load` would load.

Source: /usr/sbin/kdump-config and /etc/init.d/kdump-tools of kdump-tools 1.8.1 and 1.10.7, and
kdump-tools(5). The command line is handed to a shell twice there, so its spaces and quotes change
on the way; this follows that.
"""

from __future__ import annotations

import re
from pathlib import Path

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles import kexec, shell
from kexecwatchd.profiles.reader import Idle, Obstacle, Reader
from kexecwatchd.profiles.shell import NotPlain
from kexecwatchd.profiles.shellvars import Variables

TOOL = "kdump-tools"
PROGRAM = "/usr/sbin/kdump-config"
SETTINGS = "/etc/default/kdump-tools"
ORIGINS = dict.fromkeys(("kernel", "initrd", "cmdline"), Path(SETTINGS))

_APPENDED = "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb"
_REMOVED = re.compile(r"(^| )(crashkernel|hugepages|hugepagesz|abm)=[^ ]*")
# Links that `load` lets lead to what the running kernel has.
_KERNEL_LINK = "/var/lib/kdump/vmlinuz"
_INITRD_LINK = "/var/lib/kdump/initrd.img"
# What else kdump-config goes by.
_MEDDLING = ("IFS", "PATH", "DRY_RUN")


def loaded(files: Reader, variables: Variables) -> ImageFiles:
    """What would be loaded. Raises Obstacle, NotPlain."""
    _wanted(files, variables)
    release = files.text("/proc/sys/kernel/osrelease").strip()
    kernel, initrd = _named(files, variables, release)
    command = f"/sbin/kexec -p {variables.value('KDUMP_KEXEC_ARGS')}"
    command += f' --command-line="{_cmdline(files, variables)}"'
    command += f" --initrd={initrd}" if initrd else ""
    asked = kexec.loads(shell.evaluated(f"{command} {kernel}", files.matches)[1:])
    return _without_links(files, asked, release)


def _wanted(files: Reader, variables: Variables) -> None:
    """Is anything loaded at all?"""
    use = variables.value("USE_KDUMP")
    # The init script's test is one of numbers, kdump-config's one of texts.
    if not re.fullmatch(r"[+-]?0*[1-9][0-9]*", use.strip()):
        raise Idle(f"it is switched off: USE_KDUMP is {use or 'not set'} in {SETTINGS}")
    for name in _MEDDLING:
        if name in variables.values:
            raise NotPlain(f"it sets {name}, by which kdump-config goes, too")
    if (files.text_or_none("/sys/kernel/fadump_enabled") or "").strip() == "1":
        raise Idle("it uses fadump on this machine, which loads no image")
    if "crashkernel=" not in files.text("/proc/cmdline").lower():
        raise Idle("it loads nothing: the kernel's command line has no crashkernel=")


def _named(files: Reader, variables: Variables, release: str) -> tuple[str, str]:
    kernel = variables.value("KDUMP_KERNEL")
    if kernel:
        return kernel, variables.value("KDUMP_INITRD")
    config = f"/boot/config-{release}"
    if "CONFIG_RELOCATABLE=y" not in (files.text_or_none(config) or ""):
        raise Obstacle(
            f"it has no kernel: KDUMP_KERNEL is not set in {SETTINGS}, and {config} does not say"
            " CONFIG_RELOCATABLE=y"
        )
    kernels = [f"/boot/vmlinuz-{release}", f"/boot/vmlinux-{release}"]
    kernel = next(filter(files.is_file, kernels), "")
    if not kernel:
        raise Obstacle(f"it has no kernel: /boot has none of {release}")
    initrd = f"/boot/initrd.img-{release}"
    if not files.is_file(initrd):
        # The tool would do without. But most often it is just being made, and until then an image
        # that cannot write a dump is not to take the place of one that can.
        raise Obstacle(
            f"it has no initrd: there is no {initrd}; where the kernel needs none, set KDUMP_KERNEL"
            f" in {SETTINGS}"
        )
    return kernel, initrd


def _cmdline(files: Reader, variables: Variables) -> str:
    cmdline = variables.value("KDUMP_CMDLINE")
    if not cmdline:
        lines = files.text("/proc/cmdline").rstrip("\n").split("\n")
        # The first quote of a line alone gets its backslashes.
        cmdline = "\n".join(_REMOVED.sub("", line).replace('"', '\\\\"', 1) for line in lines)
    return f"{cmdline} {variables.value('KDUMP_CMDLINE_APPEND', _APPENDED)}"


def _without_links(files: Reader, loaded: ImageFiles, release: str) -> ImageFiles:
    """What the two links will lead to once `load` has set them, whatever they lead to now."""
    kernels = [f"/boot/vmlinux-{release}", f"/boot/vmlinuz-{release}"]
    installed = [path for path in kernels if files.exists(path)]
    if str(loaded.initrd) == _INITRD_LINK:
        kept = not installed and _leads_to(files, _INITRD_LINK, f"initrd.img-{release}")
        if not kept:
            loaded = loaded._replace(initrd=Path(f"{_INITRD_LINK}-{release}"))
    if str(loaded.kernel) == _KERNEL_LINK:
        if len(installed) == 1:
            return loaded._replace(kernel=Path(installed[0]))
        if not any(_leads_to(files, _KERNEL_LINK, Path(path).name) for path in kernels):
            raise Obstacle(f"it has no kernel: /boot has none of {release}")
    return loaded


def _leads_to(files: Reader, link: str, name: str) -> bool:
    return Path(files.link(link)).name == name
