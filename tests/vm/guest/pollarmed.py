#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Polls kexec_crash_loaded as fast as it can until SIGTERM, then prints what it saw.

{"transitions": [[monotonic seconds, 0 or 1], …], "unarmed_seconds": …, "polls": …}; the first
transition is the state at the start. Lock-free to read, so polling disturbs nobody.
"""

import json
import os
import signal
import time

PATHS = ("/sys/kernel/kexec/crash_loaded", "/sys/kernel/kexec_crash_loaded")

fd = os.open(next(path for path in PATHS if os.path.exists(path)), os.O_RDONLY)
stop: list[int] = []
signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
transitions: list[tuple[float, int]] = []
unarmed, polls = 0.0, 0
state: int | None = None
while not stop:
    now, seen = time.monotonic(), int(os.pread(fd, 1, 0))
    polls += 1
    if seen != state:
        if state == 0:
            unarmed += now - transitions[-1][0]
        transitions.append((now, seen))
        state = seen
if state == 0:
    unarmed += time.monotonic() - transitions[-1][0]
print(json.dumps({"transitions": transitions, "unarmed_seconds": unarmed, "polls": polls}))
