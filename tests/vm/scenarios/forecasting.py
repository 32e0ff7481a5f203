#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest: forecasts with kexecwatchd's modules where a reboot image goes, then loads it.

Prints {"forecast": [[name, address, size], …]}; where there can be no forecast it prints
{"reason": …} and loads nothing.
"""

import argparse
import json
import os
import platform
from pathlib import Path

from kexecwatchd.forecast import Request, forecast
from kexecwatchd.kernel import bootimage, iomem, kexec_file
from kexecwatchd.kernel.placement_rules import RulesUnknown, read_rules

ROOT = Path("/")


def main() -> None:
    """One forecast, one load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--initrd", type=Path)
    parser.add_argument("--cmdline", default="")
    parser.add_argument("--debug", action="store_true", help="have the kernel log the placement")
    parser.add_argument("--no-cma", action="store_true", help="have the kernel leave CMA alone")
    options = parser.parse_args()

    try:
        rules = read_rules(ROOT, platform.machine())
    except RulesUnknown as unknown:
        print(json.dumps({"reason": str(unknown)}))
        return
    kernel = os.open("/lab/vmlinuz", os.O_RDONLY)
    initrd = os.open(options.initrd, os.O_RDONLY) if options.initrd else None
    image = bootimage.inspect(kernel, platform.machine())
    request = Request(
        kernel_memory=image.memory_size,
        kernel_alignment=image.alignment,
        kernel_preferred=image.preferred_address,
        initrd_size=None if initrd is None else os.fstat(initrd).st_size,
        cmdline_bytes=len(options.cmdline.encode()) + 1,
    )
    segments = forecast(rules, request, iomem.read_memory_map(ROOT).resources)
    flags = kexec_file.KEXEC_FILE_DEBUG if options.debug else 0
    flags |= kexec_file.KEXEC_FILE_NO_CMA if options.no_cma else 0
    kexec_file.load(kernel, initrd, options.cmdline, flags)
    print(json.dumps({"forecast": [(s.name, s.mem, s.memsz) for s in segments]}))


if __name__ == "__main__":
    main()
