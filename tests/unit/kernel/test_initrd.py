# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import struct
import tracemalloc
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.kernel import initrd
from kexecwatchd.kernel.initrd import BadInitrd

from .trees import file_of

CONTENT = b"#!/bin/sh\nexec /sbin/init\n" * 50


def check(data: bytes) -> None:
    with file_of(data) as fd:
        initrd.check(fd)


def cpio(files: Mapping[str, bytes], pad: int = 512) -> bytes:
    """A newc archive, padded with zeros as cpio pads."""
    archive = b""
    for name, data in [*files.items(), ("TRAILER!!!", b"")]:
        fields = (1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        entry = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        entry += bytes(-len(entry) % 4) + data
        archive += entry + bytes(-len(entry) % 4)
    return archive + bytes(-len(archive) % pad)


def zstd(blocks: list[bytes], checksum: bool = True) -> bytes:
    """A frame of raw blocks, and one run of 500 zeros (RFC 8878)."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x04 if checksum else 0, 0x58])
    for block in blocks:
        frame += (len(block) << 3).to_bytes(3, "little") + block
    return frame + (1 | 1 << 1 | 500 << 3).to_bytes(3, "little") + b"\0" + b"sum!" * checksum


def lz4(blocks: list[bytes]) -> bytes:
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(b)) + b for b in blocks)


def lzo(blocks: list[bytes]) -> bytes:
    """As lzop 1.04 writes it: Adler-32 of the plain data."""
    head = b"\x89LZO\0\r\n\x1a\n" + struct.pack(
        ">HHHBBIIII", 0x1040, 0x20A0, 0x940, 1, 5, 1, 0, 0, 0
    )
    body = b"".join(struct.pack(">III", len(b) + 9, len(b), 0) + b for b in blocks)
    return head + b"\x02in" + b"sum!" + body + bytes(4)


CPIO = cpio({"init": CONTENT, "etc/fstab": b"", "bin/a": b"x"})
WHOLE = {
    "cpio": cpio({"init": CONTENT}, pad=4),
    "gzip": gzip.compress(CPIO),
    "bzip2": bz2.compress(CPIO),
    "xz": lzma.compress(CPIO, check=lzma.CHECK_CRC32),
    "lzma": lzma.compress(CPIO, format=lzma.FORMAT_ALONE),
    "zstd": zstd([CPIO[:700], CPIO[700:]]),
    "lz4": lz4([CPIO[:700], CPIO[700:]]),
    "lzo": lzo([CPIO[:700], CPIO[700:]]),
}
# Where a cut leaves a file that is whole: between two blocks of lz4, which has no end mark.
UNSEEN = {"lz4": 4 + 4 + 700}


@pytest.mark.parametrize("word", WHOLE)
class TestEachFormat:
    def test_alone(self, word: str) -> None:
        check(WHOLE[word])

    def test_padded_with_zeros(self, word: str) -> None:
        check(bytes(512) + WHOLE[word] + bytes(700))

    def test_behind_early_cpio_archives(self, word: str) -> None:
        check(CPIO + CPIO + WHOLE[word])

    def test_followed_by_another(self, word: str) -> None:
        # lz4 needs the zeros: without them the next magic would be the size of a block.
        joined = WHOLE[word] + bytes(4 + -len(WHOLE[word]) % 4) + WHOLE["xz"]
        check(joined)
        offset = len(joined) - len(WHOLE["xz"])
        with pytest.raises(BadInitrd, match=f"truncated: the xz archive at offset {offset} "):
            check(joined[:-1])

    def test_every_cut_shows(self, word: str) -> None:
        whole = WHOLE[word]
        for end in range(len(whole)):
            if end != UNSEEN.get(word):
                with pytest.raises(BadInitrd):
                    check(whole[:end])

    def test_a_cut_names_the_format(self, word: str) -> None:
        with pytest.raises(BadInitrd, match=f"truncated: the {word} archive at offset {len(CPIO)}"):
            check(CPIO + WHOLE[word][: len(WHOLE[word]) // 2])


def test_larger_than_the_window() -> None:
    noise = os.urandom(3 << 20)
    archive = cpio({"a": noise, "b": noise, "c": CONTENT})
    blocks = [noise[at : at + (128 << 10)] for at in range(0, len(noise), 128 << 10)]
    joined = archive + gzip.compress(archive, 1) + zstd(blocks)
    check(joined)
    with pytest.raises(BadInitrd, match="truncated: the zstd"):
        check(joined[:-1])
    with pytest.raises(BadInitrd, match="truncated: the gzip"):
        check(joined[: len(archive) * 2 - 1000])


@pytest.mark.parametrize("word", ["gzip", "bzip2", "xz"])
def test_data_that_swells(word: str) -> None:
    """64 MiB of zeros in a few kilobytes: taken in pieces, and the end is still found."""
    swell: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
    }
    data = swell[word](bytes(64 << 20))
    tracemalloc.start()
    try:
        check(data + WHOLE["zstd"])
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(BadInitrd, match=f"truncated: the {word}"):
        check(data[:-1])
    with pytest.raises(BadInitrd, match="truncated: the zstd"):
        check(data + WHOLE["zstd"][:-1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (bytes(4096), "nothing but zeros"),
        (b"#!/bin/sh\n", "no known format at offset 0: it begins with 23212f62696e2f73"),
        (CPIO + b"garbage!", f"no known format at offset {len(CPIO)}"),
        (b"\x04\x22\x4d\x18" + bytes(100), "lz4 -l"),
        (b"\x1f", "no whole archive"),
        (b"\0" + CPIO, "no multiple of four"),
        (CPIO[:100] + b"zz" + CPIO[102:], "no numbers"),
        # int() would take the sign, and the walk go round in circles.
        (CPIO[:54] + b"-0000001" + CPIO[62:], "no numbers"),
        (CPIO.replace(b"etc/fstab", b"etc/fstab" * 2), "no cpio header"),
        (CPIO[:94] + b"00000000" + CPIO[102:], "a name of 0 bytes"),
        (WHOLE["gzip"][:40] + b"\xff" * 9 + WHOLE["gzip"][49:], "damaged"),
        (WHOLE["xz"][:40] + b"\xff" * 9 + WHOLE["xz"][49:], "damaged"),
        (WHOLE["bzip2"][:40] + b"\xff" * 9 + WHOLE["bzip2"][49:], "damaged"),
        (b"\x28\xb5\x2f\xfd\x00\x58\xff\xff\xff", "no zstd block"),
        (lz4([b"x"])[:4] + b"\xff\xff\xff\xff", "an lz4 block of"),
        (lzo([b"x" * 9])[:38] + b"\0\0\0\1\0\0\0\2" + bytes(9), "no lzo block"),
    ],
)
def test_what_no_kernel_unpacks(data: bytes, reason: str) -> None:
    with pytest.raises(BadInitrd, match=reason):
        check(data)


def test_what_names_a_dictionary_of_a_gib_is_not_given_it() -> None:
    small = lzma.compress(CPIO, format=lzma.FORMAT_ALONE)
    data = small[:1] + struct.pack("<I", 1 << 30) + small[5:]
    with pytest.raises(BadInitrd, match="emory usage limit"):
        check(data)


def test_zstd_frames_of_all_kinds() -> None:
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"12345"
    # One segment of 3 bytes: a content size of one byte instead of a window.
    single = b"\x28\xb5\x2f\xfd\x20\x03" + (1 | 3 << 3).to_bytes(3, "little") + b"abc"
    # Dictionary of two bytes, content size of four.
    sized = b"\x28\xb5\x2f\xfd\x82\x58" + bytes(6) + (1 | 3 << 3).to_bytes(3, "little") + b"abc"
    check(skippable + single + sized + zstd([], checksum=False))
    for frame in (skippable, single, sized):
        with pytest.raises(BadInitrd, match="truncated"):
            check(frame[:-1])


def test_not_a_regular_file() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BadInitrd, match="regular"):
            initrd.check(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_the_file_position_stays() -> None:
    with file_of(CPIO) as fd:
        os.lseek(fd, 100, os.SEEK_SET)
        initrd.check(fd)
        assert os.lseek(fd, 0, os.SEEK_CUR) == 100


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=1), st.binary()
    ),
    st.integers(0, 64),
)
def test_any_archive_is_whole_until_it_is_cut(files: dict[str, bytes], cut: int) -> None:
    archive = cpio(files, pad=4)
    check(archive)
    with pytest.raises(BadInitrd):
        check(archive[: max(0, len(archive) - 1 - cut)])


@given(st.binary(max_size=200), st.sampled_from(sorted(WHOLE)), st.integers(0, 2000))
def test_damage_is_refused_or_passed_never_worse(noise: bytes, word: str, at: int) -> None:
    data = WHOLE[word]
    with contextlib.suppress(BadInitrd):
        check(data[:at] + noise + data[at + len(noise) :])
