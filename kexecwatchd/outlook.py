# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the configured reboot image would land if it were loaded now: the I/O around forecast.py.

The kernel's rules hold for a whole boot and are read once. What cannot be told is said, never
guessed: the load itself then shows.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from kexecwatchd import forecast
from kexecwatchd.forecast import NoHole, Request, Undecided
from kexecwatchd.kernel import bootimage, placement_rules
from kexecwatchd.kernel.placement_rules import Rules, RulesUnknown
from kexecwatchd.model import ImageFiles, MemoryMap, Observation, PlacedBy, Placement


class Outlook:
    """Predicts placements; keeps the running kernel's rules from the first time on."""

    def __init__(self, root: Path, machine: str) -> None:
        self._root = root
        self._machine = machine
        self._rules: Rules | RulesUnknown | None = None

    def add(self, seen: Observation, memory: MemoryMap, files: ImageFiles) -> Observation:
        """The observation with the forecast for these files, or with why there is none."""
        try:
            rules = self._known_rules()
            segments = forecast.forecast(rules, self._request(files), memory.resources)
        except (RulesUnknown, NoHole, Undecided, bootimage.BadImage) as error:
            return replace(seen, forecast_problem=str(error))
        except OSError as error:
            return replace(seen, forecast_problem=f"{error.filename}: {error.strerror}")
        return replace(seen, forecast=Placement(segments, PlacedBy.PREDICTION))

    def _known_rules(self) -> Rules:
        if self._rules is None:
            try:
                self._rules = placement_rules.read_rules(self._root, self._machine)
            except RulesUnknown as error:
                self._rules = error
        if isinstance(self._rules, RulesUnknown):
            raise self._rules
        return self._rules

    def _request(self, files: ImageFiles) -> Request:
        # O_NONBLOCK: a fifo in the place of a kernel must not hang us.
        fd = os.open(files.kernel, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            boot = bootimage.inspect(fd, self._machine)
        finally:
            os.close(fd)
        initrd_size = None if files.initrd is None else os.stat(files.initrd).st_size
        if initrd_size == 0:
            raise bootimage.BadImage("the initrd is empty")
        return Request(
            kernel_memory=boot.memory_size,
            kernel_alignment=boot.alignment,
            kernel_preferred=boot.preferred_address,
            initrd_size=initrd_size,
            cmdline_bytes=len(os.fsencode(files.cmdline)) + 1,
        )
