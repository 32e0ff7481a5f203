#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""pipes.py COUNT: keep a known pattern in COUNT pages of the kernel's own: buffers of pipes.

They belong to no process and to no file, so makedumpfile, which leaves out pages of either kind,
keeps them. Prints {"pattern": hex} and then sleeps, holding the pipes open.
"""

import json
import os
import resource
import signal
import sys

PAGE = os.sysconf("SC_PAGE_SIZE")
PER_PIPE = 16  # pipe(7): the capacity of a pipe is 16 pages

count = int(sys.argv[1])
# Random, so that nothing else can be taken for it.
pattern = os.urandom(PAGE)
files = 2 * (count // PER_PIPE + 1) + 16
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
for number in range(count):
    if number % PER_PIPE == 0:
        _, end = os.pipe()
    os.write(end, pattern)
print(json.dumps({"pattern": pattern.hex()}), flush=True)
while True:
    signal.pause()
