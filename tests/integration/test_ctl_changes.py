# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that change something, as a program, against the service on a real bus."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kexecwatchd.ctl.exitcodes import ExitCode
from kexecwatchd.model import ImageName, Mode, State
from kexecwatchd.report import ImageMode, ModeReport
from kexecwatchd.requests import LoadFailed, Refused
from tests.integration.harness import NOBODY, FakeBackend, Ran, ctl, serving

pytestmark = pytest.mark.usefixtures("system_bus")

CHANGES = [
    ("reload", "crash"),
    ("discard", "crash"),
    ("mode", "crash", "off"),
    ("hold", "true"),
]


def change(backend: FakeBackend, name: ImageName, **changes: Any) -> None:
    """Have the daemon say this of an image from now on."""
    images = [i.model_copy(update=changes if i.image is name else {}) for i in backend.now.images]
    backend.now = backend.now.model_copy(update={"images": images})


async def told(backend: FakeBackend, *arguments: str, uid: int = 0) -> Ran:
    """What kexecwatchctl says with this daemon."""
    backend.may_reload.set()
    async with serving(backend):
        return await ctl(*arguments, uid=uid)


async def test_reload_says_what_is_so_afterwards(backend: FakeBackend) -> None:
    ran = await told(backend, "reload", "crash", "crash")
    assert (ran.code, ran.err) == (ExitCode.CURRENT, "")
    assert ran.out == "The crash image is current: it lists all memory.\n"
    assert backend.asked == [("reload", ImageName.CRASH, "uid 0")]


async def test_a_reload_that_leaves_an_image_wrong_is_3(backend: FakeBackend) -> None:
    change(
        backend,
        ImageName.CRASH,
        state=State.STALE,
        covered=False,
        reason="1 GiB is missing",
        next_step="it is loaded again in 5 s",
    )
    ran = await told(backend, "reload", "crash")
    assert ran.code == ExitCode.NOT_CURRENT
    assert ran.out == (
        "The crash image is stale: 1 GiB is missing. Next: it is loaded again in 5 s.\n"
    )


@pytest.mark.parametrize(
    ("mode", "loaded", "taken"),
    [
        (Mode.ENSURE, False, True),
        (Mode.FOLLOW, True, True),
        (Mode.FOLLOW, False, False),
        (Mode.OBSERVE, True, False),
        (Mode.OFF, True, False),
    ],
)
async def test_reload_by_itself_takes_what_is_loaded_or_is_to_be(
    backend: FakeBackend, mode: Mode, *, loaded: bool, taken: bool
) -> None:
    change(backend, ImageName.CRASH, mode=mode, loaded=loaded)
    change(backend, ImageName.REBOOT, mode=Mode.OFF)
    ran = await told(backend, "reload")
    assert backend.reloads == ([ImageName.CRASH] if taken else [])
    assert ran.code == (ExitCode.CURRENT if taken else ExitCode.ERROR)
    assert ("nothing to reload" in ran.err) is (not taken)


async def test_one_refusal_leaves_the_other_image_to_be_loaded(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = backend.reload

    async def failing(image: ImageName, by: str) -> Any:
        if image is ImageName.CRASH:
            raise LoadFailed("the crash image could not be loaded: EBUSY")
        return await reload(image, by)

    monkeypatch.setattr(backend, "reload", failing)
    ran = await told(backend, "reload")
    assert ran.code == ExitCode.ERROR
    assert ran.err == "kexecwatchctl: the crash image could not be loaded: EBUSY\n"
    assert ran.out == "The reboot image is current: it lists all memory.\n"


async def test_discard_says_what_that_means(backend: FakeBackend) -> None:
    change(backend, ImageName.CRASH, loaded=False, covered=False, state=State.ABSENT)
    ran = await told(backend, "discard", "crash")
    assert (ran.code, ran.err) == (ExitCode.CURRENT, "")
    assert ran.out.startswith("No crash image is loaded: a panic would write no dump.")
    assert "kexecwatchctl reload crash" in ran.out
    assert backend.asked == [("discard", ImageName.CRASH, "uid 0")]


async def test_an_image_that_is_there_after_a_discard_is_told(backend: FakeBackend) -> None:
    ran = await told(backend, "discard", "reboot")
    assert ran.code == ExitCode.NOT_CURRENT
    assert ran.out.startswith("A reboot image is loaded again.")


async def test_mode_shows_both_and_what_is_configured(backend: FakeBackend) -> None:
    change(backend, ImageName.REBOOT, mode=Mode.OFF, configured_mode=Mode.OFF)
    ran = await told(backend, "mode", uid=NOBODY)
    assert (ran.code, ran.err) == (ExitCode.CURRENT, "")
    crash, reboot = ran.out.splitlines()
    assert crash.startswith("crash   ensure: ")
    assert crash.endswith("(until the next boot; configured: follow)")
    assert reboot == "reboot  off: not looked at"
    assert not backend.asked


async def test_modes_as_json_are_the_model(backend: FakeBackend) -> None:
    ran = await told(backend, "mode", "--json", "crash")
    assert json.loads(ran.out)["schema_version"] == 1
    assert ModeReport.model_validate_json(ran.out).modes == [
        ImageMode(image=ImageName.CRASH, mode=Mode.ENSURE, configured_mode=Mode.FOLLOW)
    ]


@pytest.mark.parametrize(("word", "asked"), [("ensure", Mode.ENSURE), ("configured", None)])
async def test_a_mode_is_set_and_how_to_make_it_last_is_said(
    backend: FakeBackend, word: str, asked: Mode | None
) -> None:
    ran = await told(backend, "mode", "crash", word)
    assert (ran.code, ran.err) == (ExitCode.CURRENT, "")
    assert backend.asked == [("set_mode", ImageName.CRASH, asked, "uid 0")]
    assert "until the next boot; then it is follow again" in ran.out
    assert "/etc/kexecwatchd/kexecwatchd.toml.d/50-local.toml" in ran.out
    assert '    [crash]\n    mode = "ensure"\n' in ran.out
    assert "systemctl reload kexecwatchd" in ran.out


async def test_a_mode_that_is_the_configured_one_lasts(backend: FakeBackend) -> None:
    change(backend, ImageName.CRASH, configured_mode=Mode.ENSURE)
    ran = await told(backend, "mode", "crash", "configured")
    assert ran.out.endswith("(as configured).\n")
    assert "until" not in ran.out


@pytest.mark.parametrize("arguments", CHANGES, ids=lambda a: a[0])
async def test_a_refusal_is_the_daemons_sentence(
    backend: FakeBackend, arguments: tuple[str, ...]
) -> None:
    backend.trouble = Refused("it is not done: the machine is busy")
    ran = await told(backend, *arguments)
    assert (ran.code, ran.out) == (ExitCode.ERROR, "")
    assert ran.err == "kexecwatchctl: it is not done: the machine is busy\n"


@pytest.mark.parametrize("arguments", CHANGES, ids=lambda a: a[0])
async def test_others_are_told_who_may(backend: FakeBackend, arguments: tuple[str, ...]) -> None:
    """No polkit is on this bus."""
    ran = await told(backend, *arguments, uid=NOBODY)
    assert (ran.code, ran.out) == (ExitCode.ERROR, "")
    assert ran.err.startswith("kexecwatchctl: Only root may ")
    assert "as root:  sudo kexecwatchctl" in ran.err
    assert not backend.asked


@pytest.mark.parametrize("arguments", CHANGES, ids=lambda a: a[0])
async def test_without_a_daemon_nothing_is_done(arguments: tuple[str, ...]) -> None:
    ran = await ctl(*arguments)
    assert (ran.code, ran.out) == (ExitCode.UNREACHABLE, "")
    assert "systemctl start kexecwatchd" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("discard",),
        ("discard", "disk"),
        ("reload", "crash", "disk"),
        ("mode", "crash", "on"),
        ("hold", "--how", "x"),
    ],
)
async def test_what_is_not_known_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ran = await ctl(*arguments)
    assert ran.code == ExitCode.USAGE
    assert "usage: kexecwatchctl" in ran.err


@pytest.mark.parametrize("dashes", [(), ("--",)])
async def test_hold_runs_the_command_with_its_options(
    backend: FakeBackend, dashes: tuple[str, ...]
) -> None:
    ran = await told(
        backend, "hold", *dashes, "sh", "-c", 'echo "$@"; exit 5', "-", "-y", "--", "x"
    )
    assert (ran.code, ran.out, ran.err) == (5, "-y -- x\n", "")
    ((asked, who, why, by),) = backend.asked
    assert (asked, who, by) == ("hold", "sh", "uid 0")
    assert why.startswith("sh -c ")
    assert why.endswith("- -y -- x")
