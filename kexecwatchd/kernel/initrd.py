# SPDX-License-Identifier: GPL-2.0-or-later
"""Initial RAM file systems: is the file whole?

kexec_file_load(2) takes any bytes for an initrd, and a truncated one only shows when the crash
kernel cannot boot. So the file is walked as the kernel's unpack_to_rootfs() (init/initramfs.c)
would: cpio archives and compressed archives, one after another, zeros between. Where the standard
library can decompress (gzip, bzip2, xz, lzma) the whole stream is checked; of zstd, lzo and lz4
only the frames are, and lz4's legacy format has no end mark, so a cut between two of its 8 MiB
blocks is not seen. What a compressed archive contains is not looked at: that is initrd_contents.py.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Generator, Mapping
from typing import Literal, Protocol

_WINDOW = 1 << 20
# Bytes that unpacking may take, by the size of its dictionary that an archive names; xz -9 takes 65
# MiB. Whatever takes more is no initrd for a small machine, and not worth the daemon's memory.
_MEMORY = 512 << 20
_DIGITS = re.compile(rb"[0-9A-Fa-f]{8}")


class BadInitrd(ValueError):
    """No kernel can unpack this, or not all of it; the text says why."""


def check(fd: int) -> None:
    """Walk the file open at `fd` from end to end.

    Decompresses up to the whole file, so it can take seconds: call it in a thread. Reads 1 MiB at a
    time and leaves the file position alone. Raises BadInitrd, or OSError.
    """
    walk(fd, end_of)


def walk(fd: int, visit: Callable[[str, Window, int], int]) -> None:
    """Call `visit` for each archive of the file, with its format, the file and the archive's
    offset; it returns the offset behind the archive.

    `visit` may raise Truncated, which becomes BadInitrd. Raises BadInitrd, or OSError.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise BadInitrd("not a regular file")
    file = Window(fd, status.st_size)
    at = _skip_zeros(file, 0)
    if at >= file.size:
        raise BadInitrd("the file holds nothing but zeros" if file.size else "the file is empty")
    while at < file.size:
        word = _format(file, at)
        try:
            end = visit(word, file, at)
        except Truncated:
            raise BadInitrd(
                f"truncated: the {word} archive at offset {at} goes on beyond {file.size} bytes"
            ) from None
        at = _skip_zeros(file, end)


def end_of(word: str, file: Window, at: int) -> int:
    """The offset behind the archive at `at`, which has that format. Raises as walk() does, or
    Truncated."""
    return _FORMATS[word](file, at)


class Truncated(Exception):
    """The file ends where something should be."""


#: Yields what an archive unpacks to, up to 1 MiB at a time; returns the offset behind it.
Unpacked = Generator[bytes, None, int]


class Window:
    """A file's bytes at any offset, read 1 MiB at a time."""

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        self._fd = fd
        self._start = 0
        self._data = b""

    def at(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes (up to 64 KiB). Raises Truncated."""
        begin = offset - self._start
        if not 0 <= begin <= len(self._data) - size:
            self._start, self._data = offset, os.pread(self._fd, _WINDOW, offset)
            begin = 0
        data = self._data[begin : begin + size]
        if len(data) < size:
            raise Truncated
        return data

    def number(self, offset: int, size: int, order: Literal["little", "big"] = "little") -> int:
        return int.from_bytes(self.at(offset, size), order)

    def rest(self, offset: int) -> bytes:
        """Up to 1 MiB; nothing at the end."""
        return os.pread(self._fd, _WINDOW, offset)


class _Decompressor(Protocol):
    """What bz2 and lzma have in common; zlib differs."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


def _skip_zeros(file: Window, at: int) -> int:
    while block := file.rest(at):
        left = len(block.lstrip(b"\0"))
        at += len(block) - left
        if left:
            break
    return at


def _format(file: Window, at: int) -> str:
    """The format of what begins at `at`."""
    start = file.rest(at)[:9]
    # The kernel takes a cpio archive only at a multiple of four; elsewhere "0" is no format.
    for magic, word in _MAGICS:
        if start.startswith(magic) and (word != "cpio" or at % 4 == 0):
            return word
    if any(magic.startswith(start) for magic, _ in _MAGICS):
        raise BadInitrd(f"truncated: {len(start)} bytes at offset {at} are no whole archive")
    if start.startswith(b"\x04\x22\x4d\x18"):
        raise BadInitrd("an lz4 frame; the kernel takes only the legacy format (lz4 -l)")
    if at and start.startswith(b"0"):
        raise BadInitrd(f"a cpio archive at offset {at}, which is no multiple of four")
    raise BadInitrd(f"no known format at offset {at}: it begins with {start[:8].hex()}")


def _cpio(file: Window, at: int) -> int:
    """newc (070701, 070702): Documentation/driver-api/early-userspace/buffer-format.rst."""
    while True:
        header = file.at(at, 110)
        if header[:6] not in (b"070701", b"070702"):
            raise BadInitrd(f"damaged: no cpio header at offset {at}")
        try:
            size, name_size = cpio_number(header, 54), cpio_number(header, 94)
        except ValueError:
            raise BadInitrd(f"damaged: the cpio header at offset {at} has no numbers") from None
        if not 0 < name_size <= 4096:
            raise BadInitrd(f"damaged: a name of {name_size} bytes at offset {at}")
        name = file.at(at + 110, name_size)
        at = _align4(at + 110 + name_size) + size
        if at > file.size:
            raise Truncated
        if name == b"TRAILER!!!\0":
            return at
        at = _align4(at)


def cpio_number(header: bytes, at: int) -> int:
    """Eight hexadecimal digits of a cpio header. Raises ValueError: int() alone takes a sign."""
    digits = header[at : at + 8]
    if not _DIGITS.fullmatch(digits):
        raise ValueError(f"{digits!r} is no number")
    return int(digits, 16)


def _align4(number: int) -> int:
    return (number + 3) & ~3


def _gzip(file: Window, at: int) -> Unpacked:
    """To the stream's end mark and check sum, holding 1 MiB of each side."""
    decompressor = zlib.decompressobj(wbits=31)
    while not decompressor.eof:
        block = file.rest(at)
        if not block:
            raise Truncated
        at += len(block)
        try:
            while block and not decompressor.eof:
                yield decompressor.decompress(block, _WINDOW)
                block = decompressor.unconsumed_tail
        except zlib.error as error:
            raise BadInitrd(f"damaged before offset {at}: {error}") from error
    return at - len(decompressor.unused_data)


def _stream(make: Callable[[], _Decompressor]) -> Callable[[Window, int], Unpacked]:
    """As `_gzip`, for the decompressors of bz2 and lzma."""

    def unpack(file: Window, at: int) -> Unpacked:
        decompressor = make()
        while not decompressor.eof:
            block = file.rest(at) if decompressor.needs_input else b""
            if not block and decompressor.needs_input:
                raise Truncated
            at += len(block)
            try:
                yield decompressor.decompress(block, _WINDOW)
            except (OSError, lzma.LZMAError, ValueError) as error:
                raise BadInitrd(f"damaged before offset {at}: {error}") from error
        return at - len(decompressor.unused_data)

    return unpack


#: The formats that the standard library unpacks.
UNPACK: Mapping[str, Callable[[Window, int], Unpacked]] = {
    "gzip": _gzip,
    "bzip2": _stream(bz2.BZ2Decompressor),
    "xz": _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)),
    "lzma": _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)),
}


def _unpacked(unpack: Callable[[Window, int], Unpacked]) -> Callable[[Window, int], int]:
    def end(file: Window, at: int) -> int:
        blocks = unpack(file, at)
        while True:
            try:
                next(blocks)
            except StopIteration as stop:
                return int(stop.value)

    return end


def _zstd(file: Window, at: int) -> int:
    """RFC 8878, 3.1.1: a frame's header, its blocks up to the last one, its check sum."""
    if file.at(at, 4) != b"\x28\xb5\x2f\xfd":  # 3.1.2: a skippable frame
        return _within(file, at + 8 + file.number(at + 4, 4))
    descriptor = file.number(at + 4, 1)
    single_segment = descriptor >> 5 & 1
    content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
    at += 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size
    last = 0
    while not last:
        header = file.number(at, 3)
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == 3 or size > 128 << 10:
            raise BadInitrd(f"damaged: no zstd block at offset {at}")
        at += 3 + (1 if kind == 1 else size)
    return _within(file, at + (4 if descriptor & 4 else 0))


def _lz4(file: Window, at: int) -> int:
    """The legacy format (lib/decompress_unlz4.c): blocks of up to 8 MiB, each after its size."""
    first = at = at + 4
    while at < file.size:
        # Fewer than four bytes can only be padding: a size has four.
        size = int.from_bytes(file.rest(at)[:4], "little")
        if size in (0, 0x184C2102):
            break
        if size > (8 << 20) + (8 << 20) // 255 + 16:
            raise BadInitrd(f"damaged: an lz4 block of {size} bytes at offset {at}")
        at = _within(file, at + 4 + size)
    if at == first:
        raise Truncated
    return at


def _lzo(file: Window, at: int) -> int:
    """lzop's format as lib/decompress_unlzo.c reads it: a header, blocks, a size of zero."""
    version = file.number(at + 9, 2, "big")
    flags_at = at + 17 if version >= 0x940 else at + 14
    flags = file.number(flags_at, 4, "big")
    at = flags_at + 4 + (4 if flags & 0x800 else 0) + (12 if version >= 0x940 else 8)
    at += 1 + file.number(at, 1) + 4
    while plain := file.number(at, 4, "big"):
        packed = file.number(at + 4, 4, "big")
        if not 0 < packed <= plain or plain > 64 << 20:
            raise BadInitrd(f"damaged: no lzo block at offset {at}")
        sums = bool(flags & 0x1) + bool(flags & 0x100)
        if packed < plain:
            sums += bool(flags & 0x2) + bool(flags & 0x200)
        at = _within(file, at + 8 + 4 * sums + packed)
    return at + 4


def _within(file: Window, end: int) -> int:
    if end > file.size:
        raise Truncated
    return end


_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"070701", "cpio"),
    (b"070702", "cpio"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\0\0", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes((n, 0x2A, 0x4D, 0x18)), "zstd") for n in range(0x50, 0x60)),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO\0\r\n\x1a\n", "lzo"),
)
_FORMATS: Mapping[str, Callable[[Window, int], int]] = {
    "cpio": _cpio,
    "zstd": _zstd,
    "lz4": _lz4,
    "lzo": _lzo,
    **{word: _unpacked(unpack) for word, unpack in UNPACK.items()},
}
