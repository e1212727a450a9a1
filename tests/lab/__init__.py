# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the lab: its pure parts anywhere, the network itself where there is root."""
