# SPDX-License-Identifier: GPL-2.0-or-later
"""Who but root may change something: polkit decides (org.freedesktop.PolicyKit1.Authority).

polkit is asked about the caller's connection, never about a process: the number of a process can
belong to another one by the time polkit looks. The actions are those of
dbus/org.kexecwatch1.policy.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dbus_fast import DBusError, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from kexecwatchd.bus import names
from kexecwatchd.bus.peers import Peers

# Seconds. Without a person to wait for, polkit answers in milliseconds once it runs.
_PATIENCE = 25.0

_ABSENT = (
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.ServiceUnknown",
)

# polkit's CheckAuthorizationFlags.
_NO_DIALOG = 0
_ALLOW_DIALOG = 1

# What we cancel a check by; ours alone, so a count will do.
_checks = itertools.count(1)


class Right(StrEnum):
    """polkit's actions, as rules name them."""

    RELOAD = "org.kexecwatch1.reload"
    DISCARD = "org.kexecwatch1.discard"
    SET_MODE = "org.kexecwatch1.set-mode"
    HOLD = "org.kexecwatch1.hold"


_PURPOSE = {
    Right.RELOAD: "load an image again",
    Right.DISCARD: "unload an image",
    Right.SET_MODE: "change an image's mode",
    Right.HOLD: "keep images from being loaded",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `dialog`: the caller has said that it may be asked for a password."""

    name: str
    uid: int
    dialog: bool


async def authorize(
    bus: MessageBus, peers: Peers, caller: Caller, right: Right, details: Mapping[str, str]
) -> None:
    """Return if the caller may; else raise DBusError with a sentence that says what would help.

    Root may without polkit, so that a machine that lacks it can be administered. `details` tell
    polkit's rules what it is about. With a dialog this takes as long as a person does; when the
    caller ends meanwhile, so does the dialog.
    """
    if caller.uid == 0:
        return
    wish = _PURPOSE[right]
    cancellation = f"kexecwatchd-{next(_checks)}"
    check = Message(
        destination="org.freedesktop.PolicyKit1",
        path="/org/freedesktop/PolicyKit1/Authority",
        interface="org.freedesktop.PolicyKit1.Authority",
        member="CheckAuthorization",
        signature="(sa{sv})sa{ss}us",
        body=[
            ["system-bus-name", {"name": Variant("s", caller.name)}],
            right.value,
            dict(details),
            _ALLOW_DIALOG if caller.dialog else _NO_DIALOG,
            cancellation,
        ],
    )
    try:
        if caller.dialog:
            reply = await _as_long_as_there(bus, peers, caller.name, cancellation, check)
        else:
            async with asyncio.timeout(_PATIENCE):
                reply = await bus.call(check)
    except TimeoutError:
        raise _without_polkit(wish, f"did not answer within {_PATIENCE:.0f} s") from None
    if reply.message_type is not MessageType.METHOD_RETURN:
        absent = reply.error_name in _ABSENT
        raise _without_polkit(wish, "is not there" if absent else f"answered {reply.error_name}")
    authorized, challenge, result = reply.body[0]
    if not authorized:
        raise _denied(wish, caller, challenge=challenge, dismissed="polkit.dismissed" in result)


async def _as_long_as_there(
    bus: MessageBus, peers: Peers, name: str, cancellation: str, check: Message
) -> Message:
    """polkit's answer, which is an error once this connection has ended."""
    cancel = functools.partial(_cancel, bus, cancellation)
    await peers.watch(name, cancel)
    try:
        return await bus.call(check)
    finally:
        peers.unwatch(name, cancel)


def _cancel(bus: MessageBus, cancellation: str) -> None:
    bus.send(
        Message(
            destination="org.freedesktop.PolicyKit1",
            path="/org/freedesktop/PolicyKit1/Authority",
            interface="org.freedesktop.PolicyKit1.Authority",
            member="CancelCheckAuthorization",
            signature="s",
            body=[cancellation],
            flags=MessageFlag.NO_REPLY_EXPECTED,
        )
    )


def _denied(wish: str, caller: Caller, *, challenge: bool, dismissed: bool) -> DBusError:
    if dismissed:
        return DBusError(
            names.ERROR_ACCESS_DENIED,
            f"You may {wish} once you have authenticated, and that was dismissed: call this again.",
        )
    if challenge and caller.dialog:
        return DBusError(
            names.ERROR_INTERACTIVE,
            f"To {wish} you must authenticate, and there is nobody to ask you for a password:"
            " call this as root, or with pkttyagent (or another polkit agent) running.",
        )
    if challenge:
        return DBusError(
            names.ERROR_INTERACTIVE,
            f"To {wish} you must authenticate: call this as root, or allow interactive"
            " authorization (a flag of the message; busctl sets it by itself).",
        )
    return DBusError(
        names.ERROR_ACCESS_DENIED,
        f"You may not {wish}: polkit says no. Call this as root, or have an administrator allow it"
        " to you in a rule in /etc/polkit-1/rules.d.",
    )


def _without_polkit(wish: str, problem: str) -> DBusError:
    return DBusError(
        names.ERROR_ACCESS_DENIED,
        f"Only root may {wish} as things are: polkit, which decides for all others, {problem}."
        " Call this as root, or see whether polkit is installed and runs: systemctl status polkit.",
    )
