# SPDX-License-Identifier: GPL-2.0-or-later
"""make screens: a night on a real guest, as its administrator sees it, written to docs/screens/.

Each screen is captured on a terminal while it happens, as text and as a picture; docs/SCREENS.md
puts them in order. What is above a screen stands here, what is on it comes from the guest.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm import terminal
from tests.vm.lab import Lab
from tests.vm.lab.machine import Machine
from tests.vm.watched import INSTALL, ROOT, Watched, stage

DOCS = ROOT / "docs"
SIZE = "512M"
AS_GUEST = "setpriv --reuid=65534 --regid=65534 --clear-groups"

_HEAD = """# Screens

The questions of somebody who has never seen kexecwatchd, and the screens that answer them. All were
captured in the lab, from one guest with Debian's Linux {release} whose memory changes
(`make screens` captures them anew). Each picture is in [screens/](screens/) as text, too.
"""


@dataclass
class Book:
    """The pages so far."""

    vm: Machine
    directory: Path
    pages: list[str] = field(default_factory=list)

    def part(self, title: str, text: str = "") -> None:
        """A new question."""
        self.pages.append(f"## {title}\n")
        if text:
            self.pages.append(text + "\n")

    def screen(self, name: str, command: str, text: str = "", *, shown: str = "") -> None:
        """Run a command on a terminal, and keep what it shows; `shown`: how a person types it."""
        print(f"screen: {shown or command}", flush=True)
        number = sum(page.startswith("![") for page in self.pages) + 1
        file = f"{number:02}-{name}"
        shown = shown or command
        seen = terminal.seen(self.vm, command)
        (self.directory / f"{file}.txt").write_text(f"# {shown}\n{terminal.plain(seen)}\n")
        (self.directory / f"{file}.svg").write_text(terminal.picture(seen, shown, f"s{number}"))
        if text:
            self.pages.append(text + "\n")
        self.pages.append(f"![{shown}](screens/{file}.svg)\n")


def tell(watched: Watched, book: Book) -> None:
    """The story."""
    covered(watched, book)
    last_night(watched, book)
    held(watched, book)
    why_not(watched, book)
    looking_closer(watched, book)
    others(book)


def covered(watched: Watched, book: Book) -> None:
    watched.configure(crash="ensure", reboot="ensure", pacing="")
    watched.start()
    watched.wait_state("crash", "current")
    watched.wait_state("reboot", "current")
    book.part("Is my machine covered right now?")
    book.screen("status", "kexecwatchctl status", "The first line says it; exit code 0, too.")
    book.screen(
        "systemctl", "systemctl --no-pager status kexecwatchd | head -4", "So does systemd."
    )


def last_night(watched: Watched, book: Book) -> None:
    vm = watched.vm
    before = watched.image("crash")
    vm.plug_dimm("d0", SIZE)
    before = watched.wait_reloaded("crash", before)
    vm.unplug_dimm("d0")
    watched.wait_reloaded("crash", before)
    watched.wait_status(lambda s: all(i["covered"] for i in s["images"]))
    book.part(
        "What happened last night?",
        f"A DIMM of {SIZE} came, and was taken away again.",
    )
    book.screen("history", "kexecwatchctl history", "Every decision, and what came of it:")
    book.screen(
        "journal",
        "journalctl --no-pager -x -u kexecwatchd -t kexecwatchd -o short -n 1",
        "The journal has the same, one entry a decision; `-x` explains it.",
        shown="journalctl -x -u kexecwatchd -n 1",
    )


def held(watched: Watched, book: Book) -> None:
    vm = watched.vm
    book.part("Somebody works on the machine")
    hold = vm.spawn("exec kexecwatchctl hold --who apt --why 'a new kernel is installed' sleep inf")
    watched.wait_status(lambda s: bool(s["holds"]))
    vm.plug_dimm("d1", SIZE)
    watched.wait_state("crash", "stale")
    book.screen(
        "held",
        "kexecwatchctl status",
        "`kexecwatchctl hold COMMAND` keeps the daemon from loading anything meanwhile. Memory that"
        " comes then is missing, and the screen says why nothing is done.",
    )
    vm.run(f"kill -TERM -{hold.pid}")
    hold.wait()
    watched.wait_state("crash", "current")


def why_not(watched: Watched, book: Book) -> None:
    vm = watched.vm
    book.part(
        "Why is it not covered, and what do I do?",
        "Somebody has forbidden loads (a sysctl that stays until the next boot), then memory came.",
    )
    vm.run("sysctl -w kernel.kexec_load_disabled=1")
    vm.plug_dimm("d2", SIZE)
    watched.wait_state("crash", "stale")
    watched.verify()
    book.screen("not-covered", "kexecwatchctl status")
    book.screen("reload-refused", "kexecwatchctl reload crash", "Asking for it does not help:")
    book.screen("check", "kexecwatchctl check permission", "`check` explains, and says what to do.")


def looking_closer(watched: Watched, book: Book) -> None:
    book.part("A closer look, as root")
    book.screen("verify", "kexecwatchctl verify", "With the addresses:")
    book.screen("map", "kexecwatchctl map")
    book.screen("checks", "kexecwatchctl check", "Will it work when it matters?")
    book.screen("config", "kexecwatchctl config", "What is configured, and where:")
    book.screen("mode", "kexecwatchctl mode reboot observe; kexecwatchctl mode")
    log = "/run/monitor"
    vm = watched.vm
    monitor = vm.spawn(
        f"sleep 600 | exec script -qfec 'stty cols {terminal.COLUMNS}; kexecwatchctl monitor' {log}"
    )
    vm.run(f"until grep -q image {log}; do sleep 0.2; done")
    vm.run("kexecwatchctl mode reboot configured")
    vm.run(f"until grep -q configured {log}; do sleep 0.2; done; sleep 2")
    monitor.signal()
    book.screen(
        "monitor",
        f"grep -v ^Script {log}",
        "Live, until Ctrl-C; `--json` for programs:",
        shown="kexecwatchctl monitor",
    )


def others(book: Book) -> None:
    book.part("Not as root")
    book.screen(
        "nobody",
        f"{AS_GUEST} kexecwatchctl mode crash off",
        "Everyone may look, and sees no addresses. Changes are polkit's to allow.",
        shown="kexecwatchctl mode crash off",
    )
    book.part("A whole fleet", "Prometheus' node exporter is given this file:")
    book.screen("metrics", "grep -v '^#' /run/kexecwatchd/kexecwatchd.prom | head -40")


def main() -> int:
    lab = Lab()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "screens").mkdir()
        payload = stage(directory)
        with lab.machine("6.1", payload=payload, install=INSTALL, memory="2G") as vm:
            book = Book(vm, directory / "screens")
            book.pages.append(_HEAD.format(release=vm.run("uname -r").text))
            tell(Watched(vm), book)
        shutil.rmtree(DOCS / "screens", ignore_errors=True)
        shutil.copytree(directory / "screens", DOCS / "screens")
        (DOCS / "SCREENS.md").write_text("\n".join(book.pages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
