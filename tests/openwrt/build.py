# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the feed's Makefiles with stubs in the place of OpenWrt's build system, as far as the tree that is installed.

    python -m tests.openwrt.build DIRECTORY    # build there, and say how large it is

The stubs (STUBS) are GNU make's text under the names that the Makefiles include. Of the real files they have what ours
use; the interpreter that compiles is this one.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]

STUBS: Final = {
    "rules.mk": r"""
INCLUDE_DIR:=$(TOPDIR)/include
BUILD_DIR:=$(OUT)/build
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
CP:=cp -fpR
all: install
""",
    "include/package.mk": r"""
PKG_BUILD_DIR?=$(BUILD_DIR)/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR:=$(PKG_BUILD_DIR)/ipkg-install
define BuildPackage
  $(eval DEPENDS:=)
  $(eval $(Package/$(1)))
  $(info $(1) version $(PKG_VERSION)-r$(PKG_RELEASE))
  $(info $(1) depends $(strip $(DEPENDS)))
  $(info $(1) conffiles $(strip $(Package/$(1)/conffiles)))
  install: $(OUT)/$(1).installed
  $(OUT)/$(1).installed:
	$(Build/Prepare)
	$(Build/Compile)
	$(call Package/$(1)/install,$$(OUT)/root)
	touch $$@
endef
""",
    "feeds/packages/lang/python/python3-package.mk": r"""
PYTHON3_PKG_DIR:=/usr/lib/python3/site-packages
Python3/CompileAll=$(PYTHON) -m compileall -q -b -d / $(1)
Python3/DeleteSourceFiles=find $(1) -name '*.py' -delete
define Py3Package
  $(info $(1) sources $(PYPI_NAME) $(PKG_HASH))
  $(eval Package/$(1)-src:=)
endef
""",
    "feeds/packages/lang/python/pypi.mk": "",
}


def build(package: str, directory: Path, target: str = "all") -> list[str]:
    """Builds openwrt/PACKAGE and installs it under DIRECTORY/root. Returns what the Makefile declares, line by line."""
    top = directory / "top"
    for name, text in STUBS.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    variables = [f"TOPDIR={top}", f"OUT={directory}", f"PYTHON={sys.executable}"]
    command = ["make", "--no-print-directory", "-C", str(CHECKOUT / "openwrt" / package), *variables, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.splitlines()


def size(root: Path) -> tuple[int, int]:
    """Bytes of all files, and of an archive of them (gzip, as in a package)."""
    files = [path for path in root.rglob("*") if path.is_file()]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(root, arcname=".")
    return sum(path.stat().st_size for path in files), len(stream.getvalue())


if __name__ == "__main__":
    build("hybrid-access", Path(sys.argv[1]).resolve())
    print("{} bytes in files, {} bytes as an archive".format(*size(Path(sys.argv[1], "root"))))
