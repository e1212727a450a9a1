# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian systems to install the package on: bare ones in a directory, and one that boots."""
