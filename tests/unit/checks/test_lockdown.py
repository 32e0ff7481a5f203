# SPDX-License-Identifier: GPL-2.0-or-later
"""Will the kernel take the configured kernels?"""

from __future__ import annotations

from typing import Any

from kexecwatchd.checks.check import Answer

from .machines import RELEASE, Case

LOCKDOWN = "sys/kernel/security/lockdown"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
CONFIG = f"boot/config-{RELEASE}"
IMA: dict[str, str | bytes | None] = {
    "sys/kernel/security/ima/violations": "0\n",
    "sys/kernel/security/ima/policy": "appraise func=KEXEC_KERNEL_CHECK\n",
    CONFIG: "CONFIG_IMA_APPRAISE=y\n",
}
KERNEL = "/boot/vmlinuz"
FILES: dict[str, str | bytes | None] = {
    "etc/kexecwatchd/kexecwatchd.toml": f'[crash]\nkernel = "{KERNEL}"\ncmdline = "x"\n'
}
INTEGRITY = {**FILES, LOCKDOWN: "none [integrity] confidentiality\n"}


def kernels(*, signed: bool) -> dict[str, Any]:
    image = {"cmdline_size": 2047, "five_level": True, "memory_size": 1, "signed": signed}
    return {"kernels": {KERNEL: image}}


CASES = (
    Case("none configured", Answer.NOT_APPLICABLE, "no kernel"),
    Case("open", Answer.OK, "nothing here asks", {**FILES, LOCKDOWN: "[none] integrity\n"}),
    Case(
        "unsigned",
        Answer.PROBLEM,
        "lockdown is integrity, and /boot/vmlinuz bears no",
        INTEGRITY,
        kernels(signed=False),
    ),
    Case(
        "unsigned, and the kernel was built to insist",
        Answer.PROBLEM,
        "CONFIG_KEXEC_SIG_FORCE",
        {**FILES, CONFIG: "CONFIG_KEXEC_SIG_FORCE=y\n"},
        kernels(signed=False),
    ),
    Case(
        "signed, with secure boot",
        Answer.OK,
        "they bear signatures",
        {**INTEGRITY, SECURE_BOOT: b"\6\0\0\0\1"},
        kernels(signed=True),
    ),
    Case(
        "signed, without secure boot",
        Answer.WARNING,
        "without secure boot the usual keys",
        INTEGRITY,
        kernels(signed=True),
    ),
    Case(
        "unsigned under lockdown, and IMA vouches for it",
        Answer.WARNING,
        "IMA's policy",
        {**INTEGRITY, **IMA},
        kernels(signed=False),
    ),
    Case(
        "unsigned, IMA vouches, and the kernel was built to insist",
        Answer.PROBLEM,
        "bears no signature",
        {**INTEGRITY, **IMA, CONFIG: "CONFIG_IMA_APPRAISE=y\nCONFIG_KEXEC_SIG_FORCE=y\n"},
        kernels(signed=False),
    ),
    Case(
        "signed, without secure boot, and the kernel was built to insist",
        Answer.WARNING,
        "CONFIG_KEXEC_SIG_FORCE, and without secure boot",
        {**FILES, CONFIG: "CONFIG_KEXEC_SIG_FORCE=y\n"},
        kernels(signed=True),
    ),
    Case("appraised", Answer.WARNING, "IMA's policy", {**FILES, **IMA}, kernels(signed=True)),
    Case("no kernel", Answer.CANNOT_TELL, "no such", INTEGRITY, {"kernels": {KERNEL: "no such"}}),
)
