# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from kexecwatchd.install import record
from kexecwatchd.install.changes import InstallError, apply, look
from kexecwatchd.install.layout import CONFIG, File, Item, Link
from kexecwatchd.install.record import Record, RecordError

UNIT = PurePosixPath("/etc/systemd/system/kexecwatchd.service")
RULE = PurePosixPath("/etc/udev/rules.d/70-kexecwatchd.rules")
PROGRAM = PurePosixPath("/opt/kexecwatchd/lib/kexecwatchd/kexecwatchd")
IN_PATH = PurePosixPath("/usr/local/sbin/kexecwatchd")
OLD: list[Item] = [
    File(CONFIG, b"[crash]\n"),
    File(UNIT, b"one\n"),
    File(RULE, b"rule\n"),
    File(PROGRAM, b"#!\n", 0o755),
    Link(IN_PATH, str(PROGRAM)),
]
NEW: list[Item] = [
    File(CONFIG, b"[crash]\n[reboot]\n"),
    File(UNIT, b"two\n"),
    File(PurePosixPath("/etc/udev/rules.d/71-kexecwatchd.rules"), b"rule\n"),
    File(PROGRAM, b"#!new\n", 0o755),
    Link(IN_PATH, str(PROGRAM)),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with files of its own."""
    for name in ("etc/systemd/system", "etc/udev/rules.d", "opt/kexecwatchd/lib", "usr/local/sbin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/udev/rules.d/99-mine.rules").write_text("mine\n")
    return tmp_path


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below `root` but the record."""
    found = {}
    for path in root.rglob("*"):
        name = "/" + str(path.relative_to(root))
        if name == str(record.PATH):
            continue
        content = b"" if path.is_dir() else path.read_bytes() if path.is_file() else b"link"
        if path.is_symlink():
            content = os.readlink(path).encode()
        found[name] = (path.lstat().st_mode, content)
    return found


def install(root: Path, wanted: list[Item]) -> None:
    known = record.read(root) or Record()
    found = look(root, wanted, known)
    assert not found.foreign
    apply(root, found, wanted, known)


def remove(root: Path) -> None:
    if known := record.read(root):
        apply(root, look(root, (), known), (), known)


def at(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def test_what_was_written_is_taken_back_and_no_more(root: Path) -> None:
    before = tree(root)
    old = os.umask(0o077)
    try:
        install(root, OLD)
    finally:
        os.umask(old)
    assert at(root, UNIT).read_bytes() == b"one\n"
    assert at(root, UNIT).stat().st_mode & 0o7777 == 0o644
    assert at(root, CONFIG).parent.stat().st_mode & 0o7777 == 0o755
    assert at(root, PROGRAM).stat().st_mode & 0o7777 == 0o755
    assert os.readlink(at(root, IN_PATH)) == str(PROGRAM)
    assert at(root, record.PATH).stat().st_mode & 0o7777 == 0o600
    assert at(root, record.PATH).parent.stat().st_mode & 0o7777 == 0o700
    remove(root)
    assert tree(root) == before
    remove(root)
    assert tree(root) == before


def test_once_more_changes_nothing(root: Path) -> None:
    install(root, OLD)
    once = tree(root)
    found = look(root, OLD, record.read(root) or Record())
    assert (found.write, found.remove, found.leave) == ((), (), ())
    install(root, OLD)
    assert tree(root) == once


def test_a_newer_version_replaces_the_older_one(root: Path) -> None:
    before = tree(root)
    install(root, OLD)
    install(root, NEW)
    assert at(root, UNIT).read_bytes() == b"two\n"
    assert not at(root, RULE).exists()
    assert at(root, CONFIG).read_bytes() == b"[crash]\n[reboot]\n"
    remove(root)
    assert tree(root) == before


@pytest.mark.parametrize("wanted", [NEW, []])
def test_what_the_administrator_changed_stays(root: Path, wanted: list[Item]) -> None:
    install(root, OLD)
    for path in (UNIT, RULE, CONFIG):
        at(root, path).write_text("mine\n")
    found = look(root, wanted, record.read(root) or Record())
    assert set(found.leave) == {UNIT, RULE, CONFIG}
    apply(root, found, wanted, record.read(root) or Record())
    assert {at(root, path).read_text() for path in found.leave} == {"mine\n"}
    # And is still the administrator's the next time.
    if wanted:
        remove(root)
        assert at(root, UNIT).read_text() == "mine\n"


def test_what_was_there_before_is_not_ours(root: Path) -> None:
    at(root, CONFIG).parent.mkdir()
    at(root, CONFIG).write_bytes(b"mine\n")
    at(root, RULE).write_bytes(b"rule\n")
    before = tree(root)
    assert look(root, OLD, Record()).leave == (CONFIG,)
    install(root, OLD)
    assert at(root, CONFIG).read_bytes() == b"mine\n"
    remove(root)
    assert tree(root) == before


def test_what_is_in_the_way_is_named(root: Path) -> None:
    at(root, UNIT).write_text("another\n")
    at(root, RULE).mkdir()
    assert look(root, OLD, Record()).foreign == (UNIT, RULE)


def test_a_masked_unit_stays_masked(root: Path) -> None:
    at(root, UNIT).symlink_to("/dev/null")
    install(root, OLD)
    remove(root)
    assert os.readlink(at(root, UNIT)) == "/dev/null"


@pytest.mark.parametrize("first", [[], OLD])
@pytest.mark.parametrize("then", ["again", "remove"])
def test_it_can_be_interrupted_anywhere(
    root: Path, monkeypatch: pytest.MonkeyPatch, first: list[Item], then: str
) -> None:
    """Whichever step fails: doing it again, or taking it back, ends as if none had."""
    before = tree(root)
    real = os.replace
    steps = 0
    while True:
        remove(root)
        assert tree(root) == before
        if first:
            install(root, first)
        left = steps

        def replace(old: Path, new: Path) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device", str(old))
            real(old, new)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", replace)
            try:
                install(root, NEW)
                break
            except InstallError as error:
                told = str(error)
        assert "No space left on device" in told
        assert "--remove" in told
        if then == "again":
            install(root, NEW)
            assert at(root, UNIT).read_bytes() == b"two\n"
            assert not at(root, RULE).exists()
        steps += 1
    assert steps >= len(NEW), "the record, each file but the link, and the record"


def test_a_link_that_leads_out_of_the_image_is_not_followed(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    at(root, UNIT).parent.rmdir()
    at(root, UNIT).parent.symlink_to(elsewhere)
    with pytest.raises(InstallError, match="leads out of"):
        look(root, OLD, Record())


@pytest.mark.parametrize("content", [b"", b"{}x", b'{"files": {"/a": "b"}}', b'{"more": 1}'])
def test_a_record_that_cannot_be_used_is_an_error(root: Path, content: bytes) -> None:
    path = at(root, record.PATH)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(RecordError, match="cannot be used"):
        record.read(root)


def test_a_record_that_others_could_write_is_an_error(root: Path) -> None:
    install(root, OLD)
    at(root, record.PATH).chmod(0o666)
    with pytest.raises(RecordError, match="others may write"):
        record.read(root)
