# SPDX-License-Identifier: GPL-2.0-or-later
"""Record locks (fcntl(2), F_GETLK): does another process hold one for writing?

Package managers hold one on a file of theirs for as long as they work.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

_FLOCK = struct.Struct("@hhlli0l")  # struct flock: type, whence, start, length (0 = all), pid


def locked(path: Path) -> bool:
    """Whether another process holds a lock for writing on any part of the file.

    False where there is no such file, or it cannot be asked.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] == fcntl.F_WRLCK)
