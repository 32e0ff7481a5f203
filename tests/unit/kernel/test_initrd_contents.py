# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import stat
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import initrd_contents
from kexecwatchd.kernel.initrd import BadInitrd
from kexecwatchd.kernel.initrd_contents import CannotUnpack, Contents

from .test_initrd import lzo, zstd
from .trees import file_of

REGULAR, LINK, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755


@dataclass
class Entry:
    name: str
    data: bytes = b""
    mode: int = REGULAR
    links: int = 1
    inode: int = 0


def archive(entries: Sequence[Entry], pad: int = 4) -> bytes:
    """A newc archive; entries without an inode get one of their own."""
    out = b""
    for number, e in enumerate([*entries, Entry("TRAILER!!!", mode=0)], 1000):
        name = e.name.encode() + b"\0"
        fields = (
            e.inode or number,
            e.mode,
            0,
            0,
            e.links,
            0,
            len(e.data),
            8,
            1,
            0,
            0,
            len(name),
            0,
        )
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + e.data
        out += bytes(-len(out) % 4)
    return out + bytes(-len(out) % pad)


def lz4_legacy(data: bytes) -> bytes:
    out = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[at : at + (8 << 20)], store_size=False)
        out += len(block).to_bytes(4, "little") + block
    return out


PACK: dict[str, Callable[[bytes], bytes]] = {
    "cpio": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": lambda data: zstandard.ZstdCompressor(level=3).compress(data),
    "lz4": lz4_legacy,
}
FILES = [
    Entry("bin", mode=DIRECTORY, links=2),
    Entry("bin/big", b"x" * 5000),
    Entry("bin/sh", b"big", LINK),
    Entry("./etc/empty"),
]


def read(data: bytes) -> Contents:
    with file_of(data) as fd:
        return initrd_contents.read(fd, lambda path: path.split("/")[0])


@pytest.mark.parametrize("word", PACK)
def test_each_format(word: str) -> None:
    found = read(PACK[word](archive(FILES)))
    assert found.formats == (word,)
    assert (found.files, found.unpacked, found.pages) == (4, 5003, 12288)
    assert found.groups == {"bin": 5003}
    assert found.largest == (("bin/big", 5000), ("bin/sh", 3))
    assert not found.systemd
    assert (found.buffers > 0) == (word != "cpio")


@pytest.mark.parametrize("word", PACK)
def test_behind_early_microcode(word: str) -> None:
    early = archive([Entry("kernel/x86/microcode/GenuineIntel.bin", b"m" * 100)], pad=512)
    packed = PACK[word](archive(FILES) + bytes(300) + archive([Entry("etc/more", b"abc")]))
    found = read(early + packed + bytes(64))
    assert found.formats == ("cpio",) * (2 + (word == "cpio")) or found.formats == ("cpio", word)
    assert found.groups == {"bin": 5003, "kernel": 100, "etc": 3}
    assert found.packed == len(early + packed) + 64


def test_zeros_of_any_number_end_it() -> None:
    for count in range(1, 5):
        whole = archive(FILES) + bytes(304) + archive([Entry("etc/more", b"abc")])
        assert read(gzip.compress(whole + bytes(count))).files == 5


def test_names_have_4096_bytes_at_most() -> None:
    assert read(archive([Entry("n" * 4095)])).files == 1
    with pytest.raises(BadInitrd, match="a name of 4097 bytes"):
        read(archive([Entry("n" * 4096)]))


def test_hard_links_count_once() -> None:
    """cpio gives the data with the last name of an inode; others give it with each."""
    last = [Entry("a", links=2, inode=7), Entry("b", b"12345", links=2, inode=7)]
    each = [Entry("a", b"12345", links=2, inode=7), Entry("b", b"12345", links=2, inode=7)]
    for entries in (last, each):
        found = read(archive(entries))
        assert (found.files, found.unpacked, found.pages) == (1, 5, 4096)
    once_more = [*each, Entry("c", links=4, inode=7), Entry("d", b"12345", links=4, inode=7)]
    assert (read(archive(once_more)).files, read(archive(once_more)).unpacked) == (1, 5)
    directories = [Entry("a", mode=DIRECTORY, links=3, inode=7) for _ in range(2)]
    assert read(archive(directories)).files == 2


def test_systemd_is_told_from_what_lies_beside_it() -> None:
    udev = Entry("usr/lib/systemd/systemd-udevd", b"x")
    link = Entry("usr/lib/systemd/systemd", b"elsewhere", LINK)
    assert not read(archive([udev, link])).systemd
    assert read(archive([Entry("./usr/lib/systemd/systemd", b"x")])).systemd


def test_only_the_largest_are_listed() -> None:
    entries = [Entry(f"f{n}", b"x" * n) for n in range(1, 80)]
    for order in (entries, entries[::-1]):
        found = read(archive(order))
        assert len(found.largest) == 50
        assert found.largest[0] == ("f79", 79)
        assert found.largest[-1] == ("f30", 30)


def test_groups_are_bounded() -> None:
    found = read(archive([Entry(f"g{n}/f", b"x") for n in range(1000)]))
    assert len(found.groups) <= 501
    assert sum(found.groups.values()) == 1000


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initrd_contents, "_MOST_FILES", 3)
    with pytest.raises(BadInitrd, match="more than 3 files"):
        read(archive(FILES))


@pytest.mark.parametrize("word", PACK)
def test_memory_is_bounded(word: str) -> None:
    """However much it is, and however well it packs."""
    zeros = bytes(64 << 20)
    data = PACK[word](archive([Entry("zeros", zeros), Entry("a", b"x")]))
    with file_of(data) as fd:
        tracemalloc.start()
        try:
            found = initrd_contents.read(fd, lambda path: "")
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()
    assert found.unpacked == len(zeros) + 1


def test_lzo_cannot_be_told() -> None:
    with pytest.raises(CannotUnpack, match="lzo"):
        read(lzo([b"x" * 9]))


@pytest.mark.parametrize(("word", "module"), [("zstd", "zstandard"), ("lz4", "lz4.block")])
def test_without_the_library(word: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CannotUnpack, match=f"install python3-{module.removesuffix('.block')}"):
        read(PACK[word](archive(FILES)))
    assert read(gzip.compress(archive(FILES))).files == 4


ALL = archive(FILES)
ZSTD = PACK["zstd"](ALL)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(ALL[:-130]), "ends within a cpio archive"),
        (gzip.compress(ALL.replace(b"bin/sh", b"bin/sh" * 2)), "no cpio header"),
        (gzip.compress(ALL[:94] + b"00000000" + ALL[102:]), "a name of 0 bytes"),
        (gzip.compress(ALL[:54] + b"zzzzzzzz" + ALL[62:]), "no numbers"),
        (gzip.compress(ALL[:54] + b"-0000001" + ALL[62:]), "no numbers"),
        (gzip.compress(ALL[:38] + b"zzzzzzzz" + ALL[46:]), "no numbers"),
        (gzip.compress(ALL)[:-1], "truncated: the gzip archive"),
        (ZSTD[:-1], "truncated: the zstd archive"),
        (ZSTD[:20] + b"\xff" * 9 + ZSTD[29:], "damaged"),
        (b"\x02\x21\x4c\x18\x04\0\0\0\xff\xff\xff\xff", "damaged: the lz4 block"),
        (b"nothing", "no known format"),
    ],
)
def test_what_cannot_be_unpacked(data: bytes, reason: str) -> None:
    with pytest.raises(BadInitrd, match=reason):
        read(data)


def xz(dict_size: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "dict_size": dict_size}]


def lzma1(dict_size: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA1, "dict_size": dict_size}]


def xz_with_size(data: bytes) -> bytes:
    """As xz -T0 writes it, with the block's size in front of the filters: .xz format, 3.1.4."""
    packed = lzma.compress(data, filters=xz(4 << 20))
    assert 128 <= len(data) < 1 << 14
    size = bytes([len(data) & 0x7F | 0x80, len(data) >> 7])
    header = packed[12:13] + b"\x80" + size + packed[14:17] + b"\0"
    return packed[:12] + header + zlib.crc32(header).to_bytes(4, "little") + packed[24:]


def zstd_window(data: bytes, log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(data) + stream.flush()


def zstd_frame(data: bytes, window: int = 0x5B) -> bytes:
    """Of raw blocks, with a window of 2 MiB and three eighths."""
    frame = zstd([data], checksum=False)
    return frame[:5] + bytes([window]) + frame[6:]


def zstd_segment(data: bytes, width: int, dictionary: int) -> bytes:
    """One segment. RFC 8878, 3.1.1.1: flags for how wide its size is, and the number of the
    dictionary, which is 0: none."""
    size = len(data) - (256 if width == 1 else 0)
    fields = bytes((0, 1, 2, 4)[dictionary]) + size.to_bytes(1 << width, "little")
    block = (1 | len(data) << 3).to_bytes(3, "little") + data
    return b"\x28\xb5\x2f\xfd" + bytes([width << 6 | 1 << 5 | dictionary]) + fields + block


@pytest.mark.parametrize(
    ("pack", "buffers"),
    [
        (lambda data: lzma.compress(data, filters=xz(dict_size=4 << 20)), 4 << 20),
        (lambda data: lzma.compress(data, filters=xz(dict_size=6 << 20)), 6 << 20),
        (
            lambda data: lzma.compress(data, filters=[{"id": lzma.FILTER_X86}, *xz(1 << 25)]),
            1 << 25,
        ),
        (lambda data: lzma.compress(data, lzma.FORMAT_ALONE, filters=lzma1(1 << 25)), 1 << 25),
        (lambda data: zstd_window(data, 25), (1 << 25) + (512 << 10)),
        (zstd_frame, (11 << 18) + (512 << 10)),
        (PACK["zstd"], len(ALL) + (512 << 10)),  # one segment: as much as there is
        (lz4_legacy, 16 << 20),
        (xz_with_size, 4 << 20),
        (PACK["gzip"], 64 << 10),
        (PACK["bzip2"], 4 << 20),
        (lambda data: zstd_frame(data, 17 << 3), (128 << 20) + (512 << 10)),
    ],
)
def test_what_unpacking_takes(pack: Callable[[bytes], bytes], buffers: int) -> None:
    assert read(pack(ALL)).buffers == buffers


@pytest.mark.parametrize("dictionary", range(4))
@pytest.mark.parametrize("width", range(4))
def test_what_one_segment_of_zstd_takes(width: int, dictionary: int) -> None:
    data = ALL if width else archive([])
    assert read(zstd_segment(data, width, dictionary)).buffers == len(data) + (512 << 10)


def test_a_window_that_the_kernel_does_not_take() -> None:
    with pytest.raises(BadInitrd, match="damaged: the zstd archive"):
        read(zstd_frame(ALL, 17 << 3 | 1))


def test_the_file_position_stays() -> None:
    with file_of(ALL) as fd:
        os.lseek(fd, 7, os.SEEK_SET)
        initrd_contents.read(fd, lambda path: "")
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7


PACKED = {word: pack(ALL) for word, pack in PACK.items()}


@given(st.binary(max_size=200), st.sampled_from(sorted(PACKED)), st.integers(0, 800))
def test_damage_is_refused_or_passed_never_worse(noise: bytes, word: str, at: int) -> None:
    data = PACKED[word]
    with contextlib.suppress(BadInitrd, CannotUnpack):
        read(data[:at] + noise + data[at + len(noise) :])


@given(st.sampled_from(sorted(set(PACKED) - {"lz4"})), st.data())
def test_every_cut_is_refused(word: str, data: st.DataObject) -> None:
    whole = PACKED[word]
    with pytest.raises(BadInitrd):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=300), st.sampled_from(sorted(set(PACK) - {"cpio"})))
def test_any_content_is_read_or_refused(noise: bytes, word: str) -> None:
    with contextlib.suppress(BadInitrd):
        read(PACK[word](noise))
