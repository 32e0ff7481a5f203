# SPDX-License-Identifier: GPL-2.0-or-later
"""Has each hold end with the connection that took it, whatever becomes of that or of us."""

from __future__ import annotations

import functools

from kexecwatchd.bus.backend import Backend
from kexecwatchd.bus.peers import Peers


class Holds:
    """The holds of one bus, for as long as we are connected to it.

    The backend knows a holder as the bus's GUID and the connection's unique name: unique names
    begin anew with each bus.
    """

    def __init__(self, backend: Backend, peers: Peers) -> None:
        self._backend = backend
        self._peers = peers
        self._guid = ""
        # Who is watched stays so until its connection ends: it may hold again.
        self._watched: set[str] = set()

    async def start(self) -> None:
        """End the holds of connections that ended while we did not look; raises as Peers does."""
        self._guid = await self._peers.guid()
        for holder in list(self._backend.holders()):
            guid, _, name = holder.partition(" ")
            if guid == self._guid:
                await self._watch(holder, name)
            else:
                self._backend.gone(holder)

    async def take(self, name: str, who: str, why: str, by: str) -> int:
        """A hold for this connection. Raises what Backend.hold raises."""
        holder = self._holder(name)
        await self._watch(holder, name)
        number = await self._backend.hold(holder, who, why, by)
        # It took a while: the caller may be gone, or the bus.
        if holder not in self._watched or not self._peers.connected:
            self._backend.gone(holder)
        return number

    async def release(self, name: str, number: int, by: str) -> None:
        """End a hold of this connection. Raises what Backend.release raises."""
        await self._backend.release(self._holder(name), number, by)

    def _holder(self, name: str) -> str:
        return f"{self._guid} {name}"

    async def _watch(self, holder: str, name: str) -> None:
        if holder in self._watched:
            return
        self._watched.add(holder)
        try:
            await self._peers.watch(name, functools.partial(self._ended, holder))
        except BaseException:
            self._watched.discard(holder)
            raise

    def _ended(self, holder: str) -> None:
        self._watched.discard(holder)
        self._backend.gone(holder)
