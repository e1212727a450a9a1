# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a SYN is of the connections that a section of the configuration means."""

from __future__ import annotations

from collections.abc import Callable

from common.packet import Segment
from common.policy import Match
from common.prefixes import Prefixes


class Matcher:
    """One section with its prefixes ready to ask."""

    def __init__(self, match: Match) -> None:
        self._match = match
        self._destinations = Prefixes(match.dsts)
        self._sources = Prefixes(match.srcs)

    def __call__(self, syn: Segment, device: Callable[[], str]) -> bool:
        """``device`` is asked only if the section depends on it: the name of the one where the SYN arrived."""
        match = self._match
        return (
            (not match.dports or any(syn.dport in ports for ports in match.dports))
            and (not match.dsts or syn.destination in self._destinations)
            and (not match.srcs or syn.source in self._sources)
            and (match.dscp is None or syn.dscp == match.dscp)
            and (not match.devices or device() in match.devices)
        )
