# SPDX-License-Identifier: GPL-2.0-or-later
"""`visitor UID ctl ARGUMENTS...` or `visitor UID read`: comes to the bus as another user.

All modules are imported before the rights go: the interpreter and the checkout may lie in a
directory that the other user cannot enter.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any
from xml.etree import ElementTree

from dbus_fast import BusType
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from kexecwatchd.bus import names
from kexecwatchd.ctl.main import main as ctl_main
from kexecwatchd.model import ImageName
from tests.integration.harness import call

_PATHS = ("/", names.MANAGER_PATH, *(names.image_path(name) for name in ImageName))


async def _read_all() -> dict[str, Any]:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    answers: dict[str, Any] = {}

    async def ask(member: str, signature: str = "", *body: Any, **where: Any) -> Any:
        reply = await call(bus, member, signature, *body, **where)
        question = " ".join([member, *map(str, body), *map(str, where.values())])
        answers[question] = [reply.error_name or "", unpack_variants(reply.body)]
        return reply.body[0] if reply.body else None

    for path in _PATHS:
        xml = await ask("Introspect", path=path, interface="org.freedesktop.DBus.Introspectable")
        await ask("GetManagedObjects", path=path, interface="org.freedesktop.DBus.ObjectManager")
        for found in ElementTree.fromstring(xml).findall("interface"):
            await ask(
                "GetAll",
                "s",
                found.get("name"),
                path=path,
                interface="org.freedesktop.DBus.Properties",
            )
    await ask("Ping", interface="org.freedesktop.DBus.Peer")
    for interface in (names.MANAGER_INTERFACE, None):
        await ask("Verify", interface=interface)
        await ask("GetStatus", interface=interface)
        await ask("GetDetails", interface=interface)
        await ask("Reload", "s", "crash", interface=interface)
    bus.disconnect()
    return answers


def main() -> int:
    uid, verb, *arguments = sys.argv[1:]
    if int(uid):
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    if verb == "ctl":
        return ctl_main(arguments)
    print(json.dumps(asyncio.run(_read_all())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
