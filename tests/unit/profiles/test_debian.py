# SPDX-License-Identifier: GPL-2.0-or-later
"""What kdump-tools would load, as their own script works it out.

Scenario 22 holds this against what kdump-config does on a Debian.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecwatchd.model import ImageFiles
from kexecwatchd.profiles import find
from tests.unit.kernel.trees import populate
from tests.unit.profiles.trees import RELEASE, cmdline_of, obstacle_of, set_up

DEFAULTS = "etc/default/kdump-tools"
# As 1.8.1 and 1.10.7 ship it, without the comments but one.
SHIPPED = (
    "# kdump-tools configuration\n"
    "USE_KDUMP=1\n"
    "\n\n"
    "KDUMP_KERNEL=/var/lib/kdump/vmlinuz\n"
    "KDUMP_INITRD=/var/lib/kdump/initrd.img\n"
    'KDUMP_COREDIR="/var/crash"\n'
    '#KDUMP_FAIL_CMD="reboot -f"\n'
    "#KDUMP_DUMP_DMESG=\n"
    '#KDUMP_CMDLINE=""\n'
)
APPENDED = "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb"
KERNEL, INITRD = f"/boot/vmlinuz-{RELEASE}", f"/var/lib/kdump/initrd.img-{RELEASE}"
RUNNING = f"BOOT_IMAGE={KERNEL} root=/dev/vda1 ro quiet crashkernel=384M-:128M\n"

Files = dict[str, str | bytes]


def machine(more: str = "", **files: str | bytes) -> Files:
    """The files of a Debian with kdump-tools; `more` is appended to their configuration."""
    return {
        "usr/sbin/kdump-config": "",
        "proc/cmdline": RUNNING,
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        KERNEL[1:]: "",
        DEFAULTS: SHIPPED + more,
        **files,
    }


def running(cmdline: str) -> Files:
    return {**machine(), "proc/cmdline": cmdline}


def test_as_it_is_shipped(tmp_path: Path) -> None:
    found = set_up(tmp_path, machine())
    expected = f"BOOT_IMAGE={KERNEL} root=/dev/vda1 ro quiet {APPENDED}"
    assert found.files == ImageFiles(Path(KERNEL), Path(INITRD), expected)
    assert (found.tool, found.obstacle) == ("kdump-tools", "")
    assert set(found.origins.values()) == {Path("/", DEFAULTS)}
    assert found.origins.keys() == {"kernel", "initrd", "cmdline"}
    assert {Path("/", DEFAULTS), Path(KERNEL)} <= set(found.reads)
    assert not any(path.is_relative_to("/proc") for path in found.reads)


def test_a_machine_without_it(tmp_path: Path) -> None:
    """Its configuration stays behind when the package is removed."""
    files = machine()
    del files["usr/sbin/kdump-config"]
    populate(tmp_path, files)
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (machine("USE_KDUMP=0"), "it is switched off: USE_KDUMP is 0"),
        (machine("USE_KDUMP="), "USE_KDUMP is not set"),
        (machine("USE_KDUMP=00"), "USE_KDUMP is 00"),
        (machine("USE_KDUMP=yes"), "USE_KDUMP is yes"),
        (running("root=/dev/vda1"), "no crashkernel="),
        (machine(**{"sys/kernel/fadump_enabled": "1\n"}), "fadump"),
    ],
)
def test_it_means_to_load_nothing(files: Files, why: str, tmp_path: Path) -> None:
    found = set_up(tmp_path, files)
    assert (found.files, found.idle) == (None, True)
    assert why in found.obstacle
    assert Path("/", DEFAULTS) in found.reads


def test_its_configuration_is_gone(tmp_path: Path) -> None:
    files = machine()
    del files[DEFAULTS]
    assert "USE_KDUMP is not set" in obstacle_of(tmp_path, files)


@pytest.mark.parametrize("use", ["1", "2", '"1"', "01", "+1", "-1", "' 1 '", "1\r"])
def test_switched_on(use: str, tmp_path: Path) -> None:
    assert set_up(tmp_path, machine(f"USE_KDUMP={use}")).files is not None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('KDUMP_KERNEL="/boot/vmlinuz-$(uname -r)"', "KDUMP_KERNEL is set to something"),
        ("KDUMP_CMDLINE_APPEND=$X", "KDUMP_CMDLINE_APPEND is set to something"),
        ("KDUMP_CMDLINE='root=$X'", "only a shell can work out"),
        ("KDUMP_CMDLINE='a`b`'", "only a shell can work out"),
        ("KDUMP_CMDLINE_APPEND='a\"; b'", "only a shell can read the command"),
        ("KDUMP_CMDLINE_APPEND='a\" b'", "only a shell can read"),
        ("KDUMP_CMDLINE_APPEND='a\" b \"c'", "gives kexec 3 kernels"),
        (". /etc/default/other", "is more than an assignment"),
        ("IFS=:", "it sets IFS"),
        ("KDUMP_KEXEC_ARGS=--reuse-cmdline", "gives kexec --reuse-cmdline"),
        ("KDUMP_KEXEC_ARGS='-t bzImage'", "gives kexec -t"),
        ("KDUMP_KERNEL=boot/vmlinuz", "boot/vmlinuz is not an absolute path"),
        ("KDUMP_KERNEL=/boot/vmlinuz\r", "does a line end as on Windows?"),
        ("KDUMP_CMDLINE_APPEND='a\rb'", "does a line end as on Windows?"),
        ("KDUMP_KERNEL='/boot/a b'", "gives kexec 2 kernels"),
        ("KDUMP_CMDLINE_APPEND='a /[be]* c'", "takes /[be]* for a pattern"),
        ("KDUMP_CMDLINE_APPEND='a *\\ot c'", "takes *\\ot for a pattern"),
        ("KDUMP_KERNEL=", "KDUMP_KERNEL is not set"),
    ],
)
def test_what_cannot_be_told(more: str, why: str, tmp_path: Path) -> None:
    populate(tmp_path, {"boot/x": ""})
    found = set_up(tmp_path, machine(more))
    assert (found.files, found.idle) == (None, False)
    assert why in found.obstacle


def test_an_obstacle_is_one_line_of_text_without_addresses(tmp_path: Path) -> None:
    files = {**machine(), DEFAULTS: b"USE_KDUMP='\xff\n0x100000000'\n"}
    why = obstacle_of(tmp_path, files)
    assert why.isprintable()
    assert "USE_KDUMP is \\udcff\\n" in why
    assert "0x1" not in why


def test_windows_line_ends(tmp_path: Path) -> None:
    """A shell takes the empty lines for commands that it does not find."""
    files = {**machine(), DEFAULTS: SHIPPED.replace("\n", "\r\n")}
    assert "is more than an assignment" in obstacle_of(tmp_path, files)


def test_a_file_that_others_may_change_is_not_believed(tmp_path: Path) -> None:
    populate(tmp_path, machine())
    (tmp_path / DEFAULTS).chmod(0o666)
    found = find(tmp_path)
    assert found is not None
    assert "others may write to it" in found.obstacle
    assert not found.idle


@pytest.mark.parametrize(
    ("more", "cmdline"),
    [
        ("KDUMP_CMDLINE_APPEND=", f"BOOT_IMAGE={KERNEL} root=/dev/vda1 ro quiet {APPENDED}"),
        ("KDUMP_CMDLINE_APPEND='a=1 b'", f"BOOT_IMAGE={KERNEL} root=/dev/vda1 ro quiet a=1 b"),
        ("KDUMP_CMDLINE='root=/dev/x crashkernel=1M'", f"root=/dev/x crashkernel=1M {APPENDED}"),
        ("KDUMP_CMDLINE=a KDUMP_CMDLINE_APPEND=b", "a b"),
        ("KDUMP_CMDLINE='  a \t b  ' KDUMP_CMDLINE_APPEND=' c '", " a b c "),
        ("KDUMP_CMDLINE='a\\b' KDUMP_CMDLINE_APPEND='c\\\\d'", "a\\b c\\d"),
        ("KDUMP_CMDLINE='a=\"b\"' KDUMP_CMDLINE_APPEND=c", "a=b c"),
        ('KDUMP_CMDLINE="it\'s" KDUMP_CMDLINE_APPEND=c;', "it's c"),
        ("KDUMP_CMDLINE='a[1]=* #b ~' KDUMP_CMDLINE_APPEND=c", "a[1]=* #b ~ c"),
        ("KDUMP_CMDLINE=a;KDUMP_CMDLINE_APPEND=b KDUMP_KEXEC_ARGS='-s --append=x'", "a b"),
    ],
)
def test_settings_of_the_command_line(more: str, cmdline: str, tmp_path: Path) -> None:
    assert cmdline_of(tmp_path, machine(more)) == cmdline


@pytest.mark.parametrize(
    ("text", "cmdline"),
    [
        ("crashkernel=1M root=/dev/x\n", " root=/dev/x"),
        ("a crashkernel=1M,high crashkernel=2M,low b\n", "a b"),
        ("a hugepages=4 hugepagesz=1G abm=1 xabm=1 crashkernel=1M\n", "a xabm=1"),
        ("a nohugepages=1 crashkernel=1M Crashkernel=3\n", "a nohugepages=1 Crashkernel=3"),
        ("a  b\tc crashkernel=1M \n", "a b c"),
        ('a="b" crashkernel=1M c', "a=\\b c"),
    ],
)
def test_from_the_running_command_line(text: str, cmdline: str, tmp_path: Path) -> None:
    assert cmdline_of(tmp_path, running(text)) == f"{cmdline} {APPENDED}"


def test_a_quoted_value_with_a_space_is_too_much_for_kdump_config(tmp_path: Path) -> None:
    why = obstacle_of(tmp_path, running('dyndbg="file a +p" crashkernel=1M'))
    assert "gives kexec 3 kernels: is there a space in quotes?" in why


@pytest.mark.parametrize(
    ("more", "kernel", "initrd"),
    [
        ("KDUMP_KERNEL=/k KDUMP_INITRD=/i", "/k", "/i"),
        ("KDUMP_KERNEL=/k KDUMP_INITRD=", "/k", None),
        ("KDUMP_INITRD=", KERNEL, None),
        ("KDUMP_KERNEL=/k", "/k", INITRD),
        ("export KDUMP_KERNEL='/k'  # mine", "/k", INITRD),
    ],
)
def test_settings_of_the_files(more: str, kernel: str, initrd: str | None, tmp_path: Path) -> None:
    found = set_up(tmp_path, machine(more)).files
    assert found is not None
    assert found[:2] == (Path(kernel), Path(initrd) if initrd else None)


def no_kernel_named(there: str) -> Files:
    files = machine("KDUMP_KERNEL=")
    del files[KERNEL[1:]]
    files[f"boot/config-{RELEASE}"] = "CONFIG_RELOCATABLE=y\n"
    return files | {f"boot/{name}": "" for name in there.format(RELEASE, RELEASE, RELEASE).split()}


@pytest.mark.parametrize(
    ("there", "kernel"),
    [
        ("vmlinuz-{} initrd.img-{}", "vmlinuz-{}"),
        ("vmlinux-{} vmlinuz-{} initrd.img-{}", "vmlinuz-{}"),
        ("vmlinux-{} initrd.img-{}", "vmlinux-{}"),
    ],
)
def test_no_kernel_named(there: str, kernel: str, tmp_path: Path) -> None:
    """Then it is the running one, with the initrd that it was booted with."""
    found = set_up(tmp_path, no_kernel_named(there)).files
    assert found is not None
    assert found.kernel == Path("/boot", kernel.format(RELEASE))
    assert found.initrd == Path("/boot", f"initrd.img-{RELEASE}")


def test_an_initrd_that_is_not_there_is_not_left_out(tmp_path: Path) -> None:
    """Else it would be, while it is made anew, and the image that can dump be replaced."""
    obstacle = obstacle_of(tmp_path, no_kernel_named("vmlinuz-{}"))
    assert f"there is no /boot/initrd.img-{RELEASE}" in obstacle
    found = find(tmp_path)
    assert found is not None
    assert Path(f"/boot/initrd.img-{RELEASE}") in found.reads, "its coming is seen"


# The links that kdump-config sets


@pytest.mark.parametrize("leads_to", ["", "vmlinuz-5.10", "nowhere"])
def test_where_the_links_lead_now_does_not_matter(leads_to: str, tmp_path: Path) -> None:
    populate(tmp_path, {**machine(), "var/lib/kdump/vmlinuz-5.10": ""})
    if leads_to:
        (tmp_path / "var/lib/kdump/vmlinuz").symlink_to(leads_to)
        (tmp_path / "var/lib/kdump/initrd.img").symlink_to(leads_to)
    found = find(tmp_path)
    assert found is not None
    assert found.files is not None
    assert found.files[:2] == (Path(KERNEL), Path(INITRD))


@pytest.mark.parametrize("name", [f"vmlinuz-{RELEASE}", f"vmlinux-{RELEASE}", "vmlinuz-5.10", ""])
def test_a_kernel_that_is_not_in_boot(name: str, tmp_path: Path) -> None:
    """A link to one of the running release is left as it is."""
    files = machine()
    del files[KERNEL[1:]]
    populate(tmp_path, {**files, **({f"var/lib/kdump/{name}": ""} if name else {})})
    link = tmp_path / "var/lib/kdump/vmlinuz"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(name or "nowhere")
    found = find(tmp_path)
    assert found is not None
    if RELEASE in name:
        assert found.files is not None
        assert found.files.kernel == Path("/var/lib/kdump/vmlinuz")
    else:
        assert f"/boot has none of {RELEASE}" in found.obstacle


# The words of kdump-config that make the command, run by a shell

_SCRIPT = r"""
. "$1/etc/default/kdump-tools"
cd "$1"
if [ -z "$KDUMP_CMDLINE" ]; then
    KDUMP_CMDLINE=$(sed -re 's/(^| )(crashkernel|hugepages|hugepagesz|abm)=[^ ]*//g;s/"/\\\\"/' \
        proc/cmdline)
fi
kexec_p() { for word; do printf '<%s>' "$word"; done; }
COMMAND="kexec_p --command-line=\"$KDUMP_CMDLINE $KDUMP_CMDLINE_APPEND\" --initrd=/i /k"
eval $COMMAND
"""
_TEXT = st.lists(
    st.sampled_from(
        [*"ab=\\\"'*[]$#;", " ", " ", "  ", "\t", "crashkernel=1M", " hugepages=2", "abm=", "$x"]
    ),
    max_size=10,
).map("".join)


@given(_TEXT, _TEXT, st.booleans())
def test_a_shell_makes_the_same_of_it(text: str, appended: str, given_in_file: bool) -> None:
    quoted = appended.replace("'", "'\\''")
    settings = f"KDUMP_KERNEL=/k\nKDUMP_INITRD=/i\nKDUMP_CMDLINE_APPEND='a{quoted}'\n"
    if given_in_file:
        inner = text.replace("'", "'\\''")
        settings += f"KDUMP_CMDLINE='b{inner}'\n"
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        found = set_up(root, {**machine(settings), "proc/cmdline": f"{text} crashkernel=9M\n"})
        if found.files is None:
            return
        ran = subprocess.run(
            ["sh", "-c", _SCRIPT, "sh", root], capture_output=True, text=True, check=True
        )
        expected = f"<--command-line={found.files.cmdline}><--initrd=/i></k>"
        assert ran.stdout == expected
