# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases (fcntl(2), F_SETLEASE): has anyone this file open for writing?

A read lease is granted only while nobody has (check_conflicting_open() in fs/locks.c), whoever and
in whatever mount namespace that is: the count that it asks is the inode's own, and the one that
kexec_file_load(2) trips over with ETXTBSY, by then without the old crash image.
"""

from __future__ import annotations

import errno
import fcntl
import signal


def open_for_writing(fd: int) -> bool | None:
    """Whether somebody has the file of this read-only descriptor open for writing.

    None where nobody says: a file of another user's (CAP_LEASE), or a file system without leases,
    such as NFS.
    """
    try:
        # Whoever opens the file for writing at this very moment waits until the lease is given
        # back, and we get a signal: one that nobody minds, since SIGIO would end us.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
