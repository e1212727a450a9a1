# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything in TCP that an application can see, row by row: through the pair it must be as without it."""
