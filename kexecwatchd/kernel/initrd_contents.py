# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in an initrd, and what it takes to unpack it.

The archives are walked as unpack_to_rootfs() does (init/initramfs.c), the early ones with microcode
included: they end up in the same file system. Whatever the size, a few MiB are held at a time.
Format of a cpio archive: Documentation/driver-api/early-userspace/buffer-format.rst.

zstandard and lz4 are imported when such an archive comes, so nothing else needs them.
"""

from __future__ import annotations

import heapq
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from kexecwatchd.kernel import initrd
from kexecwatchd.kernel.initrd import BadInitrd, Truncated, Unpacked, Window

PAGE = 4096
LARGEST = 50
#: Programs that are there or not, by their paths in an initrd.
SYSTEMD = frozenset({"usr/lib/systemd/systemd", "lib/systemd/systemd"})

_BLOCK = 1 << 20
_LZ4_BLOCK = 8 << 20
_ZSTD_WINDOW = 128 << 20  # the kernel takes no larger one: lib/decompress_unzstd.c
_MOST_FILES = 1 << 20
_MOST_GROUPS = 500


class CannotUnpack(Exception):
    """The archive may be good, but nothing here can look into it; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Sizes in bytes. `packed`: of the file; `unpacked`: of all that it holds, `pages`: the same in
    whole pages of 4096, as a RAM file system keeps it. `files`: all that gets an inode.

    `buffers`: what decompressing the most demanding archive takes beside that. `formats`: of each
    archive, in order. `groups`: sizes by the name that the caller gave to paths. `largest`: up to
    50 files. `systemd`: it brings systemd itself.
    """

    packed: int
    unpacked: int
    pages: int
    files: int
    buffers: int
    formats: tuple[str, ...]
    groups: dict[str, int]
    largest: tuple[tuple[str, int], ...]
    systemd: bool


def read(fd: int, group: Callable[[str], str]) -> Contents:
    """What the file open at `fd` contains. `group`: the name under which to count a path, which
    has no slash at its start.

    Decompresses all of it, so it can take seconds. Raises BadInitrd, CannotUnpack or OSError.
    """
    tally = _Tally(group)
    formats: list[str] = []
    packed = buffers = 0

    def visit(word: str, file: Window, at: int) -> int:
        nonlocal packed, buffers
        packed = file.size
        formats.append(word)
        buffers = max(buffers, _buffers(word, file, at))
        reader = _Reader(_unpack(word, file, at))
        _add_files(reader, tally)
        return reader.end

    initrd.walk(fd, visit)
    return Contents(
        packed=packed,
        unpacked=tally.unpacked,
        pages=tally.pages,
        files=tally.files,
        buffers=buffers,
        formats=tuple(formats),
        groups=dict(tally.groups.most_common()),
        largest=tuple((name, size) for size, name in sorted(tally.largest, reverse=True)),
        systemd=tally.systemd,
    )


class _Tally:
    """Sums over the files of all archives."""

    def __init__(self, group: Callable[[str], str]) -> None:
        self.files = self.unpacked = self.pages = 0
        self.groups: Counter[str] = Counter()
        self.largest: list[tuple[int, str]] = []
        self.systemd = False
        self._group = group
        self._linked: dict[bytes, int] = {}

    def add(self, header: bytes, name: str) -> None:
        """One entry: its 110 bytes of header, and its name."""
        self.files += 1
        if self.files > _MOST_FILES:
            raise BadInitrd(f"more than {_MOST_FILES} files")
        try:
            mode, links, size = (initrd.cpio_number(header, at) for at in (14, 38, 54))
        except ValueError:
            raise BadInitrd("damaged: a cpio header has no numbers") from None
        name = name.removeprefix("./").lstrip("/")
        self.systemd = self.systemd or (name in SYSTEMD and stat.S_ISREG(mode))
        if links > 1 and not stat.S_ISDIR(mode):
            # One inode, named by its number and device; cpio gives the data with the last name.
            inode = header[6:14] + header[62:78]
            before = self._linked.get(inode)
            self._linked[inode] = max(size, before or 0)
            if before is not None:
                self.files -= 1
                size = max(0, size - before)
        if size:
            self._count(name, size)

    def _count(self, name: str, size: int) -> None:
        self.unpacked += size
        self.pages += -(-size // PAGE) * PAGE
        group = self._group(name)
        if group not in self.groups and len(self.groups) >= _MOST_GROUPS:
            group = "other"
        self.groups[group] += size
        if len(self.largest) < LARGEST:
            heapq.heappush(self.largest, (size, name))
        else:
            heapq.heappushpop(self.largest, (size, name))


class _Reader:
    """Reads what an archive unpacks to, without holding more of it than a block."""

    def __init__(self, blocks: Unpacked) -> None:
        self._blocks = blocks
        self._block = b""
        self._used = 0
        self._at = 0
        #: The offset behind the archive, once it is read to its end.
        self.end = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises BadInitrd."""
        parts = []
        while size:
            part = self._take(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        while size:
            size -= len(self._take(size))

    def align(self) -> None:
        self.skip(-self._at % 4)

    def skip_zeros(self) -> bool:
        """True when something else follows."""
        while self._more():
            rest = self._block[self._used :].lstrip(b"\0")
            self._at += len(self._block) - self._used - len(rest)
            self._used = len(self._block) - len(rest)
            if rest:
                return True
        return False

    def _take(self, most: int) -> bytes:
        if not self._more():
            raise BadInitrd("damaged: what is unpacked ends within a cpio archive")
        part = self._block[self._used : self._used + most]
        self._used += len(part)
        self._at += len(part)
        return part

    def _more(self) -> bool:
        while self._used == len(self._block):
            try:
                self._block, self._used = next(self._blocks), 0
            except StopIteration as stop:
                self.end = int(stop.value)
                self._block = b""
                return False
        return True


def _add_files(reader: _Reader, tally: _Tally) -> None:
    """All files of the cpio archives, one after another, with zeros between."""
    while reader.skip_zeros():
        while True:
            header = reader.read(110)
            if header[:6] not in (b"070701", b"070702"):
                raise BadInitrd(f"damaged: no cpio header but {header[:6].hex()}")
            try:
                size, name_size = initrd.cpio_number(header, 54), initrd.cpio_number(header, 94)
            except ValueError:
                raise BadInitrd("damaged: a cpio header has no numbers") from None
            if not 0 < name_size <= 4096:
                raise BadInitrd(f"damaged: a name of {name_size} bytes in a cpio archive")
            name = reader.read(name_size).rstrip(b"\0").decode("utf-8", "replace")
            reader.align()
            reader.skip(size)
            if name == "TRAILER!!!":
                break
            tally.add(header, name)
            reader.align()


def _unpack(word: str, file: Window, at: int) -> Unpacked:
    """The archive's cpio archives. Raises CannotUnpack, BadInitrd or Truncated."""
    if word in initrd.UNPACK:
        return (yield from initrd.UNPACK[word](file, at))
    end = initrd.end_of(word, file, at)
    if word == "cpio":
        yield from _pieces(file, at, end)
    elif word == "zstd":
        yield from _zstd(file, at, end)
    elif word == "lz4":
        yield from _lz4(file, at + 4, end)
    else:
        raise CannotUnpack(f"no library here unpacks {word}")
    return end


def _pieces(file: Window, at: int, end: int) -> Iterator[bytes]:
    while at < end:
        block = file.rest(at)[: end - at]
        if not block:
            raise Truncated
        yield block
        at += len(block)


def _zstd(file: Window, at: int, end: int) -> Iterator[bytes]:
    try:
        import zstandard  # noqa: PLC0415
    except ImportError:
        raise CannotUnpack("it is packed with zstd: install python3-zstandard") from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    source = cast(IO[bytes], _File(_pieces(file, at, end)))
    try:
        with decompressor.stream_reader(source, read_size=_BLOCK) as reader:
            while block := reader.read(_BLOCK):
                yield block
    except zstandard.ZstdError as error:
        raise BadInitrd(f"damaged: the zstd archive at offset {at}: {error}") from None


class _File:
    """All that stream_reader() uses of a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")


def _lz4(file: Window, at: int, end: int) -> Iterator[bytes]:
    """Blocks of up to 8 MiB, each after its size."""
    try:
        import lz4.block  # noqa: PLC0415
    except ImportError:
        raise CannotUnpack("it is packed with lz4: install python3-lz4") from None
    while at < end:
        size = file.number(at, 4)
        packed = b"".join(_pieces(file, at + 4, at + 4 + size))
        try:
            yield lz4.block.decompress(packed, uncompressed_size=_LZ4_BLOCK)
        except (lz4.block.LZ4BlockError, ValueError) as error:
            raise BadInitrd(f"damaged: the lz4 block at offset {at}: {error}") from None
        at += 4 + size


def _buffers(word: str, file: Window, at: int) -> int:
    """What the kernel's decompressor takes beside its input and its output: lib/decompress_*.c."""
    start = file.rest(at)[:64]
    match word:
        case "zstd":
            return _zstd_window(start) + (512 << 10)
        case "xz":
            return _xz_dictionary(start)
        case "lzma":
            return int.from_bytes(start[1:5], "little")
        case "lz4":
            return 2 * _LZ4_BLOCK
        case "bzip2":
            return 4 << 20
        case "gzip":
            return 64 << 10
    return 0


def _zstd_window(start: bytes) -> int:
    """RFC 8878, 3.1.1.1: the window, or the content where that is one segment."""
    if start[:4] != b"\x28\xb5\x2f\xfd" or len(start) < 6:
        return 0
    descriptor = start[4]
    if descriptor >> 5 & 1:
        at = 5 + (0, 1, 2, 4)[descriptor & 3]
        size = (1, 2, 4, 8)[descriptor >> 6]
        return int.from_bytes(start[at : at + size], "little") + (256 if size == 2 else 0)
    base = 1 << 10 + (start[5] >> 3)
    return base + base // 8 * (start[5] & 7)


def _xz_dictionary(start: bytes) -> int:
    """The LZMA2 filter's dictionary size, in the first block's header: The .xz File Format, 3.1
    and 5.3.1. 0 where it is not found."""
    at, last = 14, start[13] & 3 if len(start) > 13 else 0
    at += sum(_varint_size(start, at) for flag in (0x40, 0x80) if start[13:14] and start[13] & flag)
    for _ in range(last + 1):
        if len(start) < at + 3:
            return 0
        kind, size = start[at], start[at + 1]
        if kind == 0x21 and start[at + 2] <= 40:
            bits = start[at + 2]
            return min((2 | bits & 1) << bits // 2 + 11, (1 << 32) - 1)
        at += 2 + size
    return 0


def _varint_size(start: bytes, at: int) -> int:
    return next((n for n, byte in enumerate(start[at : at + 9], 1) if byte < 0x80), 9)
