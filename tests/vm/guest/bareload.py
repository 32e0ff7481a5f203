#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""One kexec_file_load, or an unload, straight through ctypes: the controls, and the unit of time.

Prints {"seconds": …, "errno": …}. Shares no code with the daemon.
"""

import argparse
import ctypes
import json
import os
import time

SYSCALL = 320  # x86_64
UNLOAD, ON_CRASH, DEBUG = 1, 2, 8
CMDLINES = {
    "crash": "console=ttyS0 reset_devices nr_cpus=1 irqpoll acpi_no_memhotplug",
    "reboot": "console=ttyS0 kexecwatchd.marker=second",
}

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["crash", "reboot", "unload-crash", "unload-reboot"])
parser.add_argument("--kernel", default="/lab/vmlinuz")
parser.add_argument("--initrd", default="/lab/initrd")
parser.add_argument("--cmdline")
parser.add_argument("--debug", action="store_true")
options = parser.parse_args()

syscall = ctypes.CDLL(None, use_errno=True).syscall
image = options.what.removeprefix("unload-")
flags = (ON_CRASH if image == "crash" else 0) | (DEBUG if options.debug else 0)
if options.what.startswith("unload-"):
    arguments: tuple[object, ...] = (
        *(-1, -1, ctypes.c_ulong(0), None),
        ctypes.c_ulong(flags | UNLOAD),
    )
else:
    kernel = os.open(options.kernel, os.O_RDONLY)
    initrd = os.open(options.initrd, os.O_RDONLY)
    cmdline = (options.cmdline or CMDLINES[image]).encode() + b"\0"
    length = ctypes.c_ulong(len(cmdline))
    arguments = (kernel, initrd, length, ctypes.c_char_p(cmdline), ctypes.c_ulong(flags))

started = time.monotonic()
failed = syscall(ctypes.c_long(SYSCALL), *arguments) != 0
seconds = time.monotonic() - started
print(json.dumps({"seconds": seconds, "errno": ctypes.get_errno() if failed else 0}))
