# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself, without kexecwatchd: what the scenarios take for granted."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vm.lab import CommandFailed, HotplugRefused, Lab, Machine, MachineDied
from tests.vm.lab.cache import Cache
from tests.vm.lab.cpio import Archive
from tests.vm.lab.hotplug import Dimm, count_list, size_in_bytes

SIZE = 256 << 20


@pytest.fixture(scope="module", params=Lab.KERNELS)
def vm(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One guest per kernel; the last test panics it."""
    with lab.machine(request.param) as guest:
        yield guest


def system_ram(vm: Machine) -> list[tuple[int, int]]:
    """The guest's System RAM, ends exclusive."""
    lines = vm.run("grep '^[0-9a-f].*: System RAM' /proc/iomem").text.splitlines()
    ranges = (line.split()[0].split("-") for line in lines)
    return [(int(first, 16), int(last, 16) + 1) for first, last in ranges]


def wait_until(done: Callable[[], bool]) -> None:
    """A short hang guard around what follows an event at once."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def online(vm: Machine, dimm: Dimm) -> None:
    """What 6.1 leaves to user space."""
    block = int(vm.run("cat /sys/devices/system/memory/block_size_bytes").text, 16)
    for number in range(dimm.start // block, dimm.end // block):
        state = f"/sys/devices/system/memory/memory{number}/state"
        vm.run(f"[ $(cat {state}) = online ] || echo online >{state}")


def bare_load(vm: Machine, image: str) -> None:
    answer = json.loads(vm.run(f"python3 /lab/bareload.py {image}").text)
    assert answer["errno"] == 0


class TestParts:
    """What needs no machine."""

    def test_sizes(self) -> None:
        assert size_in_bytes("512M") == 512 << 20
        assert size_in_bytes("2g") == 2 << 30
        assert size_in_bytes(4096) == 4096

    def test_kernel_lists(self) -> None:
        assert [count_list(t) for t in ("0", "0-2", "0-1,3", "")] == [1, 3, 3, 0]

    def test_cpio_is_aligned_and_closed(self) -> None:
        archive = Archive()
        archive.file("/a/b", b"x" * 5)
        data = archive.finish()
        assert len(data) % 4 == 0
        assert data.count(b"070701") == len(["a", "a/b", "TRAILER!!!"])
        assert b"TRAILER!!!\0" in data

    def test_cache_builds_once_and_forgets_a_failure(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path)

        def fail(directory: Path) -> None:
            (directory / "half").touch()
            raise RuntimeError

        with pytest.raises(RuntimeError):
            cache.artefact("thing", ["input"], fail)
        built = cache.artefact("thing", ["input"], lambda d: (d / "whole").touch())
        assert [p.name for p in built.iterdir()] == ["whole"]
        assert cache.artefact("thing", ["input"], fail) == built
        assert cache.artefact("thing", ["other"], lambda _: None) != built


@pytest.mark.vm
class TestGuest:
    """In this order: the guest is shared, and the last test is its end."""

    def test_runs_the_kernel_that_was_asked_for(self, vm: Machine, lab: Lab) -> None:
        release = vm.run("uname -r").text
        assert release in [lab.release(kernel) for kernel in lab.KERNELS]
        assert vm.run("readlink /lab/vmlinuz").text == f"/boot/vmlinuz-{release}"
        assert vm.run("systemctl is-system-running").text == "running"
        assert vm.stage == "system"

    def test_tells_exit_codes_and_both_streams(self, vm: Machine) -> None:
        result = vm.run("echo out; echo err >&2; exit 3", check=False)
        assert (result.code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
        with pytest.raises(CommandFailed, match="exit code 3"):
            result.check()
        assert vm.run("printf 'Größe \\\\ %s' \"$HOME\" | od -c | wc -l").code == 0

    def test_carries_files_both_ways(self, vm: Machine) -> None:
        data = bytes(range(256)) * 500
        vm.put("/run/new directory/file", data)
        assert vm.get("/run/new directory/file") == data

    def test_background_processes(self, vm: Machine) -> None:
        process = vm.spawn(
            "trap 'echo ended; exit 4' TERM; echo started; while :; do sleep 0.1; done"
        )
        wait_until(lambda: "started" in process.output())
        assert process.running()
        process.signal("TERM")
        result = process.wait()
        assert (result.code, result.text.split()) == (4, ["started", "ended"])

    def test_the_clock_goes_on(self, vm: Machine) -> None:
        before = float(vm.run("cut -d' ' -f1 /proc/uptime").text)
        vm.run("sleep 1")
        assert 0.9 < float(vm.run("cut -d' ' -f1 /proc/uptime").text) - before < 60

    def test_dimm_comes_and_goes(self, vm: Machine) -> None:
        dimm = vm.plug_dimm("d0", SIZE)
        assert dimm.size == SIZE
        assert (dimm.start, dimm.end) in system_ram(vm)
        online(vm, dimm)
        vm.unplug_dimm("d0")
        wait_until(lambda: (dimm.start, dimm.end) not in system_ram(vm))

    def test_virtio_mem_grows_and_shrinks(self, vm: Machine) -> None:
        device = vm.plug_virtio_mem("v0", "1G")
        vm.resize_virtio_mem("v0", SIZE)
        grown = f"{device.start:x}-{device.start + SIZE - 1:x} : System RAM (virtio_mem)"
        wait_until(lambda: grown in vm.run("cat /proc/iomem").text)
        vm.resize_virtio_mem("v0", 0)
        wait_until(lambda: "virtio_mem" not in vm.run("cat /proc/iomem").text)

    def test_cpu(self, vm: Machine) -> None:
        possible = count_list(vm.run("cat /sys/devices/system/cpu/possible").text)
        if possible == 2:
            with pytest.raises(HotplugRefused):
                vm.plug_cpu()
        else:
            vm.plug_cpu()
            assert vm.run("nproc").text == "3"

    def test_bare_loads(self, vm: Machine) -> None:
        bare_load(vm, "reboot")
        bare_load(vm, "crash")
        assert vm.run("cat /sys/kernel/kexec_loaded /sys/kernel/kexec_crash_loaded").text == "1\n1"
        header = json.loads(vm.run("python3 /lab/elfcorehdr.py").text)
        assert len(header["notes"]) >= 2

    def test_panic_reaches_the_capture_kernel(self, vm: Machine) -> None:
        ram = system_ram(vm)
        found = vm.spawn(f"python3 /lab/pattern.py {ram[-1][0]:#x} {ram[-1][1]:#x}")
        wait_until(lambda: "}" in found.output())
        planted = json.loads(found.output())
        capture = vm.panic()
        assert vm.stage == "capture"
        assert capture.vmcoreinfo()["OSRELEASE"] == capture.run("uname -r").text
        assert sum(kind == "NT_PRSTATUS" for _, kind, _ in capture.notes()) >= 2
        assert any(load.start <= planted["address"] < load.end for load in capture.elf())
        pattern = bytes.fromhex(planted["pattern"])
        assert capture.read_phys(planted["address"], len(pattern)) == pattern
        assert capture.read_phys(1 << 52, 1) is None


@pytest.mark.vm
@pytest.mark.parametrize("kernel", Lab.KERNELS)
def test_kexec_boots_the_loaded_image(machine: Callable[..., Machine], kernel: str) -> None:
    vm = machine(kernel)
    release = vm.run("uname -r").text
    bare_load(vm, "reboot")
    assert vm.kexec() == "second"
    assert vm.run("uname -r").text == release
    assert f"LAB: second kernel second release={release}" in vm.console.text()


@pytest.mark.vm
def test_two_machines_from_one_snapshot(machine: Callable[..., Machine]) -> None:
    one, other = machine("6.12"), machine("6.12")
    one.plug_dimm("d0", SIZE)
    one.put("/root/mine", b"x")
    assert other.run("test -e /root/mine", check=False).code == 1
    assert len(system_ram(one)) == len(system_ram(other)) + 1


@pytest.mark.vm
def test_virtio_mem_that_no_driver_serves_is_refused(machine: Callable[..., Machine]) -> None:
    vm = machine("6.12")
    vm.put("/etc/modprobe.d/none.conf", b"install virtio_mem /bin/false\n")
    vm.plug_virtio_mem("v0", "1G")
    with pytest.raises(HotplugRefused, match="at 0 bytes"):
        vm.resize_virtio_mem("v0", SIZE, timeout=1)


@pytest.mark.vm
def test_payload_is_installed_before_the_snapshot(
    machine: Callable[..., Machine], tmp_path: Path
) -> None:
    (tmp_path / "greeting").write_text("hello")
    with tarfile.open(tmp_path / "payload.tar", "w") as tar:
        # The same bytes each time, so that the snapshot is made once.
        tar.add(tmp_path / "greeting", "opt/greeting", filter=_timeless)
    vm = machine("6.12", payload=tmp_path / "payload.tar", install=["cp /opt/greeting /root"])
    assert vm.get("/root/greeting") == b"hello"


@pytest.mark.vm
def test_boots_afresh_with_another_command_line(machine: Callable[..., Machine]) -> None:
    vm = machine("6.12", cmdline="crashkernel=128M lab.word", snapshot=False)
    assert "lab.word" in vm.run("cat /proc/cmdline").text.split()
    assert int(vm.run("cat /sys/kernel/kexec_crash_size").text) == 128 << 20


@pytest.mark.vm
def test_a_panic_without_crash_image_is_noticed(machine: Callable[..., Machine]) -> None:
    vm = machine("6.12")
    vm.run("echo -1 >/proc/sys/kernel/panic")  # to reset at once
    with pytest.raises(MachineDied):
        vm.panic()
    assert vm.wait_exit() == "guest-reset"
    assert not vm.alive()


def _timeless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    return member
