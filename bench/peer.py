# SPDX-License-Identifier: GPL-2.0-or-later
"""What is compared: something that carries the client's connections to the server."""

from collections.abc import Sequence

from lab.node import Node
from lab.topology import Lab

MPTCPIZE = ("mptcpize", "run")  # makes every TCP socket of a program a Multipath TCP one


class Peer:
    """One way to carry connections, in a lab of its own, with which it ends.

    `programs` are those that it needs besides the lab's, `under` is the command that iperf3 is started with, at
    both ends. This one does nothing.
    """

    name = "plain forwarding"
    programs: Sequence[str] = ()
    under: Sequence[str] = ()

    def __init__(self, lab: Lab, family: int) -> None:
        self.lab = lab
        self.family = family

    def start(self) -> None:
        """Ready when it returns. LabError if it does not come up, SystemLacksError if a program is not installed."""

    @property
    def joining(self) -> Node | None:
        """The node where second subflows begin; None if there are to be none."""
        return None
