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

from dbus_fast import BusType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from kexecwatchd.ctl.main import main as ctl_main
from tests.integration.harness import call

# What a method is given; one with an argument that is not here cannot be asked, and fails the test.
_ARGUMENTS = {
    "image": "crash",
    "mode": "off",
    "who": "visitor",
    "why": "to look around",
    "number": 1,
}


async def _read_all() -> dict[str, Any]:
    """Every method of every object, by its interface and by none, as introspection has them."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    answers: dict[str, Any] = {}

    async def ask(path: str, interface: str | None, member: str, signature: str, body: Any) -> Any:
        reply = await call(bus, member, signature, *body, path=path, interface=interface)
        question = " ".join(map(str, [path, interface, member, *body]))
        answers[question] = [reply.error_name or "", unpack_variants(reply.body)]
        return reply.body[0] if reply.body else None

    async def visit(path: str) -> None:
        xml = await ask(path, "org.freedesktop.DBus.Introspectable", "Introspect", "", [])
        await ask(path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", [])
        node = ElementTree.fromstring(xml)
        for found in node.findall("interface"):
            name = found.get("name", "")
            # dbus-fast knows the standard ones by their interface only.
            interfaces = [name] if name.startswith("org.freedesktop.") else [name, None]
            for method in found.findall("method"):
                takes = [a for a in method.findall("arg") if a.get("direction") == "in"]
                signature = "".join(a.get("type", "") for a in takes)
                for body in _bodies(node, method.get("name", ""), takes):
                    for interface in interfaces:
                        await ask(path, interface, method.get("name", ""), signature, body)
        for child in node.findall("node"):
            await visit(f"{path.rstrip('/')}/{child.get('name')}")

    await visit("/")
    bus.disconnect()
    return answers


def _bodies(
    node: ElementTree.Element, member: str, takes: list[ElementTree.Element]
) -> list[list[Any]]:
    """Each way in which a method is asked."""
    interfaces = node.findall("interface")
    if member == "GetAll":
        return [[interface.get("name")] for interface in interfaces]
    if member in ("Get", "Set"):
        return [
            [interface.get("name"), found.get("name"), Variant("s", "new")][: len(takes)]
            for interface in interfaces
            for found in interface.findall("property")
        ]
    return [[_ARGUMENTS[argument.get("name", "")] for argument in takes]]


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
