# SPDX-License-Identifier: GPL-2.0-or-later
"""New files for an image that is loaded: are they to be loaded, and what does that wait for? Pure.

The ledger remembers which files were on disk when the last load was tried, or when somebody else's
image was first seen (`ImageRecord.tried`). Whatever else is there now, and whole, is new.
"""

from __future__ import annotations

from dataclasses import replace

from kexecwatchd.ledger import ImageRecord
from kexecwatchd.model import Load
from kexecwatchd.ondisk import OnDisk, Signatures


def adopt(record: ImageRecord, disk: OnDisk | None, before: OnDisk | None) -> ImageRecord:
    """The record of an image that is loaded, where the files on disk are to count as its own.
    `before`: the files at the look before."""
    if disk is None:
        return record
    if record.tried is None or not record.tried.same_paths(disk.signatures):
        # Half-written files are those of no image; and of files that changed since the look before
        # nobody knows whether the image was loaded before that or after it.
        doubtful = disk.written or (before is not None and disk.replaces(before))
        tried = unfinished(disk.signatures) if doubtful else disk.signatures
        return record.model_copy(update={"tried": tried})
    if disk.same:
        return record.model_copy(update={"tried": disk.signatures, "degraded": ""})
    return record


def tried(disk: OnDisk | None) -> Signatures | None:
    """What a load that begins now will have tried: where the files are not finished, none that will
    ever be there. None where nobody looked."""
    if disk is None:
        return None
    return unfinished(disk.signatures) if disk.unfinished else disk.signatures


def unfinished(signatures: Signatures) -> Signatures:
    """Of these paths, a state that no file is in, so that whatever comes of them is new."""
    return replace(signatures, of_kernel="unfinished", of_initrd="unfinished")


def not_ready(disk: OnDisk | None) -> str:
    """Why the configured files are not to take the place of others that are loaded; "" = they are.

    Our copies of the last good ones would be loaded in their stead, and these may well be loaded.
    """
    if disk is None:
        return ""
    if disk.written:
        return f"the {disk.written} of it is being written; it is loaded once that is done"
    missing = disk.signatures.missing
    return f"the {missing} of it is not there" if missing else ""


def wanted(record: ImageRecord, disk: OnDisk | None) -> Load | str:
    """For an image that is loaded: the load that new files call for, or why it is not done ("" when
    there are none)."""
    if disk is None or record.tried is None:
        return ""
    what = disk.signatures.changed(record.tried)
    if not what:
        return ""
    if disk.written:
        return f"a new {disk.written} is being written; it is loaded once that is done"
    if disk.packages:
        return f"the {what} on disk changed; it is loaded once {disk.packages} has done its work"
    if not disk.quiet:
        return f"the {what} on disk changed just now; it is loaded once nothing changes any more"
    if disk.refused and disk.refused == record.degraded:
        return ""  # it is known why others are loaded
    if disk.refused:
        return f"the {what} on disk changed, and cannot be loaded: {disk.refused}"
    since = "" if record.ours else ", after somebody else loaded the image"
    were = "were" if " and " in what else "was"
    return Load(f"the {what} on disk {were} replaced{since}")
