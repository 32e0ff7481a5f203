# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of the agent: commands in the guest over the second serial port.

The protocol is described in guest/agent.sh. A serial port needs no driver and no network, so it
works alike in the booted system, in a capture kernel and in a kernel that kexec started.
"""

from __future__ import annotations

import base64
import itertools
import select
import socket
import string
import threading
import time
from dataclasses import dataclass

from .report import CommandFailed, LabError, LabTimeout, MachineDied, limit

#: Bytes of input per request. The guest's tty layer holds a whole request line (it drops what
#: comes above 640 KiB), because requests go one at a time.
CHUNK = 96 * 1024


@dataclass(frozen=True)
class Result:
    """What a command in the guest left."""

    command: str
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the white space around it."""
        return self.stdout.decode(errors="replace").strip()

    def check(self) -> Result:
        """Return self; raise CommandFailed unless the exit code is 0."""
        if self.code != 0:
            error = self.stderr.decode(errors="replace").strip()
            raise CommandFailed(f"{self.command!r}: exit code {self.code}\n{self.text}\n{error}")
        return self


class Agent:
    """One guest's agent. Requests from several threads queue up."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        #: What the agent called itself at its last start: "system", "capture", "second:NAME"; ""
        #: while none can be relied on.
        self.stage = ""

    def run(self, command: str, stdin: bytes = b"", timeout: float = 300) -> Result:
        """Run a shell command in the guest and return what it left.

        Raises LabTimeout (the agent cannot be used after that) and MachineDied.
        """
        with self._lock:
            deadline = time.monotonic() + limit(timeout)
            return self._answer(self._send(command, stdin), command, deadline)

    def post(self, command: str) -> None:
        """Send a command that will never be answered (it takes the guest down).

        Until another agent starts, no stage is known.
        """
        with self._lock:
            self._send(command, b"")
            self.stage = ""

    def wait_ready(self, stage: str, timeout: float = 300) -> str:
        """Wait for an agent to start whose stage begins with `stage`; return the whole stage."""
        with self._lock:
            deadline = time.monotonic() + limit(timeout)
            while True:
                words = self._line(deadline, f"an agent in stage {stage!r}").split()
                if len(words) == 2 and words[0] == b"LAB-READY":
                    self.stage = words[1].decode()
                    if self.stage.startswith(stage):
                        return self.stage

    def resume(self, stage: str) -> None:
        """Take up with an agent that said it was ready before the guest was saved."""
        self.stage = stage

    def _send(self, command: str, stdin: bytes) -> bytes:
        number = b"%d" % next(self._ids)
        request = b"LAB-RUN %s %d %s" % (number, len(stdin), _escape(command))
        try:
            # The leading newline ends whatever garbage may stand on the line.
            self._socket.sendall(b"\n%s\n%s" % (request, stdin))
        except OSError as error:
            raise MachineDied(f"the guest is gone, cannot run {command!r}: {error}") from error
        return number

    def _answer(self, number: bytes, command: str, deadline: float) -> Result:
        what = f"the end of {command!r}"
        while (line := self._line(deadline, what)) != b"LAB-BEGIN " + number:
            if line.startswith(b"LAB-READY "):
                self.stage = line.split()[1].decode()
                raise LabError(f"the guest came up anew ({self.stage}) instead of {what}")
        stdout = base64.b64decode(self._line(deadline, what))
        stderr = base64.b64decode(self._line(deadline, what))
        code = int(self._line(deadline, what).split()[-1])
        return Result(command, code, stdout, stderr)

    def _line(self, deadline: float, what: str) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise LabTimeout(f"the guest did not come to {what} in time")
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise MachineDied(f"the guest is gone, while the lab waited for {what}")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.strip()


def _escape(command: str) -> bytes:
    """A command for `printf %b`: three octal digits for all but the plainest characters."""
    plain = b"-./:=_+,%@^~" + string.ascii_letters.encode() + string.digits.encode()
    return b"".join(bytes([c]) if c in plain else b"\\0%03o" % c for c in command.encode())
