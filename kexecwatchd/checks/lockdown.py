# SPDX-License-Identifier: GPL-2.0-or-later
"""Will the kernel take the configured kernels? Lockdown, signatures and IMA.

Sources: kimage_validate_signature() in kernel/kexec_file.c; kexec_load_check() in kernel/kexec.c;
ima_load_data() and ima_read_file() in security/integrity/ima/ima_main.c; kernel_lockdown(7).

Signatures are looked for, not verified: that takes the kernel's keys. Without secure boot the keys
of the firmware and of shim are missing: Debian's own signed 6.12 was refused in a machine without
it, under lockdown=confidentiality.
"""

from __future__ import annotations

from kexecwatchd.checks.check import Answer, Check, Fact, Finding
from kexecwatchd.checks.host import CannotTell, Host
from kexecwatchd.checks.sources import bootfiles
from kexecwatchd.kernel import ima, kconfig, kexec_state
from kexecwatchd.kernel.bootimage import BootImage

_REFUSED = (
    "A kernel that is locked down, or built to, takes only kernels that are signed with a key that"
    " it trusts. A load that it refuses fails after the old crash image was dropped."
)


def look(host: Host) -> Finding:
    chosen = bootfiles.chosen(host)
    if not chosen:
        return Finding(
            Answer.NOT_APPLICABLE, f"no kernel to load is configured{host.config.crash.none}"
        )
    lockdown = kexec_state.lockdown(host.root)
    forced = bool(kconfig.is_set(host.root, "KEXEC_SIG_FORCE"))
    asked_by = _asked_by(lockdown, forced=forced)
    appraisal = ima.refuses_kexec_load(host.root)
    secure = ima.secure_boot(host.root)
    facts: dict[str, Fact] = {
        "lockdown": lockdown,
        "secure_boot": secure,
        "ima": appraisal,
    }
    if not asked_by and not appraisal:
        return Finding(Answer.OK, "yes: nothing here asks for signatures", facts=facts)
    kernels = host.ask(bootfiles.KERNELS)
    images = {files.kernel: kernels.get(files.kernel, "not looked at") for files in chosen}
    unknown = [f"{path}: {why}" for path, why in images.items() if isinstance(why, str)]
    if unknown:
        raise CannotTell(unknown[0])
    unsigned = [
        k for k, image in images.items() if isinstance(image, BootImage) and not image.signed
    ]
    # Under lockdown alone the kernel takes IMA's word instead (kimage_validate_signature()).
    if asked_by and unsigned and (forced or not appraisal):
        return Finding(
            Answer.PROBLEM,
            f"no: {asked_by}, and {unsigned[0]} bears no signature",
            _REFUSED,
            "Configure a kernel that is signed, such as the distribution's own"
            " (/boot/vmlinuz-RELEASE), or sign this one with a key that is enrolled (sbsign, and"
            " mokutil --import for the key).",
            facts,
        )
    if appraisal:
        return Finding(
            Answer.WARNING,
            f"it depends on IMA: {appraisal}",
            "IMA appraises a kernel by the signature that its file bears, or that is stored with"
            " it, and whether it is good only shows when it is loaded. kexec_load(2), and so"
            " kexec-tools' way to keep an image below an address, is refused altogether.",
            "Have it loaded once now, and see with kexecwatchctl status that it was; and keep the"
            " kernel's file where its signature stays with it.",
            facts,
        )
    if not secure:
        return Finding(
            Answer.WARNING,
            f"perhaps not: {asked_by}, and without secure boot the usual keys are missing",
            f"{_REFUSED} The kernels bear signatures. But the keys of the distribution come to the"
            " kernel through secure boot's firmware and shim; without it, even the distribution's"
            " own kernel may be refused.",
            "Switch on secure boot."
            if forced
            else "Switch on secure boot, or take lockdown= off the kernel's command line.",
            facts,
        )
    return Finding(
        Answer.OK,
        f"they bear signatures, which is asked for: {asked_by}",
        f"{_REFUSED} Whether the key is one of them shows when the image is loaded.",
        facts=facts,
    )


def _asked_by(lockdown: str, *, forced: bool) -> str:
    """What has kexec_file_load(2) insist on a signature; "" = nothing."""
    if lockdown not in ("", "none"):
        return f"lockdown is {lockdown}"
    return "this kernel was built with CONFIG_KEXEC_SIG_FORCE" if forced else ""


CHECK = Check(
    name="lockdown",
    question="Will the kernel take the configured kernels?",
    look=look,
    answers=frozenset({Answer.PROBLEM, Answer.WARNING, Answer.OK, Answer.NOT_APPLICABLE}),
    files=(*bootfiles.FILES, *ima.FILES, *kconfig.FILES, "sys/kernel/security/lockdown"),
    asks=(bootfiles.KERNELS,),
)
