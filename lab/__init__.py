# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: client, CPE, HAG and server as network namespaces, with two accesses between CPE and HAG."""
