# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 22: with no configuration of its own, kexecwatchd loads what kdump-tools would load.

kdump-config runs as it is; a wrapper in the place of kexec writes down what it is given, and runs
the real one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.vm.lab import Machine
from tests.vm.scenarios.kdumptools import Debian, plug
from tests.vm.watched import Watched, lists, touches

DEFAULTS = "/etc/default/kdump-tools"
ADDED = "acpi_no_memhotplug"
WRAPPER = b"""#!/bin/sh
case " $* " in
    *" -u "*) ;;
    *) printf '%s\\0' "$@" >/run/kexec.arguments ;;
esac
exec /usr/sbin/kexec.real "$@"
"""
READ_BACK = """
from pathlib import Path
from kexecwatchd import ownlook
print(ownlook.look(Path("/")).seen.crash_cmdline)
"""
NR_CPUS = "reset_devices nr_cpus=1 irqpoll"
# What is appended to the package's own file.
SETTINGS = {
    "as it is shipped": "",
    "words appended": f'KDUMP_CMDLINE_APPEND="{NR_CPUS} quiet  loglevel=7"',
    "a command line": f"KDUMP_CMDLINE='  root=/dev/vda crashkernel=1M\t{NR_CPUS} '",
    "quotes": f"KDUMP_CMDLINE_APPEND='{NR_CPUS} a=\"b\"c \\\\ d'\\''e '",
    "others' files": "KDUMP_KERNEL=/lab/vmlinuz\nexport KDUMP_INITRD='/lab/initrd'  # mine",
    "an initrd alone": "KDUMP_INITRD=\"/lab/init\"rd; KDUMP_KEXEC_ARGS='-c --debug'",
    "no initrd": "KDUMP_INITRD=",
}


@dataclass(frozen=True)
class Files:
    kernel: str
    initrd: str
    cmdline: str


def record(vm: Machine) -> None:
    """Have it written down what kexec is given from now on."""
    vm.run("mv /usr/sbin/kexec /usr/sbin/kexec.real")
    vm.put("/usr/sbin/kexec", WRAPPER)
    vm.run("chmod 755 /usr/sbin/kexec")


def load(vm: Machine) -> list[str]:
    """Have kdump-config load its image anew; what it gave kexec."""
    vm.run("rm -f /run/kexec.arguments; kdump-config unload; kdump-config load", check=False)
    return vm.run("tr '\\0' '\\n' </run/kexec.arguments").text.splitlines()


def theirs(vm: Machine, arguments: list[str]) -> Files:
    """What these arguments load; links followed."""
    options = dict(word.partition("=")[::2] for word in arguments if word.startswith("--"))
    [kernel] = [word for word in arguments if not word.startswith("-")]
    return Files(real(vm, kernel), real(vm, options.get("--initrd")), options["--command-line"])


def ours(vm: Machine) -> tuple[Files | None, dict[str, Any]]:
    """What kexecwatchd would load, links followed, and what it says of the tool."""
    report = json.loads(vm.run("kexecwatchctl config --json").text)
    crash = {s["key"]: s for s in report["settings"] if s["table"] == "crash"}
    if crash["kernel"]["value"] is None:
        return None, report["profile"]
    assert {crash[key]["file"] for key in ("kernel", "initrd", "cmdline")} == {DEFAULTS}
    kernel, initrd = (real(vm, crash[key]["value"]) for key in ("kernel", "initrd"))
    return Files(kernel, initrd, crash["cmdline"]["value"]), report["profile"]


def real(vm: Machine, path: str | None) -> str:
    return vm.run(f"readlink -e {path}").text.strip() if path else ""


def read_back(vm: Machine) -> list[str]:
    """The words of the loaded crash image's command line, but for the kernel's own."""
    text = vm.run("python3 -", stdin=READ_BACK.encode()).text
    return [word for word in text.split() if not word.startswith("elfcorehdr=")]


@pytest.mark.vm
def test_it_is_what_kdump_config_gives_to_kexec(debian: Debian) -> None:
    with debian("6.1") as vm:
        record(vm)
        shipped = vm.run(f"cat {DEFAULTS}").text
        for name, more in SETTINGS.items():
            vm.put(DEFAULTS, f"{shipped}\n{more}\n".encode())
            mine, profile = ours(vm)
            his = theirs(vm, load(vm))
            assert mine == Files(his.kernel, his.initrd, f"{his.cmdline} {ADDED}"), name
            assert profile == {"tool": "kdump-tools", "obstacle": "", "added": ADDED}
            assert mine == ours(vm)[0], "a load changes nothing, though it sets the links"
            assert vm.run("cat /sys/kernel/kexec_crash_loaded").text.strip() == "1", name

        # Where it fails itself, and where it is switched off.
        vm.put(DEFAULTS, f"{shipped}\nKDUMP_CMDLINE_APPEND='{NR_CPUS} a\" b \"c'\n".encode())
        mine, profile = ours(vm)
        assert mine is None
        assert "gives kexec 3 kernels" in profile["obstacle"]
        assert len([word for word in load(vm) if not word.startswith("-")]) == 3
        assert vm.run("cat /sys/kernel/kexec_crash_loaded").text.strip() == "0"
        vm.run(f"sed -i s/USE_KDUMP=1/USE_KDUMP=0/ {DEFAULTS}; rm -f /run/kexec.arguments")
        assert "USE_KDUMP is 0" in ours(vm)[1]["obstacle"]
        vm.run("kdump-config load", check=False)
        assert not vm.run("ls /run/kexec.arguments", check=False).text


@pytest.mark.vm
def test_the_daemon_replaces_its_image_with_the_same_and_one_word_more(debian: Debian) -> None:
    with debian("6.1") as vm:
        record(vm)
        his = theirs(vm, load(vm))
        assert read_back(vm) == his.cmdline.split()
        watched = Watched(vm)
        vm.run("systemctl unmask kexecwatchd")
        watched.start()
        first = watched.wait_state("crash", "current")
        assert (first["foreign"], first["load_count"], first["mode"]) == (True, 0, "follow")
        dimm = plug(vm, "dimm0", "256M")
        now = watched.wait_reloaded("crash", first)
        assert not now["foreign"]
        assert lists(watched.header()["loads"], *dimm)
        assert read_back(vm) == [*his.cmdline.split(), ADDED]


@pytest.mark.vm
def test_control_without_the_daemon_it_stays_as_it_was(debian: Debian) -> None:
    with debian("6.1") as vm:
        before = read_back(vm)
        dimm = plug(vm, "dimm0", "256M")
        assert not touches(Watched(vm).header()["loads"], *dimm)
        assert read_back(vm) == before
        assert ADDED not in before
