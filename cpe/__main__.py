# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m cpe: the same as the command hybrid-cpe."""

import sys

from cpe.daemon import main

sys.exit(main())
