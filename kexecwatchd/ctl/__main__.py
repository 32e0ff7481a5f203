# SPDX-License-Identifier: GPL-2.0-or-later
import sys

from kexecwatchd.ctl.main import main

sys.exit(main())
