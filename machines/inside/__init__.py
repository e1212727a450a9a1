# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests for a machine of its own, with systemd and the package installed; `make vm-test` runs them there."""
