# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong with a lab, told apart by whose fault it is. The text is one sentence for people."""


class LabError(Exception):
    """The lab, or something that runs in it, did not do what was asked of it."""


class SystemLacksError(LabError):
    """This machine lacks something a lab needs: a privilege, a program, a kernel feature."""
