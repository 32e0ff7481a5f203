# SPDX-License-Identifier: GPL-2.0-or-later
"""A look at the machine without the daemon. What the daemon noted counts where it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kexecwatchd import ledger
from kexecwatchd.kernel import kexec_state
from kexecwatchd.ledger import Ledger
from kexecwatchd.model import ImageFiles, ImageName, Observation, State, Verdict
from kexecwatchd.observe import Observer
from kexecwatchd.reconcile import recognise

_NOT_SEEN_BEFORE = (
    "where it lies, and what became of that memory, is not known: kexecwatchd did not load it, and"
    " did not run since"
)


@dataclass(frozen=True, slots=True)
class OwnLook:
    """`noted`: the ledger as it was found; `known`: what of it is of the images that are loaded
    now. `trouble`: why there is a ledger of this boot and it does not count, "" = it does."""

    seen: Observation
    noted: Ledger
    known: Ledger
    trouble: str

    def honest(self, image: ImageName, verdict: Verdict) -> Verdict:
        """That no memory went since an image was first seen means nothing at first sight."""
        foreign = self.seen.reboot_loaded and self.noted.reboot.ram is None
        if foreign and image is ImageName.REBOOT and verdict.state is State.UNKNOWN:
            return Verdict(State.UNKNOWN, _NOT_SEEN_BEFORE)
        return verdict


def look(root: Path, machine: str = "", reboot_files: ImageFiles | None = None) -> OwnLook:
    """`machine` is as for Observer, `reboot_files` as for its look. Raises OSError or ValueError
    where even which boot this is cannot be read."""
    path = root / "run/kexecwatchd/ledger.json"
    noted, trouble = ledger.read(path, kexec_state.boot_id(root))
    seen = Observer(root, machine).look(noted, reboot_files=reboot_files)
    return OwnLook(seen, noted, recognise(seen, noted), trouble)
