# SPDX-License-Identifier: GPL-2.0-or-later
"""kexec_file_load(2): loads images from files, and unloads them, whoever loaded them.

Each call blocks for up to seconds (it reads and hashes the files), so it belongs into a thread; the
interpreter runs on meanwhile. **A crash image is freed before the new files are read**: after any
error the machine has none. Check first (bootimage.py, initrd.py), call then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from kexecwatchd.model import ImageName

# include/uapi/linux/kexec.h
KEXEC_FILE_UNLOAD = 0x1
KEXEC_FILE_ON_CRASH = 0x2
KEXEC_FILE_NO_INITRAMFS = 0x4
KEXEC_FILE_DEBUG = 0x8  # 6.8 and later; EINVAL before
KEXEC_FILE_NO_CMA = 0x10  # 6.17 and later; EINVAL before

# __NR_kexec_file_load of each architecture's system call table.
SYSCALL_NUMBERS = {
    "x86_64": 320,
    "aarch64": 294,
    "riscv64": 294,
    "loongarch64": 294,
    "ppc64le": 382,
    "s390x": 381,
}

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,  # number
    ctypes.c_int,  # kernel_fd
    ctypes.c_int,  # initrd_fd
    ctypes.c_ulong,  # cmdline_len
    ctypes.c_char_p,  # cmdline
    ctypes.c_ulong,  # flags
]

_SIGNATURE = "; check the kernel's signature against the machine's keyrings"
_EITHER = {
    errno.EPERM: "not permitted: CAP_SYS_BOOT is missing, kernel.kexec_load_disabled is 1, "
    "kernel.kexec_load_limit_panic or kernel.kexec_load_limit_reboot is used up, or lockdown "
    "refuses an image without a valid signature; look at these four",
    errno.EBUSY: "another kexec operation holds the kernel's lock; try again shortly",
    errno.EBADF: "a file descriptor is not open; this is a fault of the caller",
    errno.EINVAL: "the kernel refused the arguments: a flag that it does not know, a file that is "
    "empty or not regular, a command line that is too long, or an image over half of RAM; check "
    "these",
    errno.ETXTBSY: "the kernel or initrd file is open for writing; wait until it is written",
    errno.EFBIG: "the kernel or initrd file is over 4 GiB; build a smaller one",
    errno.ENOEXEC: "the kernel file is no image that this kernel can start; use the format of this "
    "architecture, undamaged, with 5-level paging support where the machine uses it",
    errno.EKEYREJECTED: "the signature was rejected" + _SIGNATURE,
    errno.ENOKEY: "no key for the signature" + _SIGNATURE,
    errno.ENOPKG: "no cryptography for the signature" + _SIGNATURE,
    errno.ENODATA: "the kernel file has no signature" + _SIGNATURE,
    errno.ELIBBAD: "the signature is malformed" + _SIGNATURE,
    errno.EBADMSG: "the signature is malformed" + _SIGNATURE,
    errno.ENOMEM: "the kernel is out of memory; free some and try again",
    errno.EFAULT: "the command line is not readable memory; this is a fault of the caller",
    errno.ENOSYS: "the running kernel has no kexec_file_load (CONFIG_KEXEC_FILE); load through "
    "kexec-tools (kexec -c) or run another kernel",
}
_NO_HOLE = {
    ImageName.CRASH: "the image does not fit into the crash reservation, or there is none; "
    "set or raise crashkernel= on the kernel command line and reboot, or make the initrd smaller",
    ImageName.REBOOT: "no hole in RAM is large enough for the image; make the initrd smaller",
}


def load(kernel_fd: int, initrd_fd: int | None, cmdline: str, flags: int) -> None:
    """Load an image from open, readable, regular files; their positions do not matter.

    `flags`: of KEXEC_FILE_ON_CRASH, KEXEC_FILE_DEBUG and KEXEC_FILE_NO_CMA. Without an initrd
    KEXEC_FILE_NO_INITRAMFS is added. Each call, also one that fails, uses up one of
    kernel.kexec_load_limit_*. Raises OSError (see `explain`), or ValueError for a command line with
    a NUL.
    """
    if "\0" in cmdline:
        raise ValueError(f"the command line has a NUL at character {cmdline.index(chr(0))}")
    data = cmdline.encode("utf-8", "surrogateescape") + b"\0"
    if initrd_fd is None:
        _call(kernel_fd, -1, data, flags | KEXEC_FILE_NO_INITRAMFS)
    else:
        _call(kernel_fd, initrd_fd, data, flags)


def unload(flags: int) -> None:
    """Unload the reboot image, or with KEXEC_FILE_ON_CRASH the crash image; none loaded is fine.

    Raises OSError (see `explain`).
    """
    _call(-1, -1, b"", flags | KEXEC_FILE_UNLOAD)


def try_out(kernel_fd: int) -> None:
    """Have the kernel read this kernel file and verify its signature, and load nothing.

    It is given a command line without its NUL, which is what it looks at after the signature, and
    refuses with EINVAL; what is loaded stays, as with each failed load of a reboot image
    (kexec_file_load() and kimage_file_prepare_segments() in kernel/kexec_file.c). Raises OSError
    where it refuses the file itself. Uses up one of kernel.kexec_load_limit_reboot.
    """
    try:
        _call(kernel_fd, -1, b"-", KEXEC_FILE_NO_INITRAMFS)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def explain(number: int, image: ImageName) -> str:
    """What this errno of a load or unload means, and what to do next."""
    if number == errno.EADDRNOTAVAIL:
        return _NO_HOLE[image]
    return _EITHER.get(number, f"{os.strerror(number)}; see the kernel log")


def _call(kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
    machine = platform.machine()
    number = SYSCALL_NUMBERS.get(machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"kexec_file_load: its number on {machine} is not known")
    if _syscall(number, kernel_fd, initrd_fd, len(cmdline), cmdline, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"kexec_file_load with flags {flags:#x}: {os.strerror(code)}")
