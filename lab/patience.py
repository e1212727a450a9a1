# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the lab waits for what should take a moment, in seconds.

$HYBRID_LAB_PATIENCE is for machines that are much slower than others, such as emulated ones.
"""

import os
from typing import Final

PATIENCE: Final = float(os.environ.get("HYBRID_LAB_PATIENCE", "10"))
