# SPDX-License-Identifier: GPL-2.0-or-later
"""One running QEMU with a guest in it: commands, hotplug, crash and kexec."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from . import host, hotplug
from .agent import CHUNK, Agent, Result
from .capture import Capture
from .console import Console
from .hotplug import Dimm, VirtioMem
from .process import GuestProcess
from .qmp import Event, Qmp
from .report import LabError, LabTimeout, MachineDied, limit, progress
from .spec import Spec, devices

_running: weakref.WeakSet[Machine] = weakref.WeakSet()


class Machine:
    """A QEMU process. `close()` (or leaving the `with` block) ends it and removes its files.

    `disk` is a private qcow2 overlay, `payload` an archive that the guest sees as /dev/vdb.
    With `incoming` the guest does not boot but waits for a saved state.
    """

    def __init__(
        self, spec: Spec, disk: Path, payload: Path, directory: Path, incoming: bool = False
    ) -> None:
        self.spec = spec
        self.disk = disk
        self.directory = directory
        self._process_ids = itertools.count(1)
        self._closed = False
        agent, agent_end = socket.socketpair()
        qmp, qmp_end = socket.socketpair()
        argv = [
            "qemu-system-x86_64", *spec.arguments(),
            *devices(disk, payload, directory, agent_end.fileno(), qmp_end.fileno()),
            *(("-incoming", "defer") if incoming else ()),
        ]  # fmt: skip
        with (directory / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[agent_end.fileno(), qmp_end.fileno()],
            )
        _running.add(self)
        agent_end.close()
        qmp_end.close()
        self.console = Console(directory / "console.log", self.alive)
        self.agent = Agent(agent)
        self._agent_socket = agent
        try:
            self.qmp = Qmp(qmp)
        except BaseException as error:
            self._end()
            error.add_note((directory / "qemu.log").read_text())
            raise

    # -- commands -----------------------------------------------------------------------------

    def run(
        self, command: str, *, check: bool = True, stdin: bytes = b"", timeout: float = 300
    ) -> Result:
        """Run a shell command as root; raise CommandFailed on a non-zero code if `check`."""
        result = self.agent.run(command, stdin, timeout)
        return result.check() if check else result

    def spawn(self, command: str) -> GuestProcess:
        """Start a shell command in the background."""
        return GuestProcess(self.agent, command, f"/run/lab/spawn-{next(self._process_ids)}")

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest, making the directories above it."""
        target, parent = shlex.quote(path), shlex.quote(str(PurePosixPath(path).parent))
        self.run(f"mkdir -p {parent} && : >{target} && chmod {mode:o} {target}")
        for start in range(0, len(data), CHUNK):
            self.run(f"cat >>{target}", stdin=data[start : start + CHUNK])

    def get(self, path: str) -> bytes:
        """Read a file in the guest."""
        return self.run(f"cat {shlex.quote(path)}").stdout

    @property
    def stage(self) -> str:
        """Which kernel answers: "system", "capture" or "second:NAME"."""
        return self.agent.stage

    # -- hotplug ------------------------------------------------------------------------------

    @property
    def events(self) -> Sequence[Event]:
        """Every QMP event so far, oldest first."""
        return self.qmp.events

    def plug_dimm(
        self, name: str, size: int | str, *, wait: bool = True, timeout: float = 600,
        **options: object,
    ) -> Dimm:  # fmt: skip
        """Hot-add a DIMM ("512M"); `options` go to device_add (addr=, node=, slot=).

        Returns when the guest says that it took it (after automatic onlining), or at once without
        `wait`. Raises HotplugRefused.
        """
        return hotplug.plug_dimm(self.qmp, name, size, wait, timeout, **options)

    def unplug_dimm(self, name: str, *, timeout: float = 600) -> None:
        """Hot-remove a DIMM and wait until it is gone; raise HotplugRefused if the guest declines.

        Kernels that do not online by themselves decline nothing; others offline each block first.
        """
        hotplug.unplug_dimm(self.qmp, name, timeout)

    def plug_virtio_mem(self, name: str, maximum: int | str) -> VirtioMem:
        """Hot-add a virtio-mem device ("1G" at most) that gives no memory yet.

        The guest's udev loads the driver.
        """
        return hotplug.plug_virtio_mem(self.qmp, name, maximum)

    def resize_virtio_mem(self, name: str, size: int | str, *, timeout: float = 300) -> None:
        """Grow or shrink a virtio-mem device and wait until the guest has done so.

        The guest adds and onlines the last block a moment after that. Raises HotplugRefused when it
        does not come to that size: it has no driver, or cannot free what it is to give back.
        """
        hotplug.resize_virtio_mem(self.qmp, name, size, timeout)

    def plug_cpu(self, *, online: bool = True, timeout: float = 300) -> str:
        """Hot-add the next CPU; return its device id ("cpu2").

        Debian's guests do not online it by themselves, so this does, unless told not to. Under
        TCG only the 6.1 kernel takes it: newer ones use CPUs that firmware calls disabled only
        where they know the hypervisor. (They also list every possible CPU in elfcorehdr from the
        start.) Raises HotplugRefused.
        """
        # Asked first: the guest answers "success" to a CPU that it cannot use, and the NMI that a
        # panic sends to all CPUs then runs wild on that one and resets the machine.
        counts = self.run("cd /sys/devices/system/cpu; cat present possible").text.split()
        present, possible = (hotplug.count_list(text) for text in counts)
        if present == possible:
            raise hotplug.HotplugRefused(f"this kernel can use no more than its {present} CPUs")
        name = hotplug.plug_cpu(self.qmp, timeout)
        if online:
            self.run(
                "for f in /sys/devices/system/cpu/cpu[0-9]*/online; do "
                "[ $(cat $f) = 1 ] || echo 1 >$f; done"
            )
        return name

    def unplug_cpu(self, name: str, *, timeout: float = 300) -> None:
        """Hot-remove a CPU that plug_cpu() added. It is the last CPU event of a machine: QEMU's
        TCG does not survive another one."""
        hotplug.unplug_cpu(self.qmp, name, timeout)

    # -- the end of the running kernel --------------------------------------------------------

    def panic(self, *, timeout: float = 300) -> Capture:
        """Crash the guest and return its capture kernel's view of the dump.

        Raises MachineDied when no crash image was loaded (or a broken one: a triple fault).
        """
        self.crash()
        return self.wait_capture(timeout=timeout)

    def crash(self) -> None:
        """Crash the guest. What follows is up to the crash image: wait_capture(), wait_exit()."""
        self.agent.post("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")

    def wait_capture(self, *, timeout: float = 300) -> Capture:
        """Wait for the capture kernel after a crash that something else caused."""
        self.agent.wait_ready("capture", timeout)
        return Capture(self.agent)

    def kexec(self, *, timeout: float = 300) -> str:
        """Jump into the loaded reboot image (`kexec -e`) and return the marker it came up with.

        That is the NAME of kexecwatchd.marker=NAME on the new kernel's command line. A broken
        image raises MachineDied (a triple fault), or LabTimeout under the newest kernels, which
        have a handler for faults on the way and stop there.
        """
        self.agent.post("kexec -e")
        return self.agent.wait_ready("second:", timeout).partition(":")[2]

    def wait_exit(self, *, timeout: float = 300) -> str:
        """Wait until QEMU ends; return why: "guest-reset" (also a triple fault), "guest-shutdown"…

        Raises LabTimeout when the guest lives on.
        """
        try:
            self._qemu.wait(limit(timeout))
        except subprocess.TimeoutExpired:
            raise LabTimeout(f"the guest still runs after {timeout:g} s") from None
        try:
            event = self.qmp.wait_event(lambda e: e.name == "SHUTDOWN", timeout=5)
        except LabError as error:
            log = (self.directory / "qemu.log").read_text()
            raise MachineDied(f"QEMU failed, with code {self._qemu.returncode}: {log}") from error
        return str(event.data.get("reason", "unknown"))

    def alive(self) -> bool:
        """True while the QEMU process runs."""
        return self._qemu.poll() is None

    # -- ending -------------------------------------------------------------------------------

    def close(self) -> None:
        """End QEMU and remove this machine's files (KEXECWATCHD_LAB_KEEP keeps them)."""
        if self._closed:
            return
        self._end()
        self.qmp.close()
        if os.environ.get("KEXECWATCHD_LAB_KEEP"):
            progress(f"kept {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            tail = "\n".join(self.console.text().splitlines()[-40:])
            error.add_note(f"The end of the guest's console:\n{tail}")
        self.close()

    @contextlib.contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """End the machine when the block raises; leave it running when it does not."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def _end(self) -> None:
        self._closed = True
        self._qemu.kill()
        self._qemu.wait()
        self._agent_socket.close()


def private_directory() -> Path:
    """A new directory for one machine's overlay, console log and QEMU messages."""
    return Path(tempfile.mkdtemp(prefix="kexecwatchd-lab-"))


def overlay(disk: Path, backing: str, kind: str) -> None:
    """Make `disk`, a copy-on-write image over `backing` (relative to it) of format `kind`."""
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", kind, disk])


@atexit.register
def _end_all() -> None:
    for machine in list(_running):
        machine.close()
