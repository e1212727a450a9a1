# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the home router's daemon, hybrid-cpe, decides. Read daemon.py first."""
