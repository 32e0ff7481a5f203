#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""pattern.py START END: keep a known pattern in a page whose physical address is in [START, END).

Prints {"address": …, "pattern": hex} and then sleeps, holding the page. Takes memory step by step
until the kernel hands out a page of that range.
"""

import ctypes
import json
import mmap
import os
import signal
import struct
import sys

PAGE = 4096
STEP = 16 << 20
PRESENT = 1 << 63
FRAME = (1 << 55) - 1

start, end = (int(word, 0) for word in sys.argv[1:3])
# Random, so that neither old memory nor this program's text can be taken for it.
pattern = os.urandom(PAGE)
pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)


def page_inside(low: int) -> tuple[int, int] | None:
    """(offset, physical address) of a page of the block at `low` in the wanted range, or None."""
    data = os.pread(pagemap, STEP // PAGE * 8, low // PAGE * 8)
    for number, (entry,) in enumerate(struct.iter_unpack("=Q", data)):
        if entry & PRESENT and start <= (entry & FRAME) * PAGE < end:
            return number * PAGE, (entry & FRAME) * PAGE
    return None


def find() -> tuple[list[mmap.mmap], int, int]:
    """Take memory until some of it is in the range; (what was taken, virtual, physical)."""
    kept = []
    while True:
        block = mmap.mmap(-1, STEP, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A huge page could be split and moved under us.
        block.madvise(mmap.MADV_NOHUGEPAGE)
        for offset in range(0, STEP, PAGE):
            block[offset] = 1
        kept.append(block)
        low = ctypes.addressof(ctypes.c_char.from_buffer(block))
        found = page_inside(low)
        if found is not None:
            return kept, low + found[0], found[1]


kept, address, physical = find()
ctypes.memmove(address, pattern, PAGE)
if ctypes.CDLL(None, use_errno=True).mlock(ctypes.c_void_p(address), ctypes.c_size_t(PAGE)):
    raise OSError(ctypes.get_errno(), "mlock")
(entry,) = struct.unpack("=Q", os.pread(pagemap, 8, address // PAGE * 8))
assert (entry & FRAME) * PAGE == physical, "the page has moved"
print(json.dumps({"address": physical, "pattern": pattern.hex()}), flush=True)
while True:
    signal.pause()
