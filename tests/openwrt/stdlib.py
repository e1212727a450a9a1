# SPDX-License-Identifier: GPL-2.0-or-later
"""What OpenWrt's feed splits off the standard library: the packages, and what is missing without them.

Facts of openwrt/packages, lang/python/python3/files/python3-package-*.mk; python3-light has the rest. Nothing is
imported here that a router's Python would not have loaded by itself.
"""

from __future__ import annotations

import sys

SPLIT = {
    "python3-asyncio": {"asyncio"},
    "python3-codecs": {
        *("_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw"),
        "unicodedata",
    },
    "python3-ctypes": {"ctypes", "_ctypes"},
    "python3-dbm": {"dbm", "_dbm", "_gdbm"},
    "python3-decimal": {"decimal", "_decimal"},
    "python3-email": {"email"},
    "python3-logging": {"logging"},
    "python3-lzma": {"lzma", "_lzma"},
    "python3-multiprocessing": {"multiprocessing", "_multiprocessing"},
    "python3-ncurses": {"curses", "_curses", "_curses_panel"},
    "python3-openssl": {"_hashlib", "_ssl"},
    "python3-pydoc": {"doctest", "pydoc", "pydoc_data"},
    "python3-readline": {"readline"},
    "python3-sqlite3": {"sqlite3", "_sqlite3"},
    "python3-unittest": {"unittest"},
    "python3-urllib": {"urllib"},
    "python3-uuid": {"uuid", "_uuid"},
    "python3-xml": {"xml", "xmlrpc", "_elementtree", "pyexpat"},
    # Of no package: Python of 24.10 and later is built without them, or they are left out.
    "": {
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pip",
        "setuptools",
        "tkinter",
        "turtledemo",
        "venv",
        "webbrowser",
    },
}

# What a package needs of the others.
NEEDS = {"python3-urllib": {"python3-email"}}


class Router:
    """A finder of Python's (sys.meta_path) that stops the search for what is in none of ``packages``."""

    def __init__(self, packages: set[str]) -> None:
        there = packages | {needed for package in packages for needed in NEEDS.get(package, ())}
        self._missing = {name for package, names in SPLIT.items() if package not in there for name in names}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in self._missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def confine(packages: set[str]) -> None:
    """From now on this process imports as a router's does."""
    sys.meta_path.insert(0, Router(packages))  # type: ignore[arg-type]  # whose base class would import half the library
