# SPDX-License-Identifier: GPL-2.0-or-later
"""Deliberate faults in the daemons. Each must turn rows of the matrix red: so the rows are worth their green."""
