# SPDX-License-Identifier: GPL-2.0-or-later
"""What kdump-utils would load."""

from __future__ import annotations

import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles import watchdogs
from kexecwatchd.profiles.fedora import _words
from kexecwatchd.profiles.reader import Obstacle
from tests.unit.profiles.trees import cmdline_of, obstacle_of, set_up

RELEASE = "6.17.1-300.fc43.x86_64"
SYSCONFIG, LIBRARY = "etc/sysconfig/kdump", "usr/lib/kdump/kdump-lib.sh"
# Of x86-64, without the comments.
SHIPPED = (
    'KDUMP_KERNELVER=""\n'
    'KDUMP_COMMANDLINE=""\n'
    'KDUMP_COMMANDLINE_REMOVE="hugepages hugepagesz slub_debug quiet log_buf_len swiotlb cma"\n'
    'KDUMP_COMMANDLINE_APPEND="irqpoll nr_cpus=1 reset_devices acpi_no_memhotplug"\n'
    'FADUMP_COMMANDLINE_APPEND=""\n'
    'KEXEC_ARGS="-s"\n'
    '#KDUMP_BOOTDIR="/boot"\n'
    'KDUMP_IMG="vmlinuz"\n'
    'KDUMP_IMG_EXT=""\n'
)
APPENDED = "irqpoll nr_cpus=1 reset_devices acpi_no_memhotplug"
# As much of the library's text as is read.
OUT = (
    "\tremove[crashkernel]=1\n\tremove[panic_on_warn]=1\n\tremove[root]=1\n"
    "\tremove[rd.lvm.lv]=1\n"
    '\t\t\tout+="$opt=$val "\n\t\t\tout+="$opt "\n\tout+="$append "\n'
    '\t\tout+="disable_cpu_apicid=$id "\n'
    '\t\tout+="$drv.pretimeout=0 "\n\t\t\tout+="$drv.kdumptimeout=0 "\n'
)
GPT = '\tout+="rd.systemd.gpt_auto=no "\n'
CPUS = "processor\t: 0\napicid\t\t: 4\ninitial apicid\t: 4\n\nprocessor\t: 1\napicid\t\t: 6\n"
KERNEL, INITRD = f"/boot/vmlinuz-{RELEASE}", f"/boot/initramfs-{RELEASE}kdump.img"
RUNNING = (
    f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{RELEASE} root=/dev/mapper/fedora-root ro rd.lvm.lv=fedora/root"
    " rhgb quiet crashkernel=256M\n"
)

Files = dict[str, str | bytes]


def library(more: str = GPT) -> str:
    return f"other()\n{{\n\tout+=x\n}}\n\nprepare_cmdline()\n{{\n{OUT}{more}}}\n"


def machine(more: str = "", **files: str | bytes) -> Files:
    return {
        LIBRARY: library(),
        SYSCONFIG: SHIPPED + more,
        "proc/cmdline": RUNNING,
        "proc/cpuinfo": CPUS,
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "proc/sys/kernel/arch": "x86_64\n",
        "sys/kernel/kexec_crash_size": "268435456\n",
        "etc/machine-id": "0123\n",
        KERNEL[1:]: "",
        f"boot/initramfs-{RELEASE}.img": "",
        **files,
    }


def running(cmdline: str) -> Files:
    return machine(**{"proc/cmdline": cmdline})


def test_as_it_is_shipped(tmp_path: Path) -> None:
    found = set_up(tmp_path, machine())
    expected = (
        f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{RELEASE} ro rhgb {APPENDED} disable_cpu_apicid=4"
        " rd.systemd.gpt_auto=no"
    )
    assert found.files == ImageFiles(Path(KERNEL), Path(INITRD), expected)
    assert (found.tool, set(found.origins.values())) == ("kdump-utils", {Path("/", SYSCONFIG)})
    assert {Path("/", LIBRARY), Path("/", SYSCONFIG)} <= set(found.reads)


def test_before_gpt_auto_was_told(tmp_path: Path) -> None:
    told = cmdline_of(tmp_path, machine(**{LIBRARY: library("")}))
    assert told.endswith(f"{APPENDED} disable_cpu_apicid=4")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (machine(**{"sys/kernel/kexec_crash_size": "0\n"}), "no memory is reserved"),
        (machine(**{"sys/kernel/fadump/enabled": "1\n"}), "fadump"),
    ],
)
def test_it_means_to_load_nothing(files: Files, why: str, tmp_path: Path) -> None:
    found = set_up(tmp_path, files)
    assert (found.files, found.idle) == (None, True)
    assert why in found.obstacle


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (
            machine(**{LIBRARY: "prepare_cmdline()\n{\n}\n"}),
            "how this version makes the command line",
        ),
        (machine(**{LIBRARY: "other()\n{\n}\n"}), "how this version makes the command line"),
        (machine(**{LIBRARY: library('\tout+="new "\n')}), "how this version"),
        (machine("KDUMP_COMMANDLINE_APPEND+=' more'"), "is more than an assignment"),
        (machine("KDUMP_COMMANDLINE_APPEND=$MORE"), "is set to something"),
        (machine(KDUMP="", **{SYSCONFIG: "KDUMP_IMG=vmlinuz\n"}), "whose default varies"),
        (machine("KEXEC_ARGS=--reuse-cmdline"), "gives kexec --reuse-cmdline"),
        (machine("KDUMP_KERNELVER=5.1"), "there is none of 5.1 in /boot /boot/efi /efi /"),
        (machine("KDUMP_KERNELVER=5", **{"boot/EFI/Linux/0123-5.efi": ""}), "a unified kernel"),
        (machine(**{f"var/lib/kdump/initramfs-{RELEASE}kdump.img": "", INITRD[1:]: ""}), "two"),
        (machine(**{"proc/sys/kernel/arch": "aarch64\n"}), "arm64"),
        (running("a='b\n"), "a quote in its command line has no end"),
        (running("a -n b\n"), "-n in its command line is an option to echo"),
        (
            machine(**{"sys/class/watchdog/watchdog0/device/modalias": "platform:x\n"}),
            "the driver of the watchdog platform:x, which is unclear",
        ),
        (
            machine(
                **{
                    "sys/class/watchdog/watchdog0/device/modalias": "platform:x\n",
                    f"usr/lib/modules/{RELEASE}/modules.alias": "alias\nalias platform:x\n",
                }
            ),
            "the driver of the watchdog platform:x, which is unclear",
        ),
    ],
)
def test_what_cannot_be_told(files: Files, why: str, tmp_path: Path) -> None:
    assert why in obstacle_of(tmp_path, files)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=1 b", "a=1 b"),
        ('a="b c"  d', 'a="b c" d'),
        ("'a=b  c' d\te", 'a="b c" d e'),
        ("a= =b c", "b c"),
        ("\"a b\" 'c'd e\\ f", "a=b cd e=f"),
        ('"a b=c d"', 'a=b "c d"'),
        ("hugepages=1 quiet swiotlb crashkernel=1 xquiet", "xquiet"),
        ("", ""),
    ],
)
def test_words_of_the_running_command_line(text: str, words: str, tmp_path: Path) -> None:
    told = cmdline_of(tmp_path, running(f"{text}\n"))
    assert told == f"{words} {APPENDED} disable_cpu_apicid=4 rd.systemd.gpt_auto=no".lstrip()


@pytest.mark.parametrize(
    ("more", "begins"),
    [
        ("KDUMP_COMMANDLINE='root=/x a  b'", f"a b {APPENDED} "),
        ("KDUMP_COMMANDLINE_REMOVE='ro rhgb=x BOOT_IMAGE'", f"quiet {APPENDED} "),
        ("KDUMP_COMMANDLINE_REMOVE=", f"BOOT_IMAGE=(hd0,gpt2)/vmlinuz-{RELEASE} ro rhgb quiet "),
        ("KDUMP_COMMANDLINE=a KDUMP_COMMANDLINE_APPEND=' root=b   c '", "a root=b c disable"),
    ],
)
def test_settings_of_the_command_line(more: str, begins: str, tmp_path: Path) -> None:
    assert cmdline_of(tmp_path, machine(more)).startswith(begins)


def test_watchdogs_are_told_to_be_quiet(tmp_path: Path) -> None:
    files = machine(
        **{
            "sys/class/watchdog/watchdog0/device/modalias": "platform:iTCO_wdt\n",
            "sys/class/watchdog/watchdog1/device/modalias": "pci:v0000103Cd0000B203sv0\n",
            "sys/class/watchdog/watchdog2/device/modalias": "platform:iTCO-wdt\n",
            f"usr/lib/modules/{RELEASE}/modules.alias": "# Aliases\n"
            "alias platform:iTCO_wdt iTCO_wdt\nalias pci:v0000103Cd0000B203sv* hpwdt\n",
        }
    )
    assert cmdline_of(tmp_path, files).endswith(
        " iTCO_wdt.pretimeout=0 hpwdt.pretimeout=0 hpwdt.kdumptimeout=0 rd.systemd.gpt_auto=no"
    )


def test_of_many_patterns_few_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine has tens of thousands, and this is done in the daemon's loop."""
    asked = []

    def fnmatch(name: str, pattern: str) -> bool:
        asked.append(pattern)
        return fnmatchcase(name, pattern)

    monkeypatch.setattr(watchdogs, "fnmatchcase", fnmatch)
    others = "".join(f"alias pci:v{n:08X}d*sv* driver{n}\n" for n in range(1000))
    files = machine(
        **{
            "sys/class/watchdog/watchdog0/device/modalias": "platform:iTCO_wdt\n",
            f"usr/lib/modules/{RELEASE}/modules.alias": f"{others}alias platform:iTCO-* iTCO_wdt\n",
        }
    )
    assert " iTCO_wdt.pretimeout=0 " in cmdline_of(tmp_path, files)
    assert asked == ["platform:iTCO_*"]


@pytest.mark.parametrize(
    ("files", "kernel", "initrd"),
    [
        (machine("KDUMP_KERNELVER=5.1", **{"boot/vmlinuz-5.1": "", "boot/initramfs-5.1.img": ""}),
         "/boot/vmlinuz-5.1", "/boot/initramfs-5.1kdump.img"),
        (machine("KDUMP_KERNELVER=5", **{"efi/0123/5/vmlinuz": "", "efi/0123/5/initrd": ""}),
         "/efi/0123/5/vmlinuz", "/efi/0123/5/initrdkdump"),
        (machine("KDUMP_KERNELVER=5", **{"boot/efi/0123/5/vmlinuz": ""}),
         "/boot/efi/0123/5/vmlinuz", "/var/lib/kdump/initramfs-5kdump.img"),
        (machine(**{f"var/lib/kdump/initramfs-{RELEASE}kdump.img": ""}),
         KERNEL, f"/var/lib/kdump/initramfs-{RELEASE}kdump.img"),
        (machine("KDUMP_BOOTDIR=/kdump/", **{f"kdump/vmlinuz-{RELEASE}": ""}),
         f"/kdump/vmlinuz-{RELEASE}", f"/var/lib/kdump/initramfs-{RELEASE}kdump.img"),
        (machine(**{"run/ostree-booted": "", f"boot/ostree/f-1/vmlinuz-{RELEASE}": ""}),
         f"/boot/ostree/f-1/vmlinuz-{RELEASE}", f"/var/lib/kdump/initramfs-{RELEASE}kdump.img"),
        (machine("KDUMP_IMG=linux", **{"proc/cmdline": f"BOOT_IMAGE=/x/k-{RELEASE} a\n",
                                       f"boot/x/k-{RELEASE}": ""}),
         f"/boot/x/k-{RELEASE}", f"/var/lib/kdump/initramfs-{RELEASE}kdump.img"),
    ],
)  # fmt: skip
def test_where_the_files_are(files: Files, kernel: str, initrd: str, tmp_path: Path) -> None:
    found = set_up(tmp_path, files).files
    assert found is not None
    assert found[:2] == (Path(kernel), Path(initrd))


@pytest.mark.parametrize("there", [True, False])
def test_a_debug_kernel_uses_the_plain_one(there: bool, tmp_path: Path) -> None:
    files = machine(**{"proc/sys/kernel/osrelease": f"{RELEASE}+debug\n"})
    files[f"boot/vmlinuz-{RELEASE}+debug"] = ""
    if there:
        files[f"usr/lib/modules/{RELEASE}/modules.dep"] = ""
    found = set_up(tmp_path, files).files
    assert found is not None
    assert found.kernel == Path(KERNEL if there else f"{KERNEL}+debug")


@given(st.text(alphabet="ab =\\'\"\t-", max_size=12))
def test_xargs_makes_the_same_words(text: str) -> None:
    try:
        ours = list(_words(text))
    except Obstacle:
        return
    ran = subprocess.run(
        ["xargs", "-n", "1", "printf", "<%s>"], input=f"{text}\n", capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ran.stdout == ("".join(f"<{word}>" for word in ours) or "<>")
