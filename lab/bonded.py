# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab with both daemons running and a web server: what most scenarios begin with."""

import contextlib
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from lab.access import LTE, XDSL, Access, Kind, Profile, Way
from lab.daemons import NONE, SUBSCRIBERS, Daemon, Options, cpe_daemon, hag_daemon
from lab.errors import LabError
from lab.servers import WebServer
from lab.topology import Lab
from lab.transfer import download, upload

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Moved:
    """A file that went through the pair: `rate` in bit/s of the file from the client's SYN to the last byte."""

    rate: float
    intact: bool


class Pair:
    """A context manager: inside, hybrid-cpe and hybrid-hag are ready."""

    def __init__(
        self,
        accesses: Kind = Kind.EMULATED,
        *,
        xdsl: Profile = XDSL,
        lte: Profile = LTE,
        only: str | None = None,
        cpe_options: Options = NONE,
        cpe_rules: str = "",
        hag_options: Options = NONE,
        starter: Sequence[str] = (),
    ) -> None:
        """`only` names the one access that the CPE has: its primary link then; `starter` is the daemons' (`Daemon`).

        `cpe_rules` is UCI text for the end of the CPE's configuration.
        """
        self.lab = Lab(accesses, xdsl=xdsl, lte=lte)
        self._only = only
        self._cpe_options = cpe_options
        self._cpe_rules = cpe_rules
        self._hag_options = hag_options
        self._starter = starter
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "Pair":
        with contextlib.ExitStack() as undo:
            lab = undo.enter_context(self.lab)
            links = self.links
            lab.route_subscribers(links[0])
            self.cpe: Daemon = cpe_daemon(lab, self._cpe_options, links=links, more=self._cpe_rules)
            self.hag: Daemon = hag_daemon(lab, {**subscribed(links[0]), **self._hag_options})
            self.hag.starter = self.cpe.starter = self._starter
            self.hag.start()
            self.cpe.start()
            self.web = WebServer(lab.server)
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def links(self) -> list[Access]:
        """The accesses that the CPE uses, its primary link first."""
        return [access for access in self.lab.accesses if self._only in (None, access.name)]

    def capacity(self, way: Way, family: int) -> float:
        """bit/s of payload that these links carry together."""
        return sum(access.capacity(way, family) for access in self.links)

    def bonded(self, daemon: Daemon | None = None) -> int:
        """Connections that a daemon, the CPE's if none is given, has bonded since it started."""
        counters: dict[str, int] = (daemon or self.cpe).status()["counters"]
        return counters.get("opened: bonded", 0)

    @contextlib.contextmanager
    def _bonding(self) -> Iterator[None]:
        """LabError if the connection that is opened inside was not bonded: its figures would be another path's."""
        before = self.bonded()
        yield
        if self.bonded() != before + 1:
            raise LabError(f"the connection was not bonded: {self.cpe.status()['counters']}")

    def download(self, family: int, size: int) -> Moved:
        content = self.web.publish("down", size)
        with self._bonding():
            transfer = download(self.lab.client, self.web.url("down", family))
        return Moved(size * 8 / transfer.ended, transfer.sha256 == content.sha256)

    def upload(self, family: int, size: int) -> Moved:
        file = self.lab.client.directory / "up"
        source, digest = random.Random(size), hashlib.sha256()
        with file.open("wb") as stream:
            for start in range(0, size, CHUNK):
                block = source.randbytes(min(CHUNK, size - start))
                digest.update(block)
                stream.write(block)
        with self._bonding():
            transfer = upload(self.lab.client, self.web.url("up", family), file)
        intact = self.web.uploaded("up").sha256 == digest.hexdigest()
        return Moved(size * 8 / transfer.ended, intact)


def subscribed(primary: Access) -> Options:
    """What the gateway must be told if the subscribers' primary access is another than xDSL."""
    if primary.name == "xdsl":
        return NONE
    return {"access": [primary.name], "subscriber": [*SUBSCRIBERS, "198.51.100.64/26"]}
