# SPDX-License-Identifier: GPL-2.0-or-later
"""What the adapter asks of the daemon; it knows nothing else of it."""

from __future__ import annotations

from typing import Protocol

from kexecwatchd.model import ImageName
from kexecwatchd.report import Details, ImageStatus, Status


class ReloadRefused(Exception):
    """A reload that will not be done; its text is a sentence that says why and what would help."""


class Backend(Protocol):
    """The daemon as the bus sees it. The adapter has checked the caller's rights already."""

    def status(self) -> Status:
        """The state as last seen, at once. Holds both images."""

    def details(self) -> Details:
        """The addresses behind the state as last seen, at once. For root alone."""

    async def reload(self, image: ImageName) -> ImageStatus:
        """Load the image again; its status when that is done. Raises ReloadRefused."""

    async def verify(self) -> Status:
        """Look at the machine afresh, and ask the checks. Simultaneous calls share one look."""
