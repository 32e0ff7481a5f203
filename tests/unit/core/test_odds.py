# SPDX-License-Identifier: GPL-2.0-or-later
"""The odds of whole machines: the one of the 2019 thread, from a firmware map in one piece to one
in many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kexecwatchd.kernel.boot_params import BootParams
from kexecwatchd.kernel.bootimage import BootImage
from kexecwatchd.kernel.crashkernel import Request
from kexecwatchd.kernel.firmware_map import BadFirmwareMap, Entry
from kexecwatchd.kernel.kernel_size import KernelSize
from kexecwatchd.odds import LEAST_LOW, Boot, Model, largest_low, largest_size, model, remedy
from kexecwatchd.ranges import Range, RangeSet

MIB, GIB = 1 << 20, 1 << 30

# Debian's 6.12: what it takes, and what its file says.
SIZE = KernelSize(0x2C01000, 0x2C30000)
FILE = BootImage(
    cmdline_size=2047,
    five_level=True,
    memory_size=0x37EE000,
    signed=True,
    alignment=0x200000,
    preferred_address=0x1000000,
    unpacked_size=57646880,
)

Pieces = tuple[tuple[int, int], ...]


def machine(pieces: Pieces, high: int = 126 * GIB, initrd: int = 80, cmdline: str = "ro") -> Boot:
    """A server: memory below 4 GiB in these pieces (MiB), `high` bytes above. The initrd (MiB) lies
    where GRUB puts it, as high as it can below 2 GiB."""
    ram = [(0, 0x9F000), *((start * MIB, end * MIB) for start, end in pieces)]
    entries = [Entry(start, end - start, 1) for start, end in ram]
    if high:
        entries.append(Entry(4 * GIB, high, 1))
    top = max(min(end, 2048) * MIB for start, end in pieces if start * MIB < 2 * GIB)
    params = BootParams(
        entries=tuple(entries),
        extra=(),
        initrd=Range(top - initrd * MIB, top) if initrd else None,
        cmdline=0x8B000,
        loaded=0x1000000,
        setup_data=None,
        unplaced=0,
        randomised=True,
        efi=False,
        kexec=False,
    )
    return Boot(params, cmdline, SIZE, FILE)


#: 128 GiB as in the thread. Firmware's tables and option ROMs cut the memory below 4 GiB.
ONE_PIECE: Pieces = ((1, 2048),)
TWO_PIECES: Pieces = ((1, 700), (760, 1900))
ONE_ROOM_OF_512: Pieces = ((1, 180), (208, 448), (464, 976), (1000, 1200), (1216, 1400))
ONE_ROOM_OF_384: Pieces = ((1, 180), (208, 448), (464, 848), (1000, 1200), (1216, 1400))
ONE_ROOM_OF_320: Pieces = ((1, 180), (208, 448), (464, 784), (1000, 1200), (1216, 1400))
ONE_ROOM_OF_256: Pieces = ((1, 180), (208, 448), (464, 720), (1000, 1200), (1216, 1400))
NO_ROOM: Pieces = ((1, 180), (208, 448), (464, 700), (1000, 1200), (1216, 1400))

#: Too large for any piece, so it goes above 4 GiB, with 256 MiB below.
REQUEST = Request(2 * GIB)


@pytest.mark.parametrize(
    ("pieces", "places", "failing"),
    [
        (ONE_PIECE, 65406, 0),
        (TWO_PIECES, 65275, 0),
        (ONE_ROOM_OF_512, 64932, 22),
        (ONE_ROOM_OF_384, 64868, 86),
        (ONE_ROOM_OF_320, 64836, 118),
        (ONE_ROOM_OF_256, 64804, 101),
        (NO_ROOM, 64794, 64794),
    ],
)
def test_the_odds_follow_the_fragmentation(pieces: Pieces, places: int, failing: int) -> None:
    """Where there is but one room for the low part, the thread's "once in hundreds of reboots"."""
    odds = model(machine(pieces)).odds(REQUEST)
    assert (odds.places, odds.least, odds.most) == (places, failing, failing)


@pytest.mark.parametrize("pieces", [ONE_PIECE, ONE_ROOM_OF_512, ONE_ROOM_OF_320, NO_ROOM])
@pytest.mark.parametrize(
    "request_", [REQUEST, Request(300 * MIB), Request(GIB, high=True, low=200 * MIB)]
)
def test_counting_is_trying_each_place(pieces: Pieces, request_: Request) -> None:
    """On 4 GiB above, so that there is an end to it."""
    machine_ = model(machine(pieces, high=4 * GIB))
    for layout, count in zip(
        (machine_.hopeful, machine_.cautious),
        (machine_.odds(request_).least, machine_.odds(request_).most),
        strict=True,
    ):
        tried = [layout.reserve(request_, place) is None for place in machine_.slots]
        assert sum(tried) == count
        assert len(tried) == machine_.odds(request_).places


def test_a_large_machine_is_no_more_work() -> None:
    odds = model(replace(machine(ONE_ROOM_OF_320, high=63 << 40), la57=True)).odds(REQUEST)
    assert odds.places > 33_000_000
    assert odds.most == 118


def test_with_four_levels_nothing_lies_above_64_tib() -> None:
    boot = machine(ONE_ROOM_OF_320, high=100 << 40)
    four, five = model(boot).slots.count, model(replace(boot, la57=True)).slots.count
    assert (five - four) * 2 * MIB == (100 << 40) + 4 * GIB - (64 << 40)


def test_with_five_levels_nothing_lies_above_4_pib() -> None:
    five = replace(machine(ONE_ROOM_OF_320, high=5 << 50), la57=True)
    assert model(five).slots.areas[-1].places[-1] == (4 << 50) - 56 * MIB


def test_the_places_of_one_piece() -> None:
    """Room for what the kernel unpacks to, in whole 2 MiB; and only where firmware says RAM."""
    boot = machine(((1, 255),), high=0, initrd=0)
    assert max(model(boot).slots) == 198 * MIB
    reserved = Entry(300 * MIB, 700 * MIB, 2)
    params = replace(boot.params, entries=(*boot.params.entries, reserved))
    assert model(replace(boot, params=params)).slots == model(boot).slots


def test_where_it_unpacks_itself() -> None:
    """At the preferred address, or where it was loaded, if that is higher."""
    boot = machine(ONE_PIECE)
    for loaded, output in ((MIB, 16), (16 * MIB, 16), (17 * MIB, 18), (64 * MIB, 64)):
        params = replace(boot.params, loaded=loaded)
        assert model(replace(boot, params=params)).output == output * MIB


class TestWhatFits:
    def test_the_largest(self) -> None:
        machine_ = model(machine(ONE_ROOM_OF_320))
        largest = largest_low(machine_, REQUEST.size, 4 * GIB)
        for low, fits in ((largest, True), (largest + MIB, False)):
            assert machine_.never_fails(Request(REQUEST.size, high=True, low=low)) is fits
        # Above 4 GiB in any case: what is asked for there does not matter.
        assert largest_low(machine_, 200 * MIB, 4 * GIB) == largest
        size = largest_size(machine_, 4 * GIB)
        assert machine_.never_fails(Request(size))
        assert not machine_.never_fails(Request(size + MIB))

    def test_everything_or_nothing(self) -> None:
        machine_ = model(machine(ONE_PIECE))
        assert largest_size(machine_, GIB) == GIB
        tiny = model(machine(((1, 20),), high=0, initrd=0))
        assert largest_size(tiny, GIB) == 0

    @pytest.mark.parametrize(
        ("pieces", "high"),
        [(ONE_ROOM_OF_512, 126), (ONE_ROOM_OF_320, 126), (NO_ROOM, 126), (ONE_ROOM_OF_256, 8)],
    )
    def test_the_remedy_never_fails(self, pieces: Pieces, high: int) -> None:
        machine_ = model(machine(pieces, high=high * GIB))
        better = remedy(machine_, REQUEST)
        assert better
        assert better.size == REQUEST.size
        assert better.low
        assert better.low >= 72 * MIB
        assert machine_.never_fails(better)

    def test_no_remedy_without_memory_above(self) -> None:
        assert remedy(model(machine(ONE_ROOM_OF_320, high=0)), REQUEST) is None

    def test_no_remedy_with_too_little_below(self) -> None:
        """A capture kernel needs 72 MiB there, unless whoever asked wanted less anyway."""
        machine_ = model(machine(((1, 140), (208, 270)), initrd=0))
        assert largest_low(machine_, REQUEST.size, GIB) == 62 * MIB < LEAST_LOW == 72 * MIB
        assert remedy(machine_, REQUEST) is None
        little = Request(REQUEST.size, high=True, low=32 * MIB)
        assert remedy(machine_, little) == little

    def test_cma_stays(self) -> None:
        better = remedy(model(machine(ONE_ROOM_OF_512)), replace(REQUEST, cma=GIB))
        assert better
        assert better.cma == GIB


class TestWhatIsTaken:
    def test_the_initrd_and_the_low_mib(self) -> None:
        machine_ = model(machine(ONE_PIECE))
        assert not machine_.hopeful.free & RangeSet.of((0, MIB), (1968 * MIB, 2048 * MIB))
        assert machine_.hopeful.free.size == 126 * GIB + (1968 - 1) * MIB

    def test_a_kernel_in_the_way_by_a_page(self) -> None:
        """The brk area ends the kernel, and only some of it is kept: the count has two ends."""
        exact = Boot(machine(((1, 560),), high=0, initrd=0).params, "ro", SIZE, FILE)
        rough = replace(exact, kernel=KernelSize(SIZE.least, SIZE.least + 4 * MIB))
        one, other = (model(boot).odds(Request(256 * MIB)) for boot in (exact, rough))
        assert one.least <= other.least < other.most

    def test_page_tables_and_cma_are_at_the_top(self) -> None:
        boot = machine(((1, 1024),), high=0, initrd=0)
        for cma, taken in ((0, 2 * MIB + 4096), (64 * MIB, 66 * MIB + 4096)):
            free = model(replace(boot, cma=cma)).cautious.free
            assert max(r.end for r in free) == 1024 * MIB - taken

    def test_from_one_piece_after_another(self) -> None:
        boot = machine(((1, 1024), (1030, 1031)), high=0, initrd=0)
        free = model(boot).cautious.free
        assert max(r.end for r in free) == 1023 * MIB - 4096
        # With too little above 4 GiB, CMA is below.
        boot = machine(((1, 1024),), high=32 * MIB, initrd=0)
        free = model(replace(boot, cma=64 * MIB)).cautious.free
        assert max(r.end for r in free) == 1024 * MIB - (64 + 2 - 32) * MIB - 4 * 4096

    def test_cma_finds_room_above_4_gib(self) -> None:
        free = model(replace(machine(ONE_PIECE), cma=64 * MIB)).cautious.free
        assert 130 * GIB - 3 * MIB < max(r.end for r in free) < 130 * GIB

    def test_setup_data_is(self) -> None:
        boot = machine(ONE_PIECE)
        node = Range(300 * MIB + 16, 300 * MIB + 64)
        machine_ = model(replace(boot, params=replace(boot.params, setup_data=node)))
        assert not machine_.hopeful.free & RangeSet.of((300 * MIB, 300 * MIB + 4096))
        assert all(not place <= 300 * MIB < place + 56 * MIB for place in machine_.slots)

    def test_what_swiotlb_asks_for(self) -> None:
        assert model(machine(ONE_PIECE)).hopeful.low_size == 256 * MIB
        for option, size in (
            ("swiotlb=262144 nr_cpus=4", 520),
            ("swiotlb=force", 256),
            ("swiotlb=1", 256),
        ):
            assert model(machine(ONE_PIECE, cmdline=option)).hopeful.low_size == size * MIB

    def test_a_memmap_that_is_not_known(self) -> None:
        with pytest.raises(BadFirmwareMap, match="exactmap"):
            model(machine(ONE_PIECE, cmdline="memmap=exactmap"))


class TestExplains:
    @pytest.fixture
    def tight(self) -> Model:
        return model(machine(ONE_ROOM_OF_320))

    def regions(self, machine_: Model, place: int) -> RangeSet:
        found = machine_.cautious.reserve(REQUEST, place)
        return RangeSet(r for r in (found.main, found.low) if r) if found else RangeSet()

    def test_a_boot_that_did(self, tight: Model) -> None:
        place = 5 * GIB
        assert tight.explains(REQUEST, place, self.regions(tight, place))
        assert not tight.explains(REQUEST, place, RangeSet())

    def test_a_boot_that_did_not(self, tight: Model) -> None:
        place = 550 * MIB
        assert not self.regions(tight, place)
        assert tight.explains(REQUEST, place, RangeSet())
        assert not tight.explains(REQUEST, place, self.regions(tight, 5 * GIB))

    def test_what_either_model_says_will_do(self) -> None:
        boot = machine(((1, 560),), high=0, initrd=0)
        rough = model(replace(boot, kernel=KernelSize(SIZE.least, SIZE.least + 20 * MIB)))
        request, differ = Request(200 * MIB), 0
        for place in rough.slots:
            found = [x.reserve(request, place) for x in (rough.hopeful, rough.cautious)]
            for one in found:
                assert rough.explains(request, place, RangeSet([one.main] if one else []))
            differ += found[0] != found[1]
        assert differ

    def test_a_place_that_is_none(self, tight: Model) -> None:
        for place in (5 * GIB + MIB, 2 * GIB):
            assert not tight.explains(REQUEST, place, self.regions(tight, 5 * GIB))

    def test_what_was_given_back_of_it_does_not_count(self, tight: Model) -> None:
        low, high = self.regions(tight, 5 * GIB)
        smaller = RangeSet([low, Range(high.start, high.start + 256 * MIB)])
        assert tight.explains(REQUEST, 5 * GIB, smaller)
        moved = RangeSet([Range(low.start - 16 * MIB, low.end - 16 * MIB), high])
        assert not tight.explains(REQUEST, 5 * GIB, moved)
        assert not tight.explains(REQUEST, 5 * GIB, RangeSet([high]))


def test_without_kaslr() -> None:
    machine_ = model(machine(ONE_ROOM_OF_320, cmdline="nokaslr"))
    assert (machine_.slots.count, machine_.output) == (1, 16 * MIB)
    assert machine_.without_kaslr(REQUEST)
    assert not model(machine(NO_ROOM)).without_kaslr(REQUEST)
