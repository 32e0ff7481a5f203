# SPDX-License-Identifier: GPL-2.0-or-later
"""The SVG: well-formed, complete, and readable without colour."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given

from kexecwatchd.ctl.mapkinds import MEANINGS, Kind, sizes, spans
from kexecwatchd.ctl.mapsvg import draw
from kexecwatchd.memorypicture import MemoryPicture, Survey, picture_of
from tests.unit.core.machines import MIB, big, small, small_with_dimm, surveys

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parse(picture: MemoryPicture) -> ElementTree.Element:
    return ElementTree.fromstring(draw(picture).encode())


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{NAMESPACE}text")]


def fills(root: ElementTree.Element) -> set[str]:
    """The patterns that are drawn with."""
    found = (re.fullmatch(r"url\(#(\w+)\)", e.get("fill", "")) for e in root.iter())
    return {match[1] for match in found if match}


@pytest.mark.parametrize("machine", [small(), small_with_dimm(), big(), big(128 * MIB)])
def test_it_stands_alone_and_is_accessible(machine: Survey) -> None:
    text = draw(picture_of(machine))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<svg ')
    assert not re.search(r"href|<script|<style|<image|url\((?!#)", text)
    root = parse(picture_of(machine))
    assert root.tag == f"{NAMESPACE}svg"
    ids = {element.get("id") for element in root.iter()}
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "title desc")
    assert root[0].tag == f"{NAMESPACE}title"
    assert root[1].tag == f"{NAMESPACE}desc"
    assert {"title", "desc"} <= ids


def test_the_description_is_the_answer() -> None:
    assert parse(picture_of(big()))[1].text == (
        "Memory: 2 TiB in 1024 blocks of 2 GiB on 4 nodes; 64 GiB hot-added, 16 GiB offline,"
        " 48 GiB movable. Crash image: loaded; 1.2 GiB reserved; 16 GiB would be missing from a"
        " dump. Reboot image: loaded; 4 segments, 1 in movable memory"
    )


def test_bars_are_drawn_to_scale_and_name_themselves() -> None:
    """In rows of 128 MiB, a MiB is 7 pixels."""
    root = parse(picture_of(small()))
    bars = {
        (group.findtext(f"{NAMESPACE}title") or ""): group[1]
        for group in root.iter(f"{NAMESPACE}g")
    }
    assert bars["0x10c000000-0x10fdfffff: reboot image (kexec)"].get("width") == f"{62 * 7}"
    assert bars["0x20000000-0x200fffff: crash image (kdump)"].get("width") == "7"


def test_patterns_differ_and_do_not_rest_on_colour() -> None:
    root = parse(picture_of(small()))
    patterns = {e.get("id"): e for e in root.iter(f"{NAMESPACE}pattern")}
    assert patterns.keys() == {kind.name for kind in Kind}
    grey = {name: _shape(pattern) for name, pattern in patterns.items()}
    assert len(set(grey.values())) == len(Kind)


def _shape(pattern: ElementTree.Element) -> tuple[str, ...]:
    """What is drawn, and how dark its ground is, in coarse steps."""
    ground, *drawn = pattern
    fill = ground.get("fill", "")
    digits = fill[1:] if len(fill) == 7 else "".join(2 * digit for digit in fill[1:])
    light = sum(int(digits[at : at + 2], 16) for at in (0, 2, 4)) // 3
    return (str(light // 64), *(e.get("d", e.get("r", "")) for e in drawn))


def test_each_bar_but_ordinary_memory_has_its_letter() -> None:
    root = parse(picture_of(small_with_dimm()))
    for group in root.iter(f"{NAMESPACE}g"):
        kind = (group[1].get("fill") or "")[len("url(#") : -1]
        letter = group.findtext(f"{NAMESPACE}text")
        assert letter == (None if kind == "PLAIN" else Kind[kind].symbol)


def test_nothing_is_cut_short() -> None:
    """All text lies on the page."""
    root = parse(picture_of(big()))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for element in root.iter(f"{NAMESPACE}text"):
        start = float(element.get("x", "0"))
        assert start + 7.3 * len(element.text or "") <= width
        assert float(element.get("y", "0")) <= height


@given(surveys())
def test_any_machine_is_drawn_with_every_segment_and_a_whole_legend(machine: Survey) -> None:
    picture = picture_of(machine)
    assert draw(picture) == draw(picture)
    root = parse(picture)
    said = texts(root)
    for segment in picture.segments:
        assert f"{segment.start}-{segment.end}" in said
    found = sizes(spans(picture))
    assert fills(root) == {kind.name for kind in found}
    assert all(MEANINGS[kind] in said for kind in found)


def test_what_is_said_cannot_become_markup() -> None:
    note = '</text><script>"&\x00\ud800'
    root = parse(picture_of(dataclasses.replace(small(), notes=(note,))))
    assert texts(root)[-1] == '</text><script>"&??'
