# SPDX-License-Identifier: GPL-2.0-or-later
"""IMA (security/integrity/ima): does it refuse kexec_load(2)?

An image in memory has no file whose signature could be appraised, so ima_load_data() refuses
LOADING_KEXEC_IMAGE with EACCES where kernels must be appraised: by the architecture's policy under
secure boot, or by a policy with `appraise func=KEXEC_KERNEL_CHECK` that is enforced.
"""

from __future__ import annotations

import functools
from pathlib import Path

from kexecwatchd.kernel import kconfig

# EFI_GLOBAL_VARIABLE_GUID and EFI_SHIM_LOCK_GUID of include/linux/efi.h.
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SHIM_INSECURE = "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"

#: Patterns of the files that are read here, besides those of kconfig.
FILES = (
    "sys/kernel/security/ima/violations",
    "sys/kernel/security/ima/policy",
    f"sys/firmware/efi/efivars/{_SECURE_BOOT}",
    f"sys/firmware/efi/efivars/{_SHIM_INSECURE}",
    "proc/cmdline",
)


def refuses_kexec_load(root: Path = Path("/")) -> str:
    """Why kexec_load(2) would be refused, as part of a sentence; "" where nothing says so.

    Secure boot is known of EFI machines only; elsewhere the call itself tells.
    """
    place = root / "sys/kernel/security/ima"
    if not place.is_dir():
        return ""
    secure = secure_boot(root)
    if secure and kconfig.is_set(root, "IMA_SECURE_AND_OR_TRUSTED_BOOT"):
        return "secure boot is on"
    words = (root / "proc/cmdline").read_text(encoding="ascii", errors="replace").split()
    if not kconfig.is_set(root, "IMA_APPRAISE") or (_not_enforced(words) and not secure):
        return ""
    if kconfig.is_set(root, "IMA_APPRAISE_REQUIRE_KEXEC_SIGS"):
        return "CONFIG_IMA_APPRAISE_REQUIRE_KEXEC_SIGS is set"
    return _policy(place / "policy", words)


def _policy(path: Path, words: list[str]) -> str:
    """The policy in force, or where it cannot be read (CONFIG_IMA_READ_POLICY), that of boot."""
    try:
        rules = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        # policy_setup() in security/integrity/ima/ima_policy.c: all of them count.
        chosen = "|".join(_values(words, "ima_policy=")).split("|")
        return "ima_policy=secure_boot was given at boot" if "secure_boot" in chosen else ""
    for rule in rules:
        action, *conditions = rule.split() or [""]
        if action == "appraise" and "func=KEXEC_KERNEL_CHECK" in conditions:
            return "IMA's policy appraises kernels (func=KEXEC_KERNEL_CHECK)"
    return ""


def _not_enforced(words: list[str]) -> bool:
    """default_appraise_setup() in security/integrity/ima/ima_appraise.c; enforced by default."""
    given = _values(words, "ima_appraise=")
    return bool(given) and given[-1].startswith(("off", "log", "fix"))


def _values(words: list[str], option: str) -> list[str]:
    return [word.removeprefix(option) for word in words if word.startswith(option)]


@functools.cache
def secure_boot(root: Path) -> bool:
    """efi_get_secureboot() in drivers/firmware/efi/libstub/secureboot.c. It asks the firmware,
    which can take its time, and the answer holds for the boot."""
    return _is_one(root, _SECURE_BOOT) and not _is_one(root, _SHIM_INSECURE)


def _is_one(root: Path, variable: str) -> bool:
    """The value of a variable of one byte, which follows four bytes of attributes."""
    try:
        return (root / "sys/firmware/efi/efivars" / variable).read_bytes()[4:] == b"\1"
    except OSError:
        return False
