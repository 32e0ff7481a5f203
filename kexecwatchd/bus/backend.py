# SPDX-License-Identifier: GPL-2.0-or-later
"""What the adapter asks of the daemon; it knows nothing else of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from kexecwatchd.model import ImageName, Mode
from kexecwatchd.report import Details, History, ImageStatus, Status


class Backend(Protocol):
    """The daemon as the bus sees it. The adapter has checked the caller's rights already.

    `by` says who asks, for the history: "uid 1000". What is raised is requests.py's.
    """

    def status(self) -> Status:
        """The state as last seen, at once. Holds both images."""

    def details(self) -> Details:
        """The addresses behind the state as last seen, at once. For root alone."""

    def history(self) -> History:
        """What was decided in this boot, at once."""

    async def verify(self) -> Status:
        """Look at the machine afresh, and ask the checks. Simultaneous calls share one look."""

    async def reload(self, image: ImageName, by: str) -> ImageStatus:
        """Load the image again; its status when that is done. Raises Refused, Held, LoadFailed."""

    async def discard(self, image: ImageName, by: str) -> ImageStatus:
        """Unload the image and load no other in its place. Raises Refused, LoadFailed."""

    async def set_mode(self, image: ImageName, mode: Mode | None, by: str) -> ImageStatus:
        """Have another mode than the configured one until the next boot; None: the configured one
        again. Raises Refused."""

    async def hold(self, holder: str, who: str, why: str, by: str) -> int:
        """Load nothing until the hold of this number is released; no load is under way any more
        when this returns. `holder` stands for a connection, and ends with it. Raises TooManyHolds,
        and Refused where `who` names nobody.
        """

    async def release(self, holder: str, number: int, by: str) -> None:
        """End a hold of this holder. Raises NoSuchHold."""

    def holders(self) -> Collection[str]:
        """Everyone who holds now; after a restart of the daemon, everyone who did before it."""

    def gone(self, holder: str) -> None:
        """This connection has ended, and all of its holds with it."""
