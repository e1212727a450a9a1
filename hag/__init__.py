# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the aggregation gateway's daemon, hybrid-hag, decides. Read daemon.py first."""
