# SPDX-License-Identifier: GPL-2.0-or-later
"""Background processes in the guest: started by one command, looked at by later ones."""

from __future__ import annotations

import shlex
import time

from .agent import Agent, Result
from .report import LabTimeout, limit


class GuestProcess:
    """A process that vm.spawn() started, in a session of its own."""

    def __init__(self, agent: Agent, command: str, directory: str) -> None:
        self._agent = agent
        self.command = command
        self._directory = directory
        # Both shells sit signals out, so that the command can answer one and end by itself.
        script = (
            f"trap : HUP INT TERM; echo $$ >{directory}/pid; "
            f"(trap : HUP INT TERM; {command}\n); "
            f"echo $? >{directory}/part && mv {directory}/part {directory}/code"
        )
        agent.run(
            f"mkdir -p {directory} && cd / && {{ "
            f"setsid sh -c {shlex.quote(script)} "
            f"</dev/null >{directory}/stdout 2>{directory}/stderr & "
            f"until [ -s {directory}/pid ]; do sleep 0.05; done; }}"
        ).check()
        #: Process and process group id of the shell that runs the command.
        self.pid = int(agent.run(f"cat {directory}/pid").check().text)

    def running(self) -> bool:
        """True until the exit code is known, or the whole group is gone without one."""
        test = f"test ! -e {self._directory}/code && kill -0 -{self.pid}"
        return self._agent.run(test).code == 0

    def output(self) -> str:
        """Standard output so far."""
        return self._agent.run(f"cat {self._directory}/stdout").check().text

    def signal(self, name: str = "TERM") -> None:
        """Send a signal to the command's processes (the process group)."""
        self._agent.run(f"kill -{name} -{self.pid}").check()

    def wait(self, timeout: float = 300) -> Result:
        """Wait for the end and return the result (its exit code is not checked)."""
        deadline = time.monotonic() + limit(timeout)
        while self.running():
            if time.monotonic() > deadline:
                raise LabTimeout(f"still running after {timeout:g} s: {self.command!r}")
            time.sleep(0.1)
        # No code: the shell was killed along with the command.
        code = int(self._agent.run(f"cat {self._directory}/code || echo 137").check().text)
        stdout = self._agent.run(f"cat {self._directory}/stdout").stdout
        stderr = self._agent.run(f"cat {self._directory}/stderr").stdout
        return Result(self.command, code, stdout, stderr)
