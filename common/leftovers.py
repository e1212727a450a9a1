# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon that was killed has left in the kernel, taken out where no other one begins (option --clean)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from common import nft
from common.log import log
from common.orphans import Orphans
from common.routing import Routing
from common.settings import Setting, Settings


def take_out(file: Callable[[str], Path], settings: Sequence[Setting]) -> bool:
    """Whether the box is as it was before; ``file`` names those in the run directory. Raises SystemLacks.

    What connections live by stays for as long as workers have any. All that everybody else might notice is a detour
    round a link that was down: that one goes all the same, since nobody is there to see when the link comes back.
    """
    orphans = Orphans(file("workers"))
    with ExitStack() as undo:
        routing = Routing()
        undo.callback(routing.close)
        if orphans.alive:
            routing.clean_detours()
            log.info("connections of a daemon that was killed go on, and with them what they need")
            return False
        undo.callback(orphans.remember, ())
        undo.callback(file("sock").unlink, missing_ok=True)
        undo.callback(Settings(file("settings"), settings).restore)
        undo.callback(routing.clean)
        undo.callback(nft.unload)
        undo.callback(nft.remove_iptables_rules)
    log.info("what a daemon that was killed had left is taken out")
    return True
