# SPDX-License-Identifier: GPL-2.0-or-later
"""What the CPE and the HAG share: protocol and policy, and one thin edge for each kernel interface."""
