# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario 18, Linux 6.12 with 5-level paging: a kernel that cannot be entered from there.

The lab's CPU has la57. A boot image whose header does not say XLF_5LEVEL stands for the old kernel:
the header is all that the running kernel looks at.
"""

from __future__ import annotations

import errno
import json

import pytest

from tests.vm.scenarios.conftest import Guest
from tests.vm.scenarios.measure import bare_load
from tests.vm.watched import CRASH_CMDLINE, Watched

pytestmark = pytest.mark.vm

OLD = "/etc/kexecwatchd/vmlinuz-old"

# xloadflags (0x236) without XLF_5LEVEL and XLF_5LEVEL_ENABLED: Documentation/arch/x86/boot.rst.
MAKE_OLD = f"""
import pathlib
image = bytearray(pathlib.Path("/lab/vmlinuz").read_bytes())
assert image[0x236] & 0x60 == 0x60, hex(image[0x236])
image[0x236] &= ~0x60
pathlib.Path("{OLD}").write_bytes(image)
"""


def make_old_kernel(watched: Watched) -> None:
    watched.vm.put("/tmp/make-old", MAKE_OLD.encode())
    watched.vm.run(f"mkdir -p {OLD.rpartition('/')[0]} && python3 /tmp/make-old")


def loaded(watched: Watched) -> str:
    return watched.vm.run("cat /sys/kernel/kexec_crash_loaded").text


def test_refused_with_the_reason_while_the_old_image_stays(guest: Guest) -> None:
    with guest("6.12") as watched:
        vm = watched.vm
        make_old_kernel(watched)
        # Someone else's, which the kernel does not update: it drifts when memory is added.
        kexec = f"kexec -c -p /lab/vmlinuz --initrd=/lab/initrd --command-line='{CRASH_CMDLINE}'"
        vm.run(kexec)
        before = watched.header()
        watched.configure(crash="ensure")
        vm.run(f"sed -i 's,/lab/vmlinuz,{OLD},' /etc/kexecwatchd/kexecwatchd.toml")
        watched.start()
        watched.wait_state("crash", "current")
        dimm = vm.plug_dimm("d0", "128M")
        stale = watched.wait_image("crash", lambda i: i["state"] == "stale" and i["last_error"])
        assert "5-level paging" in stale["last_error"]
        assert OLD in stale["last_error"]
        assert stale["drift"]["missing_bytes"] == dimm.size
        assert stale["load_count"] == 0
        assert loaded(watched) == "1"
        assert watched.header() == before

        answer = vm.run("kexecwatchctl check paging-levels", check=False)
        assert answer.code == 3
        assert f"{OLD} (crash image) cannot be entered with 5-level paging" in " ".join(
            answer.text.split()
        )
        vm.run(f"sed -i 's,{OLD},/lab/vmlinuz,' /etc/kexecwatchd/kexecwatchd.toml")
        answer = vm.run("kexecwatchctl check --json paging-levels")
        assert json.loads(answer.text)["results"][0]["answer"] == "ok"
        # That it was the kernel and nothing else.
        vm.run("systemctl reload kexecwatchd")
        watched.wait_state("crash", "current")
        assert watched.image("crash")["load_count"] == 1


def test_control_the_kernel_refuses_it_and_the_old_image_is_lost(bare: Guest) -> None:
    with bare("6.12") as watched:
        vm = watched.vm
        assert "la57" in vm.run("grep -m1 ^flags /proc/cpuinfo").text.split()
        make_old_kernel(watched)
        bare_load(vm, "crash")
        assert loaded(watched) == "1"
        answer = json.loads(vm.run(f"python3 /lab/bareload.py crash --kernel {OLD}").text)
        assert answer["errno"] == errno.ENOEXEC
        assert loaded(watched) == "0", "the one that was there is lost"
        # And by kexec_load(2) nobody looks.
        vm.run(f"kexec -c -p {OLD} --initrd=/lab/initrd --command-line='{CRASH_CMDLINE}'")
        assert loaded(watched) == "1"
