# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: defaults, merging, and each mistake with the message that it gets."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.config import (
    Config,
    ConfigError,
    Sources,
    check_files,
    from_tables,
    load,
)
from kexecwatchd.configproblems import Origins
from kexecwatchd.model import ImageFiles, ImageName, Mode
from kexecwatchd.profiles import SetUp

FULL = """
[crash]
mode = "ensure"
kernel = "/boot/vmlinuz"
initrd = "/boot/initrd.img"
cmdline = "irqpoll nr_cpus=1"
"""

NOT_THERE = "does not exist; correct the name or create it"
NOT_A_FILE = "is not a regular file; give a file, or a symbolic link to one"
WRITABLE = "others may write to it (mode {}): chmod go-w {}"


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Sources with an empty vendor file, as an installation has one."""
    made = Sources(root=tmp_path)
    write(made.vendor, "")
    return made


def write(path: Path, text: str | bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def problems(sources: Sources) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(sources)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def local_problem(sources: Sources, text: str | bytes) -> str:
    """The one problem of a local file, without the file's name that it must begin with."""
    write(sources.local, text)
    (problem,) = problems(sources)
    assert problem.startswith(f"{sources.local}: ")
    return problem.removeprefix(f"{sources.local}: ")


def test_empty_files_give_the_defaults(sources: Sources) -> None:
    made = load(sources)
    assert made == Config()
    for image in (made.crash, made.reboot):
        assert image.mode is Mode.FOLLOW
        assert image.files is None
    assert (made.pacing.quiet, made.pacing.max_wait, made.pacing.unarmed_budget) == (0.1, 2, 0.05)


def test_what_is_written_is_what_comes_out(sources: Sources) -> None:
    write(sources.local, FULL + '[reboot]\nmode = "off"\n[pacing]\nquiet = 1\nmax_wait = 1.0\n')
    made = load(sources)
    assert made.image(ImageName.CRASH).mode is Mode.ENSURE
    assert made.image(ImageName.CRASH).files == ImageFiles(
        Path("/boot/vmlinuz"), Path("/boot/initrd.img"), "irqpoll nr_cpus=1"
    )
    assert made.image(ImageName.REBOOT).mode is Mode.OFF
    assert made.pacing.quiet == made.pacing.max_wait == 1.0


def test_later_files_win_key_by_key(sources: Sources) -> None:
    write(sources.vendor, '[crash]\nmode = "observe"\n[pacing]\nquiet = 0.2\n')
    write(sources.local, '[crash]\nkernel = "/k1"\ncmdline = "one"\n')
    write(sources.drop_ins / "20.toml", '[crash]\ncmdline = "three"\n')
    write(sources.drop_ins / "10.toml", '[crash]\ncmdline = "two"\nkernel = "/k2"\n')
    write(sources.drop_ins / "30.conf", "not read")
    write(sources.drop_ins / ".#40.toml", "not read")
    made = load(sources)
    assert made.crash.mode is Mode.OBSERVE
    assert made.crash.files == ImageFiles(Path("/k2"), None, "three")
    assert made.pacing.quiet == 0.2
    assert made.origin("crash", "cmdline") == sources.drop_ins / "20.toml"
    assert made.origin("crash", "kernel") == sources.drop_ins / "10.toml"
    assert made.origin("reboot", "mode") is None


def test_equal_values_are_equal_wherever_they_came_from(sources: Sources) -> None:
    write(sources.vendor, "[crash]\n[pacing]\nquiet = 0.1\n")
    assert load(sources) == Config()
    write(sources.local, FULL)
    changed = load(sources)
    assert changed != Config()
    sources.local.rename(write(sources.drop_ins / "1.toml", ""))
    assert load(sources) == changed
    assert hash(load(sources)) == hash(changed)


def test_the_local_file_is_enough(tmp_path: Path) -> None:
    sources = Sources(root=tmp_path)
    write(sources.local, '[crash]\nmode = "off"\n')
    assert load(sources).crash.mode is Mode.OFF


def test_no_file_at_all_names_both(tmp_path: Path) -> None:
    sources = Sources(root=tmp_path)
    (problem,) = problems(sources)
    assert problem == (
        f"neither {sources.vendor} nor {sources.local} exists; "
        "install the first again, or write the second"
    )


def test_an_explicit_file_replaces_all_others(sources: Sources, tmp_path: Path) -> None:
    write(sources.local, "this is not TOML")
    explicit = write(tmp_path / "my.toml", '[crash]\nmode = "off"\n')
    assert load(Sources(sources.root, explicit)).crash.mode is Mode.OFF


def test_an_explicit_file_must_exist(sources: Sources, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    assert problems(Sources(sources.root, path)) == (f"{path}: {NOT_THERE}",)


MISTAKES = {
    '[crash]\nkernal = "/k"\n': "[crash] kernal: unknown key; did you mean kernel? "
    "known here: mode, kernel, initrd, cmdline",
    "[crahs]\n": "[crahs]: unknown table; did you mean crash? known here: crash, reboot, pacing",
    "[pacing]\nx = 1\n": "[pacing] x: unknown key; known here: quiet, max_wait, unarmed_budget",
    '"a\\nb" = 1\n': '["a\\nb"]: unknown table; known here: crash, reboot, pacing',
    "crash = 5\n": "[crash]: 5 is an integer; expected a table, [crash]",
    "[crash]\nmode = true\n": "[crash] mode: true is a boolean; "
    'expected one of "ensure", "follow", "observe", "off"',
    '[crash]\nmode = "on"\n': '[crash] mode: "on" is not one of them; '
    'expected one of "ensure", "follow", "observe", "off"',
    "[reboot]\nkernel = 7\n": "[reboot] kernel: 7 is an integer; "
    'expected the absolute path of a kernel, such as "/boot/vmlinuz"',
    '[crash]\nkernel = "vmlinuz"\n': '[crash] kernel: "vmlinuz" is not an absolute path; '
    'expected the absolute path of a kernel, such as "/boot/vmlinuz"',
    '[crash]\ninitrd = ""\n': '[crash] initrd: "" is not an absolute path; '
    'expected the absolute path of an initrd, such as "/boot/initrd.img"',
    '[crash]\nkernel = "/a\\u0000b"\n': '[crash] kernel: "/a\\u0000b" contains a NUL; '
    'expected the absolute path of a kernel, such as "/boot/vmlinuz"',
    '[crash]\ncmdline = ["a"]\n': '[crash] cmdline: ["a"] is an array; '
    "expected the kernel's command line, one line in one string",
    '[crash]\ncmdline = "a\\nb"\n': '[crash] cmdline: "a\\nb" contains a NUL or a line break; '
    "expected the kernel's command line, one line in one string",
    '[crash]\ncmdline = "a\\u0000"\n': '[crash] cmdline: "a\\u0000" contains a NUL or a line '
    "break; expected the kernel's command line, one line in one string",
    '[pacing]\nquiet = "1"\n': '[pacing] quiet: "1" is a string; expected seconds, more than 0',
    "[pacing]\nquiet = 0\n": "[pacing] quiet: 0 is too small; expected seconds, more than 0",
    "[pacing]\nquiet = false\n": "[pacing] quiet: false is a boolean; "
    "expected seconds, more than 0",
    "[pacing]\nmax_wait = inf\n": "[pacing] max_wait: Infinity is not a finite number; "
    "expected seconds, at least as many as quiet",
    "[pacing]\nmax_wait = 2024-02-03\n": '[pacing] max_wait: "2024-02-03" is a date or time; '
    "expected seconds, at least as many as quiet",
    "[pacing]\nquiet = 100\n": "[pacing] max_wait: 2 is less than quiet, which is 100; "
    "expected seconds, at least as many as quiet",
    "[pacing]\nunarmed_budget = 5\n": "[pacing] unarmed_budget: 5 is too large; "
    "expected a share of the time, more than 0 and at most 1",
    '[reboot]\nmode = "ensure"\n': '[reboot] kernel: is missing, and mode = "ensure" needs it; '
    'expected the absolute path of a kernel, such as "/boot/vmlinuz"',
    '[crash]\nkernel = "/k"\n': "[crash] cmdline: is missing, and kernel is set; "
    "expected the kernel's command line, one line in one string",
    '[reboot]\ninitrd = "/i"\n': "[reboot] initrd: is set, but kernel is not; "
    "set kernel too, or neither",
    '[reboot]\ncmdline = ""\n': "[reboot] cmdline: is set, but kernel is not; "
    "set kernel too, or neither",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_with_its_remedy(sources: Sources, text: str) -> None:
    assert local_problem(sources, text) == MISTAKES[text]


def test_a_long_value_is_cut_short(sources: Sources) -> None:
    problem = local_problem(sources, f'[crash]\nmode = "{"m" * 500}"\n')
    assert problem.startswith('[crash] mode: "mmm')
    assert len(problem) < 200


def test_toml_mistakes_have_line_and_column(sources: Sources) -> None:
    problem = local_problem(sources, "[crash]\nmode\n")
    assert problem.startswith("not valid TOML: ")
    assert "line 2, column 5" in problem


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 10_000])
def test_what_the_toml_parser_cannot_bear_is_a_problem_too(sources: Sources, text: str) -> None:
    assert local_problem(sources, text).startswith("not valid TOML: ")


def test_a_number_beyond_printing_is_a_problem_too(sources: Sources) -> None:
    assert "a huge number" in local_problem(sources, f"[pacing]\nquiet = [0x{'f' * 9999}]\n")


def test_bad_encoding_names_the_byte(sources: Sources) -> None:
    assert local_problem(sources, b"# \xff\n") == "not UTF-8 at byte 2; save it in UTF-8"


def test_all_mistakes_are_told_at_once(sources: Sources) -> None:
    write(sources.local, '[crash]\nmode = 1\nfoo = 2\n[reboot]\nkernel = "x"\n')
    assert len(problems(sources)) == 3


def test_all_unreadable_files_are_told_at_once(sources: Sources) -> None:
    write(sources.vendor, "a b")
    write(sources.local, "c d")
    assert [p.split(": ")[0] for p in problems(sources)] == [
        str(sources.vendor),
        str(sources.local),
    ]


def test_after_merging_the_right_file_is_blamed(sources: Sources) -> None:
    first = write(sources.drop_ins / "1.toml", '[reboot]\nmode = "ensure"\n[pacing]\nquiet = 9\n')
    second = write(sources.drop_ins / "2.toml", '[crash]\nkernel = 1\ncmdline = "x"\n')
    write(sources.local, '[crash]\nmode = "observe"\n')
    told = problems(sources)
    assert len(told) == 3
    assert told[0].startswith(f"{second}: [crash] kernel: 1 is an integer")
    assert told[1].startswith(f"{first}: [reboot] kernel: is missing")
    assert told[2].startswith(f"{first}: [pacing] max_wait: 2 is less than quiet")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(sources: Sources, mode: int) -> None:
    write(sources.local, "", mode)
    assert problems(sources) == (
        f"{sources.local}: {WRITABLE.format(f'{mode:04o}', sources.local)}",
    )


def test_a_file_of_someone_else_is_refused(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(sources.local, "")
    status = os.stat_result((0o100644, 1, 1, 1, 4711, 0, 0, 0, 0, 0))
    monkeypatch.setattr("kexecwatchd.trusted.os.fstat", lambda _fd: status)
    told = problems(sources)
    assert f"{sources.local}: belongs to uid 4711, not to root: chown root {sources.local}" in told


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(sources: Sources, make: Any) -> None:
    sources.local.parent.mkdir(parents=True)
    make(sources.local)
    (problem,) = problems(sources)
    assert problem == f"{sources.local}: {NOT_A_FILE}"


def test_a_dangling_link_is_not_taken_for_no_file(sources: Sources) -> None:
    sources.local.parent.mkdir(parents=True)
    sources.local.symlink_to("nowhere")
    (problem,) = problems(sources)
    assert problem == f"{sources.local}: {NOT_THERE}"


def test_a_loop_of_links_says_what_the_system_said(sources: Sources) -> None:
    sources.local.parent.mkdir(parents=True)
    sources.local.symlink_to(sources.local)
    (problem,) = problems(sources)
    assert "cannot open it: Too many levels of symbolic links; check it with: namei -l" in problem


def test_drop_ins_that_are_no_directory(sources: Sources) -> None:
    write(sources.drop_ins, "")
    assert problems(sources) == (f"{sources.drop_ins}: cannot list it: Not a directory",)


def test_files_in_order_are_no_problem(sources: Sources, tmp_path: Path) -> None:
    kernel = write(tmp_path / "vmlinuz-1", "x")
    (tmp_path / "vmlinuz").symlink_to(kernel)
    write(sources.local, f'[crash]\nkernel = "{tmp_path}/vmlinuz"\ncmdline = ""\n')
    assert check_files(load(sources)) == []


def test_files_out_of_order_name_file_and_key(sources: Sources, tmp_path: Path) -> None:
    write(tmp_path / "k", "x", 0o666)
    write(sources.local, f'[crash]\nkernel = "{tmp_path}/none"\ncmdline = ""\n')
    drop_in = write(
        sources.drop_ins / "1.toml",
        f'[crash]\ninitrd = "{tmp_path}"\n[reboot]\nkernel = "{tmp_path}/k"\ncmdline = ""\n',
    )
    assert check_files(load(sources)) == [
        f"{sources.local}: [crash] kernel: {tmp_path}/none: {NOT_THERE}",
        f"{drop_in}: [crash] initrd: {tmp_path}: {NOT_A_FILE}",
        f"{drop_in}: [reboot] kernel: {tmp_path}/k: {WRITABLE.format('0666', tmp_path / 'k')}",
    ]


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().crash.mode = Mode.OFF  # type: ignore[misc]


words = st.sampled_from(
    ["crash", "reboot", "pacing", "mode", "kernel", "initrd", "cmdline", "quiet", "max_wait"]
)
scalars = (
    st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text()
    | st.sampled_from(["ensure", "follow", "/boot/vmlinuz", "/a\0", "{x}"])
    | st.dates()
)
keys = words | st.text()
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)


def outcome(read: Callable[[], Config]) -> tuple[str, ...]:
    """The problems of a ConfigError, or none for a Config; any other exception fails the test."""
    try:
        made = read()
    except ConfigError as error:
        return error.problems or ("an error without a problem",)
    assert isinstance(made, Config)
    return ()


@given(st.dictionaries(keys, st.dictionaries(keys, junk, max_size=5) | junk, max_size=5))
def test_any_junk_is_a_config_or_a_config_error(tables: dict[str, Any]) -> None:
    origins: Origins = {(table,): Path("/f.toml") for table in tables}
    for problem in outcome(lambda: from_tables(tables, origins)):
        assert problem.startswith("/f.toml: [")
        assert "; " in problem
        assert "\n" not in problem


def test_any_bytes_are_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "any.toml"

    @given(st.binary() | st.text(st.sampled_from('[]=".crashmode#\n1{},')).map(str.encode))
    def check(content: bytes) -> None:
        write(path, content)
        for problem in outcome(lambda: load(Sources(explicit=path))):
            assert problem.startswith(f"{path}: ")

    check()


def test_a_date_is_told_as_toml_writes_it() -> None:
    with pytest.raises(ConfigError, match="2024-02-03"):
        from_tables({"pacing": {"quiet": date(2024, 2, 3)}}, {})


# Completed by what a distribution's tool would load

THEIRS = ImageFiles(Path("/boot/vmlinuz"), Path("/boot/initrd.img"), "ro nr_cpus=1")
DEFAULTS = Path("/etc/default/kdump-tools")
SET_UP = SetUp("kdump-tools", THEIRS, origins={"kernel": DEFAULTS, "cmdline": DEFAULTS})
OFF = SetUp("kdump-tools", None, "it is switched off", idle=True)


def with_cmdline(cmdline: str) -> SetUp:
    return SetUp("kdump-tools", THEIRS._replace(cmdline=cmdline))


def test_a_tool_stands_in_for_a_kernel(sources: Sources) -> None:
    write(sources.local, '[crash]\nmode = "ensure"\n[pacing]\nquiet = 1\n')
    made = load(sources).completed(SET_UP, "x86_64")
    assert made.crash.files == THEIRS._replace(cmdline="ro nr_cpus=1 acpi_no_memhotplug")
    assert (made.crash.mode, made.pacing.quiet, made.reboot.files) == (Mode.ENSURE, 1, None)
    assert made.origin("crash", "kernel") == made.origin("crash", "cmdline") == DEFAULTS
    assert made.origin("crash", "mode") == sources.local
    assert made.setup == SET_UP
    assert made != load(sources)
    assert made == load(sources).completed(SET_UP, "x86_64")


def test_ours_comes_first(sources: Sources) -> None:
    write(sources.local, FULL)
    made = load(sources).completed(SET_UP, "x86_64")
    assert made.crash.files == ImageFiles(*THEIRS[:2], "irqpoll nr_cpus=1")
    assert (made.setup, made.origin("crash", "kernel")) == (None, sources.local)


@pytest.mark.parametrize(
    ("machine", "theirs", "ours"),
    [
        ("x86_64", "a  b ", "a  b  acpi_no_memhotplug"),
        ("x86_64", "a acpi_no_memhotplug b", "a acpi_no_memhotplug b"),
        ("x86_64", "acpi_no_memhotplug=1", "acpi_no_memhotplug=1 acpi_no_memhotplug"),
        ("x86_64", "a -- b", "a acpi_no_memhotplug -- b"),
        ("x86_64", "a -- acpi_no_memhotplug", "a acpi_no_memhotplug -- acpi_no_memhotplug"),
        ("aarch64", "a b", "a b"),
    ],
)
def test_the_one_word_that_is_added(machine: str, theirs: str, ours: str) -> None:
    assert Config().completed(with_cmdline(theirs), machine).crash.cmdline == ours


def test_a_tool_that_names_none_is_told(sources: Sources) -> None:
    made = Config().completed(OFF, "x86_64")
    assert made.crash.files is None
    assert made.crash.none == "; kdump-tools names none: it is switched off"
    assert check_files(made) == []
    write(sources.local, '[crash]\nmode = "ensure"\n')
    [problem] = check_files(load(sources).completed(OFF, "x86_64"))
    assert problem == (
        f'{sources.local}: [crash] kernel: is missing, and mode = "ensure" needs it; kdump-tools'
        " names none: it is switched off"
    )
    alone = load(sources).completed(None, "x86_64")
    assert (alone, alone.crash.none) == (load(sources), "")
    assert check_files(alone)[0].endswith('and mode = "ensure" needs it')


def test_their_files_are_checked_too(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    setup = SetUp("kdump-tools", ImageFiles(gone, None, "ro"), origins={"kernel": DEFAULTS})
    [problem] = check_files(Config().completed(setup, "x86_64"))
    assert problem == f"{DEFAULTS}: [crash] kernel: {gone}: {NOT_THERE}"
