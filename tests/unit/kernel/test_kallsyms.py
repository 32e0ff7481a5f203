# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kallsyms: the names of the kernel's own functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecwatchd.kernel.kallsyms import present
from tests.unit.kernel.trees import populate

# Of 6.12, as without CAP_SYSLOG.
SYMBOLS = (
    "0000000000000000 A fixed_percpu_data\n"
    "0000000000000000 T kexec_add_buffer\n"
    "0000000000000000 t kexec_file_dbg_print_not\n"
    "0000000000000000 t crash_setup\t[kvm]\n"
)


def test_the_kernels_own_names(tmp_path: Path) -> None:
    populate(tmp_path, {"proc/kallsyms": SYMBOLS})
    names = ("kexec_add_buffer", "kexec_file_dbg_print", "crash_setup", "add_buffer")
    assert present(tmp_path, names) == {"kexec_add_buffer"}


def test_a_kernel_without_symbols_does_not_pass_for_one_without_functions(tmp_path: Path) -> None:
    populate(tmp_path, {"proc/kallsyms": ""})
    with pytest.raises(ValueError, match="empty"):
        present(tmp_path, ("kexec_add_buffer",))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="kallsyms"):
        present(tmp_path, ())
