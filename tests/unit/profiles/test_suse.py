# SPDX-License-Identifier: GPL-2.0-or-later
"""What SUSE's kdump would load."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles.suse import _KNOWN, _REMOVED, _REMOVED_ON_X86
from tests.unit.profiles.trees import RELEASE, cmdline_of, obstacle_of, set_up

SYSCONFIG, SCRIPT = "etc/sysconfig/kdump", "usr/lib/kdump/load.sh"
SHIPPED = (
    "## Type:\tstring\n"
    'KDUMP_KERNELVER=""\n\n'
    "KDUMP_CPUS=1\n"
    'KDUMP_COMMANDLINE=""\n'
    'KDUMP_COMMANDLINE_APPEND=""\n'
    'KDUMP_AUTO_RESIZE="false"\n'
    'KDUMP_FADUMP="false"\n'
    'KEXEC_OPTIONS=""\n'
)
# As much of the script's text as is read.
LOAD = "".join(
    [
        f"remove_from_commandline \\\n  '{_REMOVED}' \\\n",
        *(f'\tcommandline="{words}"\n' for words in _KNOWN[:5]),
        f"remove_from_commandline '{_REMOVED_ON_X86}'\n",
        *(f'  commandline="{words}"\n' for words in _KNOWN[5:]),
        "remove_from_commandline 'panic')\n",
    ]
)
ADDED = (
    "sysrq=yes reset_devices acpi_no_memhotplug cgroup_disable=memory nokaslr numa=off irqpoll"
    " nr_cpus=1 root=kdump rootflags=bind rd.udev.children-max=8 disable_cpu_apicid=4"
)

Files = dict[str, str | bytes]


def machine(more: str = "", **files: str | bytes) -> Files:
    return {
        SCRIPT: LOAD,
        "usr/lib/kdump/kdump-read-config.sh": "\toption int \t KDUMP_CPUS 0\n",
        SYSCONFIG: SHIPPED + more,
        "proc/cmdline": "BOOT_IMAGE=/boot/x root=UUID=1 quiet mitigations=auto crashkernel=1M\n",
        "proc/cpuinfo": "processor\t: 0\napicid\t\t: 4\ninitial apicid\t: 4\n",
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "proc/sys/kernel/arch": "x86_64\n",
        "sys/kernel/kexec_crash_size": "268435456\n",
        "var/lib/kdump/kernel": "",
        "var/lib/kdump/initrd": "",
        **files,
    }


def test_as_it_is_shipped(tmp_path: Path) -> None:
    found = set_up(tmp_path, machine())
    expected = f" quiet mitigations=auto {ADDED}   panic=1"
    kernel, initrd = Path("/var/lib/kdump/kernel"), Path("/var/lib/kdump/initrd")
    assert found.files == ImageFiles(kernel, initrd, expected)
    assert found.origins == {
        "kernel": kernel, "initrd": initrd, "cmdline": Path("/", SYSCONFIG)
    }  # fmt: skip
    assert {kernel, initrd, Path("/", SYSCONFIG), Path("/", SCRIPT)} <= set(found.reads)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (machine(**{"sys/kernel/kexec_crash_size": "0\n"}), "no memory is reserved"),
        (machine("KDUMP_FADUMP=yes"), "fadump"),
    ],
)
def test_it_means_to_load_nothing(files: Files, why: str, tmp_path: Path) -> None:
    found = set_up(tmp_path, files)
    assert (found.files, found.idle) == (None, True)
    assert why in found.obstacle


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (machine(**{SCRIPT: LOAD.replace("numa=off", "numa=on")}), "how this version makes"),
        (machine(**{SCRIPT: LOAD.replace("splash", "splish")}), "how this version makes"),
        (machine(**{SCRIPT: f"{LOAD}remove_from_commandline 'x'"}), "how this version makes"),
        (machine(**{"proc/xen/capabilities": "control_d\n"}), "Xen"),
        (machine("KDUMP_COMMANDLINE_APPEND='$a'"), "only a shell can work out"),
        (machine("KDUMP_COMMANDLINE_APPEND=$a"), "is set to something"),
        (machine("KDUMP_COMMANDLINE='a\" b \"c'"), "gives kexec 3 kernels"),
        (
            machine("KDUMP_CPUS=", **{"usr/lib/kdump/kdump-read-config.sh": "# none\n"}),
            "whose default varies",
        ),
    ],
)
def test_what_cannot_be_told(files: Files, why: str, tmp_path: Path) -> None:
    assert why in obstacle_of(tmp_path, files)


def test_the_initrd_was_not_made_yet(tmp_path: Path) -> None:
    files = machine()
    del files["var/lib/kdump/initrd"]
    assert "it has no /var/lib/kdump/initrd" in obstacle_of(tmp_path, files)


@pytest.mark.parametrize(
    ("more", "cmdline"),
    [
        ("KDUMP_COMMANDLINE='root=/x  a' KDUMP_COMMANDLINE_APPEND='b'", "root=/x  a  b panic=1"),
        ("KDUMP_COMMANDLINE='a panic=5'", "a panic=5  "),
        ("KDUMP_COMMANDLINE=a KDUMP_COMMANDLINE_APPEND='panic'", "a  panic"),
        ("KDUMP_COMMANDLINE='a=\"b c\"'", None),
        ("KDUMP_COMMANDLINE='a=\"b\"'", "a=b   panic=1"),
        ("KDUMP_COMMANDLINE='panic_on_oops=1'", "panic_on_oops=1   panic=1"),
    ],
)
def test_a_command_line_of_ones_own(more: str, cmdline: str | None, tmp_path: Path) -> None:
    found = set_up(tmp_path, machine(more)).files
    assert (found.cmdline if found else None) == cmdline


@pytest.mark.parametrize(
    ("cpus", "told"), [("2", "irqpoll nr_cpus=2 root"), ("0", "irqpoll  root"), ("", "irqpoll  r"),
                       ("all", "irqpoll  root"), ("00", "irqpoll  root"),
                       ("9" * 5000, "irqpoll nr_cpus=999")]
)  # fmt: skip
def test_cpus(cpus: str, told: str, tmp_path: Path) -> None:
    """What is no number counts as the default of the installed version."""
    assert told in cmdline_of(tmp_path, machine(f"KDUMP_CPUS={cpus}"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a root=1 rootflags=x mem=4G memmap=1\n", "a rootflags=x memmap=1"),
        ("  a\tresume  b \n", "  a  b "),
        ('a root="x y" "hugepages"=4 b', "a b"),
        ("notsc a console=hvc0 console=hvc01 unknown_nmi_panic", " a console=hvc01"),
    ],
)
def test_from_the_running_command_line(text: str, kept: str, tmp_path: Path) -> None:
    told = cmdline_of(tmp_path, machine(**{"proc/cmdline": text}))
    assert told == f"{kept} {ADDED}   panic=1"
