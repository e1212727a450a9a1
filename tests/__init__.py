# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests; each folder mirrors the package of its name."""
