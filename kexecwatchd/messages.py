# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's entries: a message ID for each kind, what it means and what to do, and the fields.

The catalog (systemd/kexecwatchd.catalog, shown by `journalctl -x`) is made from this by
tools/catalog.py, and the manual lists both. An ID is made once, with uuid4, and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of entry. `id` is 32 hexadecimal digits; `subject` and `body` are for the catalog, in
    which @FIELD@ stands for the entry's field."""

    id: str
    name: str
    subject: str
    body: str


FIELDS = {
    "MESSAGE_ID": "the kind of entry; `journalctl -x` explains it",
    "DECISION": "the decision's number in `kexecwatchctl history`",
    "IMAGE": "crash or reboot; not there where both are meant",
    "ACTION": "verdict, load, unload, discard, set-mode, hold, release or configure",
    "SEEN": "the image's state before: current, stale, unsafe, absent, failed or unknown",
    "VERDICT": "its state after",
    "REASON": "why it was done; of a verdict, why it is so",
    "MISSING_BYTES": "memory that a dump would have lacked before",
    "EXTRA_BYTES": "memory that the image listed before, and that was no longer there",
    "MISSING_NOTES": "notes of CPUs that the image lacked before",
    "DURATION_USEC": "from the decision to the look that followed it, in microseconds",
    "UNARMED_USEC": "of these, how long a panic would have written no dump",
    "ERRNO": "the kernel's error number; not there where it gave none",
    "SOURCE": "which files were loaded: configured or last-good",
    "LOAD_COUNT": "successful loads of the image since boot",
    "ASKED_BY": "who asked for it, as uid N; not there where it was the daemon's own decision",
    "CHECK": "the check's name, as in `kexecwatchctl check`",
    "ANSWER": "what the check answers now: problem, warning, ok or not applicable",
}

VERDICT = Message(
    "d9413f7a80dd4301ac9fc35d67b875e8",
    "verdict",
    "The @IMAGE@ image is @VERDICT@",
    """\
The @IMAGE@ image was compared with the machine, and nothing is done about it now.

@REASON@

current: all is well. stale: a dump would lack memory, or could hang on memory that is gone.
unsafe: the image could not be started, or could soon not be. absent: none is loaded. failed: one
is wanted, and loading it failed. unknown: there is nothing to compare with.

What to do: nothing if it is current. Otherwise `kexecwatchctl status` says what happens next, and
`kexecwatchctl check` what is in the way and how to mend it.
""",
)

LOADED = Message(
    "5cb9da5ac72d46e0976eb0512454d715",
    "image loaded",
    "The @IMAGE@ image was loaded",
    """\
kexecwatchd has loaded the @IMAGE@ image and looked at it again: it is @VERDICT@ now.

It was @SEEN@, and the reason for the load was:
@REASON@

What to do: nothing if it is current and SOURCE is configured. Where SOURCE is last-good, the
configured kernel or initrd could not be loaded, and kexecwatchd's copies of the last good files
were: mend the files, and they are loaded. Where it is not current, `kexecwatchctl status` says why,
and what happens next.
""",
)

LOAD_FAILED = Message(
    "a2abc246d61b43f5b450f1d5d8861320",
    "image load failed",
    "The @IMAGE@ image could not be loaded",
    """\
kexecwatchd has tried to load the @IMAGE@ image, and did not succeed. The message says why. The
image is @VERDICT@ now.

If it is failed or absent, none is loaded: without a crash image a panic leaves no dump, and without
a reboot image a reboot goes through the firmware. The load is tried again by itself, with growing
pauses, and whenever memory, the files or the configuration change. The same failure is told only
once.

What to do: `kexecwatchctl check` (as root) looks for the cause: boot-files for kernel and initrd,
reservation and capture-memory for crashkernel=, permission and lockdown for what forbids loads.
Then `kexecwatchctl reload @IMAGE@` tries at once.
""",
)

UNLOADED = Message(
    "3099c76fba1f4148a5d0bbdd2e9fc711",
    "image unloaded",
    "The @IMAGE@ image was unloaded",
    """\
kexecwatchd has unloaded the @IMAGE@ image, because starting it would have killed the machine, or
could soon have:

@REASON@

A reboot goes through the firmware until another one is loaded, which happens by itself where a safe
place is found and a kernel is configured.

What to do: nothing, unless `kexecwatchctl status` says that no other is loaded. Then its "next"
line names what would help.
""",
)

UNLOAD_FAILED = Message(
    "6d0d6d6737174c3f863fb5d011f35b1a",
    "image unload failed",
    "The @IMAGE@ image could not be unloaded",
    """\
The @IMAGE@ image must not be started, and the kernel did not unload it. The message says why.

Danger: `systemctl kexec` asks kexecwatchd-kexec-check.service first, which reboots through the
firmware instead; but `kexec -e` asks nobody. It is tried again by itself.

What to do: do not say `kexec -e`. `kexecwatchctl check permission` (as root) says whether the
kernel forbids it (kernel.kexec_load_disabled, kernel.kexec_load_limit_*): only a reboot without
kexec lifts that.
""",
)

DISCARDED = Message(
    "cbaa71a81eeb45de9fbda457eecd414c",
    "image discarded",
    "The @IMAGE@ image was discarded",
    """\
@ASKED_BY@ asked for the @IMAGE@ image to be unloaded, and no other is loaded in its place.

What to do: nothing if that was meant. `kexecwatchctl reload @IMAGE@` loads one again.
""",
)

DISCARD_FAILED = Message(
    "d69887cf89bc4fd9b5f355daeb472ef1",
    "image discard failed",
    "The @IMAGE@ image could not be discarded",
    """\
@ASKED_BY@ asked for the @IMAGE@ image to be unloaded, and the kernel did not do it. The message
says why. The image is still loaded, and @VERDICT@.

What to do: `kexecwatchctl check permission` (as root) says what the kernel forbids. Then ask
again.
""",
)

MODE_SET = Message(
    "291d8b9c989a4414a02331e35888f7df",
    "mode set",
    "The @IMAGE@ image has another mode",
    """\
@REASON@

This holds until the next boot, over restarts of kexecwatchd and reloads of its configuration.

What to do: nothing if that was meant. `kexecwatchctl mode --help` says how to go back to the
configured mode; to have it for good, set it in /etc/kexecwatchd/kexecwatchd.toml.
""",
)

HOLD_TAKEN = Message(
    "fc5a7ed037b84dbda4645f5da32a5b6f",
    "hold taken",
    "Nothing is loaded for now",
    """\
@REASON@

@ASKED_BY@ has asked kexecwatchd to load nothing, most often because packages are installed or
memory is worked on. Images that would not start are unloaded all the same. The hold ends when it is
released, or when the program that took it ends.

What to do: nothing, if this is soon followed by the hold's end. If not, `kexecwatchctl status`
shows who holds and since when; ending that program ends the hold.
""",
)

HOLD_ENDED = Message(
    "c147115ea2444d7ea5a6b9e4fd814704",
    "hold ended",
    "A hold has ended",
    """\
@REASON@

When the last hold has ended, kexecwatchd looks at once and loads what had to wait.

What to do: nothing.
""",
)

CONFIGURED = Message(
    "666e73de2c91416e85796c96fd8be114",
    "configuration taken",
    "The configuration was read again",
    """\
kexecwatchd has read its configuration again and taken it.

@REASON@

What to do: nothing. `kexecwatchctl status` shows what it makes of it.
""",
)

CONFIGURATION_REFUSED = Message(
    "f12001a849a54a1bb666ffc9e9d1e304",
    "configuration refused",
    "The new configuration is wrong",
    """\
kexecwatchd has read its configuration again, and it has mistakes. The message names each with its
file. The old configuration stays in force: the machine is watched as before.

What to do: correct the file, try it with `kexecwatchd --check-config`, and say
`systemctl reload kexecwatchd`. A restart with a wrong configuration would fail.
""",
)

CHECK_FOUND = Message(
    "3cbef216415f4c1aa13214c8b874f62c",
    "check found something",
    "The check @CHECK@ found something: @ANSWER@",
    """\
kexecwatchd regularly asks some of the questions of `kexecwatchctl check`, and @CHECK@ has a new
answer. A problem makes a dump or a kexec fail as things stand, a warning may.

What to do: `kexecwatchctl check @CHECK@` (as root) explains it and names the remedy.
""",
)

CHECK_GONE = Message(
    "10dd92ddbed84887b1bc39c357c52f9e",
    "check no longer finds it",
    "The check @CHECK@ finds nothing any more",
    """\
What @CHECK@ had found before is no longer so: its answer is @ANSWER@.

What to do: nothing.
""",
)

TROUBLE = Message(
    "eded8e13cbe249b082f286b57b2a6594",
    "daemon trouble",
    "kexecwatchd has trouble",
    """\
Something that kexecwatchd can live with did not work. The message says what.

What to do: if it speaks of /run or of the ledger, see whether /run is full (`df /run`). If it says
that uevents were lost, nothing need be done: everything was read afresh. In doubt,
`kexecwatchctl verify` has it look at everything, and says what is so.
""",
)

MESSAGES = (
    VERDICT,
    LOADED,
    LOAD_FAILED,
    UNLOADED,
    UNLOAD_FAILED,
    DISCARDED,
    DISCARD_FAILED,
    MODE_SET,
    HOLD_TAKEN,
    HOLD_ENDED,
    CONFIGURED,
    CONFIGURATION_REFUSED,
    CHECK_FOUND,
    CHECK_GONE,
    TROUBLE,
)
