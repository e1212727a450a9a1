# SPDX-License-Identifier: GPL-2.0-or-later
"""Records in, the bytes that the journal and syslog take out."""

import logging

from common.journal import native, syslog


def test_a_field_is_a_line() -> None:
    assert native({"MESSAGE": "ready", "HYBRID_LINK": "xdsl"}) == b"MESSAGE=ready\nHYBRID_LINK=xdsl\n"


def test_a_value_of_several_lines_has_its_length() -> None:
    """What comes after its first line is no field of its own."""
    assert native({"A": "b\nMESSAGE=forged", "C": "d"}) == b"A\n\x10\0\0\0\0\0\0\0b\nMESSAGE=forged\nC=d\n"


def test_a_value_that_is_no_unicode() -> None:
    assert native({"A": "\udcff"}) == b"A=\\udcff\n"


def test_syslog() -> None:
    assert syslog("hybrid-cpe", 42, logging.WARNING, "grüße") == "<28>hybrid-cpe[42]: grüße".encode()
    assert syslog("hybrid-cpe", 42, logging.ERROR, "no").startswith(b"<27>")
