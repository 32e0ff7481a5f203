# SPDX-License-Identifier: GPL-2.0-or-later
"""When IMA refuses kexec_load(2): ima_load_data(), case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.kernel.ima import refuses_kexec_load

from .trees import populate

EFI = "sys/firmware/efi/efivars/"
SECURE_BOOT = EFI + "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = EFI + "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
ON, OFF = b"\6\0\0\0\1", b"\6\0\0\0\0"
POLICY = "sys/kernel/security/ima/policy"
RULES = "dont_appraise fsmagic=0x9fa0\nappraise func=KEXEC_KERNEL_CHECK appraise_type=imasig\n"
NO_RULE = "measure func=KEXEC_KERNEL_CHECK\nappraise fowner=0\n\n"

Files = dict[str, str | bytes]


def machine(root: Path, files: Files, config: str, cmdline: str) -> Path:
    known = ["IMA", "IMA_APPRAISE", *config.split()]
    base: Files = {
        "sys/kernel/security/ima/violations": "0\n",
        "proc/cmdline": f"root=/dev/vda1 {cmdline} quiet\n",
        "proc/sys/kernel/osrelease": "6.12.48\n",
        "boot/config-6.12.48": "".join(f"CONFIG_{option}=y\n" for option in known),
    }
    populate(root, base | files)
    return root


ARCH = "IMA_SECURE_AND_OR_TRUSTED_BOOT"
SIGS = "IMA_APPRAISE_REQUIRE_KEXEC_SIGS"

CASES: list[tuple[Files, str, str, str]] = [
    # files, options of the kernel, its command line, words of the answer
    ({}, "", "", ""),
    ({SECURE_BOOT: ON}, ARCH, "", "secure boot"),
    ({SECURE_BOOT: ON, SHIM: OFF}, ARCH, "", "secure boot"),
    ({SECURE_BOOT: ON, SHIM: ON}, ARCH, "", ""),
    ({SECURE_BOOT: OFF}, ARCH, "", ""),
    ({SECURE_BOOT: b""}, ARCH, "", ""),
    ({SECURE_BOOT: ON}, "", "", ""),
    ({}, SIGS, "", SIGS),
    ({}, SIGS, "ima_appraise=off", ""),
    ({}, SIGS, "ima_appraise=log", ""),
    ({}, SIGS, "ima_appraise=log ima_appraise=enforce", SIGS),
    ({SECURE_BOOT: ON}, SIGS, "ima_appraise=off", SIGS),
    ({POLICY: RULES}, "", "", "KEXEC_KERNEL_CHECK"),
    ({POLICY: RULES}, "", "ima_appraise=fix", ""),
    ({POLICY: NO_RULE}, "", "", ""),
    ({POLICY: NO_RULE}, "", "ima_policy=secure_boot", ""),
    ({}, "", "ima_policy=tcb|secure_boot", "secure_boot"),
    ({}, "", "ima_policy=secure_boot ima_policy=tcb", "secure_boot"),
    ({}, "", "ima_policy=tcb", ""),
]


@pytest.mark.parametrize(("files", "config", "cmdline", "words"), CASES)
def test_cases(tmp_path: Path, files: Files, config: str, cmdline: str, words: str) -> None:
    told = refuses_kexec_load(machine(tmp_path, files, config, cmdline))
    assert words in told
    assert bool(told) == bool(words)


def test_a_kernel_without_ima_refuses_nothing(tmp_path: Path) -> None:
    populate(tmp_path, {SECURE_BOOT: ON, "proc/cmdline": "ima_policy=secure_boot"})
    assert refuses_kexec_load(tmp_path) == ""


def test_a_kernel_that_cannot_appraise_refuses_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, {POLICY: RULES, "boot/config-6.12.48": "CONFIG_IMA=y\n"}, "", "")
    assert refuses_kexec_load(root) == ""


def test_an_unknown_configuration_is_not_held_against_it(tmp_path: Path) -> None:
    root = machine(tmp_path, {SECURE_BOOT: ON, POLICY: RULES}, "", "")
    (root / "boot/config-6.12.48").unlink()
    assert refuses_kexec_load(root) == ""
