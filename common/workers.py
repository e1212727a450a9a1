# SPDX-License-Identifier: GPL-2.0-or-later
"""The workers as control sees them: started, asked, replaced when they die, stopped."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from common import transparent, worker
from common.channel import Channel, Message
from common.control import Refused, Reply
from common.entrance import Duty, Entrance, Equipment, enter
from common.log import LEVELS, about, log, set_level
from common.loop import Callback, Loop
from common.marks import MAX_WORKERS
from common.nfqueue import Queue
from common.orphans import Orphans
from common.pulse import Pulse, Step
from common.role import Role
from common.room import Limits
from common.system import SystemLacks

_ANSWER_WITHIN: Final = 3.0  # seconds
_SHORT_LIFE: Final = 5.0  # a worker that lived less failed at once
_GIVE_UP: Final = 5  # short lives in a row
_WATCH: Final = 1.0  # seconds between questions whether a worker is alive
_STOPPING: Final = 2.0  # seconds that a worker may take to stop
_DRAINED: Final = 0.05  # seconds between looks whether the last connection has ended
_DYING: Final = 0.5  # and to be gone after it has hung up
_FD_PER_FLOW: Final = 3  # two sockets, and a pipe for every other one
_FD_RESERVE: Final = 256
_HOSTS: Final = 4  # that it takes to use up all connections, unless configured

_WELL: Final = "exit status 0"

Answers = Callable[[list[Message]], object]


@dataclass(slots=True)
class _Seat:
    number: int
    pid: int
    channel: Channel
    since: float
    queues: Sequence[Queue]  # the worker's own, in our hands too
    short_lives: int = 0
    pulse: Pulse = field(default_factory=Pulse)
    flows: int = 0  # when it last said

    @property
    def name(self) -> tuple[int, int]:
        return self.number, self.pid

    @property
    def about(self) -> dict[str, dict[str, str]]:
        return about(worker=self.number)

    def let_go(self) -> None:
        """The queues are the worker's alone."""
        for queue in self.queues:
            queue.close()
        self.queues = ()


@dataclass(slots=True)
class _Question:
    waits_for: set[int]
    then: Answers
    answers: list[Message] = field(default_factory=list)


class Workers:
    """``count`` workers with the same duties, which divide what is allowed among them.

    ``count`` None is one for each processor that this process may use, at most MAX_WORKERS.
    ``max_flows`` None is as many connections as there are descriptors for, ``max_flows_of_one`` None a share of them.
    """

    def __init__(
        self,
        loop: Loop,
        duties: Sequence[Duty],
        count: int | None,
        max_flows: int | None,
        max_flows_of_one: int | None,
        on_grown: Callable[[Mapping[str, list[int]]], None],
        on_hopeless: Callable[[], None],
        orphans: Orphans,
        roles: Callable[[str], Sequence[Role]],
    ) -> None:
        """``on_grown`` hears of tokens by policy. ``roles`` are those of the duties by another text, see adopt()."""
        self._loop = loop
        self._count = count or min(len(os.sched_getaffinity(0)), MAX_WORKERS)
        self._duties = _with_limits(duties, self._count, max_flows, max_flows_of_one)
        self._roles = roles
        self._on_grown = on_grown
        self._on_hopeless = on_hopeless
        self._orphans = orphans
        self._seats: dict[int, _Seat] = {}
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self._stopping = False

    @property
    def count(self) -> int:
        return self._count

    @property
    def summary(self) -> str:
        """In a line, how they are."""
        flows = sum(seat.flows for seat in self._seats.values())
        hang = [f"worker {seat.number} does not answer" for seat in self._seats.values() if seat.pulse.hangs]
        return "; ".join([f"{flows} {'connection' if flows == 1 else 'connections'} now", *hang])

    def status(self, head: Message, reply: Reply, counted: Mapping[str, int] | None = None) -> None:
        """Replies with ``head`` and what the workers say: connections now, what became of all so far.

        ``counted`` is what the kernel has counted besides.
        """

        def sum_up(answers: list[Message]) -> None:
            counters: Counter[str] = Counter(counted)
            for answer in answers:
                counters.update(answer["counters"])
            reply(
                {
                    **head,
                    "workers": [{"worker": a["worker"], "pid": a["pid"], "flows": a["flows"]} for a in answers],
                    "flows": sum(answer["flows"] for answer in answers),
                    "max_flows": sum(limits.flows for _, limits in self._duties) * self._count,
                    "counters": dict(sorted(counters.items())),
                    "avoided": _avoided(answers),
                }
            )

        self.ask("status", sum_up)

    def flows(self, complete: Callable[[Message], Message], reply: Reply) -> None:
        """Replies with all connections, each through ``complete``."""
        self.ask("flows", lambda answers: reply([complete(flow) for answer in answers for flow in answer["flows"]]))

    def log(self, request: Message, reply: Reply) -> None:
        """Sets the level of the log, here and in the workers. Raises Refused."""
        level = request.get("level")
        if level not in LEVELS:
            raise Refused(f"the level of the log is one of: {', '.join(LEVELS)}")
        self.set_level(level)
        reply({"level": level})

    def set_level(self, level: str) -> None:
        set_level(level)
        for seat in self._seats.values():
            seat.channel.send({"log": level})
        log.info("the log's level is %s", level)

    def start(self) -> None:
        """Raises SystemLacks if a queue or a port cannot be had."""
        for number in range(self._count):
            self._seat(number)
        self._loop.call_later(_WATCH, self._watch)

    def ask(self, what: str, then: Answers) -> None:
        """Asks all workers; ``then`` gets their answers when all have come or the time is over."""
        self._asked += 1
        number = self._asked
        self._questions[number] = _Question(set(self._seats), then)
        for seat in self._seats.values():
            seat.channel.send({"ask": what, "id": number})
        self._loop.call_later(_ANSWER_WITHIN, lambda: self._answered(number))

    def adopt(self, text: str, duties: Sequence[Duty], max_flows: int | None, max_flows_of_one: int | None) -> None:
        """Has workers go by another configuration: those of now by its ``text``, later ones by these duties."""
        duties = [_as_experienced(new, old) for new, (old, _) in zip(duties, self._duties, strict=True)]
        self._duties = _with_limits(duties, self._count, max_flows, max_flows_of_one)
        limits = [astuple(limits) for _, limits in self._duties]
        for seat in self._seats.values():
            seat.channel.send({"adopt": text, "limits": limits})

    def drain(self, then: Callback) -> None:
        """Bonds no more, and calls ``then`` when the last connection has ended, an earlier daemon's too."""
        self._stopping = True
        for seat in self._seats.values():
            seat.let_go()
            seat.channel.send({"drain": True})

        def look() -> None:
            if self._seats or self._orphans.alive:
                self._loop.call_later(_DRAINED, look)
            else:
                then()

        look()

    def tell(self, news: Message) -> None:
        """For each role's ``learn``. Workers that begin later have it by their fork."""
        for seat in self._seats.values():
            seat.channel.send({"learn": news})

    def stop(self) -> None:
        """Resets every connection, and waits for the processes to end."""
        self._stopping = True
        for seat in self._seats.values():
            seat.channel.send({"stop": True})
        for seat in self._seats.values():
            _reap(seat.pid, _STOPPING)
            seat.let_go()
            seat.channel.close()
        self._seats.clear()
        self._orphans.remember(())

    def _seat(self, number: int, short_lives: int = 0) -> None:
        ours, theirs = socket.socketpair()
        try:
            equipment = Equipment(self._entrances(number), theirs, self._roles)
        except SystemLacks:
            ours.close()
            theirs.close()
            raise
        pid = os.fork()
        if pid == 0:
            worker.run(equipment)
        queues = equipment.hand_over()
        channel = Channel(
            self._loop, ours, lambda message: self._on_message(number, message), lambda: self._on_end(number)
        )
        self._seats[number] = _Seat(number, pid, channel, self._loop.now(), queues, short_lives)
        self._orphans.remember(seat.pid for seat in self._seats.values())

    def _entrances(self, number: int) -> list[Entrance]:
        with contextlib.ExitStack() as undo:
            entrances = []
            for duty, limits in self._duties:
                entrance = enter(duty, number, limits)
                undo.callback(entrance.close)
                entrances.append(entrance)
            undo.pop_all()
        return entrances

    def _watch(self) -> None:
        """Asks all workers whether they are alive."""
        for seat in self._seats.values():
            self._do(seat, seat.pulse.ask(self._loop.now()))
            seat.channel.send({"ask": "alive"})
        self._loop.call_later(_WATCH, self._watch)

    def _do(self, seat: _Seat, step: Step | None) -> None:
        match step:
            case Step.WITHDRAW:
                log.warning(
                    "worker %d (process %d) does not answer: its connections pass", *seat.name, extra=seat.about
                )
                for queue in seat.queues:
                    queue.withdraw()
            case Step.BEGIN_ANEW:
                seat.channel.send({"anew": seat.pulse.withdrawn})
            case Step.RESTORE:
                log.info("worker %d (process %d) answers again", *seat.name, extra=seat.about)
                for queue in seat.queues:
                    queue.restore()
            case Step.ABORT:
                log.error("worker %d (process %d) hangs: it is killed", *seat.name, extra=seat.about)
                os.kill(seat.pid, signal.SIGABRT)
                os.kill(seat.pid, signal.SIGCONT)  # one that is stopped does not hear it otherwise
            case Step.KILL:
                os.kill(seat.pid, signal.SIGKILL)

    def _on_message(self, number: int, message: Message) -> None:
        seat = self._seats[number]
        self._do(seat, seat.pulse.heard())
        match message:
            case {"grown": dict(tokens)}:
                self._on_grown(tokens)
            case {"found": [*news], "gate": int(place)}:
                self._spread(number, place, news)
            case {"alive": int(flows)}:
                seat.flows = flows
            case {"anew": float(since)}:
                self._do(seat, seat.pulse.begun(since))
            case {"answer": int(question)} if question in self._questions:
                self._questions[question].answers.append({"worker": number, **message})
                self._waits_no_more(question, number)

    def _spread(self, finder: int, place: int, news: list[Any]) -> None:
        """What one worker has found out of the way to servers is for all others; later ones have it by their fork."""
        worker.hear(self._duties[place][0].role, news)
        for number, seat in self._seats.items():
            if number != finder:
                seat.channel.send({"hear": news, "gate": place})

    def _waits_no_more(self, question: int, number: int) -> None:
        self._questions[question].waits_for.discard(number)
        if not self._questions[question].waits_for:
            self._answered(question)

    def _answered(self, number: int) -> None:
        question = self._questions.pop(number, None)
        if question is not None:
            question.then(sorted(question.answers, key=lambda answer: answer["worker"]))

    def _on_end(self, number: int) -> None:
        """A worker has died; its connections have been reset by the kernel, new ones pass unbonded meanwhile."""
        seat = self._seats.pop(number)
        seat.let_go()  # before a new worker asks for the queues, and while nobody reads them
        for question in list(self._questions):
            self._waits_no_more(question, number)
        how = _reap(seat.pid, _DYING)
        if self._stopping and how == _WELL:
            return
        log.error("worker %d (process %d) has died: %s", *seat.name, how, extra=about(worker=number, reason=how))
        if self._stopping:
            return
        short_lives = seat.short_lives + 1 if self._loop.now() - seat.since < _SHORT_LIFE else 0
        if short_lives >= _GIVE_UP:
            log.error("worker %d does not stay alive", number)
            self._on_hopeless()
            return
        try:
            self._seat(number, short_lives)
        except (SystemLacks, OSError) as lack:  # fork()'s, too
            log.error("worker %d cannot be replaced: %s", number, lack)
            self._on_hopeless()


def _avoided(answers: list[Message]) -> list[Message]:
    """What all workers know, but for what is on its way between them, once."""
    found: dict[tuple[str | None, str | None], Message] = {}
    for it in (it for answer in answers for it in answer["avoided"]):
        one = found.setdefault((it.get("destination"), it.get("host")), it)
        one["seconds"] = max(one["seconds"], it["seconds"])
    return list(found.values())


def _as_experienced(duty: Duty, old: Duty) -> Duty:
    return replace(duty, role=replace(duty.role, experience=old.role.experience))


def _with_limits(
    duties: Sequence[Duty], workers: int, max_flows: int | None, max_flows_of_one: int | None
) -> list[tuple[Duty, Limits]]:
    return [(duty, _limits(duty.share, workers, max_flows, max_flows_of_one)) for duty in duties]


def _limits(share: float, workers: int, max_flows: int | None, max_flows_of_one: int | None) -> Limits:
    """One gate's part of what was asked for, or what there are descriptors for; the rest of these are for pipes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    descriptors = int((hard - _FD_RESERVE) * share)
    wanted = descriptors if max_flows is None else _part(int(max_flows * share), workers)
    flows = max(1, min(wanted, descriptors // _FD_PER_FLOW))
    if max_flows is not None and flows < wanted:
        log.warning("%d connections a worker instead of %d: the limit of open files is %d", flows, wanted, hard)
    flows_of_one = _part(flows, _HOSTS) if max_flows_of_one is None else _part(max_flows_of_one, workers)
    # A listener whose queue of half-open connections is full answers with SYN cookies. Their last ACK belongs to no
    # socket, so nothing would tell it from a passing packet, and the connection would not come about.
    backlog = min(transparent.BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    return Limits(flows, flows_of_one, max(0, descriptors - 2 * flows) // 2, max(1, backlog // 2))


def _part(whole: int, parts: int) -> int:
    """Rounded up: nobody is left with nothing."""
    return -(-whole // parts)


def _reap(pid: int, patience: float) -> str:
    """Waits for the process, ends it when that takes too long, and says how it ended."""
    deadline = time.monotonic() + patience
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
        while not ended and time.monotonic() < deadline:
            time.sleep(0.005)
            ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return "unknown"
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
