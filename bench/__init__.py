# SPDX-License-Identifier: GPL-2.0-or-later
"""The pair measured side by side with what people would put in its place."""
