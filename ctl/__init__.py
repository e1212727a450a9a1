# SPDX-License-Identifier: GPL-2.0-or-later
"""hybridctl: what people and programs ask of running daemons and of configuration files."""
