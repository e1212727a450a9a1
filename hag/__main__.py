# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m hag: the same as the command hybrid-hag."""

import sys

from hag.daemon import main

sys.exit(main())
