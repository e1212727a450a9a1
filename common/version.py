# SPDX-License-Identifier: GPL-2.0-or-later
"""The version. Here, because asking the installed package for it takes longer to import than all of common/."""

from typing import Final

VERSION: Final = "0.1.0"
