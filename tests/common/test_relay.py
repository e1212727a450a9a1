# SPDX-License-Identifier: GPL-2.0-or-later
"""The data path over real connections: what goes in comes out, ends are repeated, nothing piles up or stays behind."""

import contextlib
import hashlib
import os
import random
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from common import relay, transparent
from common.flow import Action, Event, State, step
from common.loop import EDGE, IN, OUT, RDHUP, Loop
from common.relay import COPIED, GIVE_WAY, PIPE, TURN, WAIT_SINK, Half, PipePool, Relay
from common.transparent import MPTCP, TCP
from tests.running import PATIENCE, RunningLoop, until

WATCH = IN | OUT | RDHUP | EDGE
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
MEGABYTE = random.Random(1).randbytes(1 << 20)


def tcp_pair(protocol: int = TCP, buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection over loopback; `buffer` is the size of each of their buffers in bytes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as listener:
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        if buffer is not None:
            for sock in (listener, near):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        near.settimeout(PATIENCE)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(PATIENCE)
    return near, far


class Relayed:
    """A client and a server with a relay between them, which does what the flow's table says."""

    def __init__(self, running: RunningLoop, pipes: PipePool, protocol: int = TCP, buffer: int | None = None) -> None:
        self.running = running
        self.client, client_leg = tcp_pair(protocol, buffer)
        self.server, server_leg = tcp_pair(protocol, buffer)
        for leg in (client_leg, server_leg):
            leg.setblocking(False)
            leg.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.state = State.OPEN
        self.events: list[Event] = []
        self.most_kept = 0
        self.relay = Relay(running.loop, client_leg, server_leg, pipes, self.report)

    def start(self) -> None:
        self.running.call(self._start)

    def _start(self) -> None:
        self.running.loop.add(self.relay.client.fileno(), WATCH, self._watched(self.relay.on_client))
        self.running.loop.add(self.relay.server.fileno(), WATCH, self._watched(self.relay.on_server))

    def _watched(self, handler: Callable[[int], None]) -> Callable[[int], None]:
        def handle(events: int) -> None:
            handler(events)
            self.most_kept = max(self.most_kept, self.relay.up.kept, self.relay.down.kept)

        return handle

    def report(self, event: Event) -> None:
        self.events.append(event)
        self.state, actions = step(self.state, event)
        for action in actions:
            match action:
                case Action.END_CLIENT:
                    self.relay.client.shutdown(socket.SHUT_WR)
                case Action.END_SERVER:
                    self.relay.server.shutdown(socket.SHUT_WR)
                case Action.CLOSE:
                    self.relay.close()
                case Action.RESET:
                    self.relay.reset()

    def close(self) -> None:
        self.client.close()
        self.server.close()
        if self.state is not State.CLOSED:
            self.running.call(self.relay.reset)


Connect = Callable[..., Relayed]


@pytest.fixture
def pipes() -> Iterator[PipePool]:
    pool = PipePool(most=16)
    yield pool
    for pipe in pool._spare:
        pool.discard(pipe)


@pytest.fixture
def connect(running: RunningLoop, pipes: PipePool) -> Iterator[Connect]:
    made: list[Relayed] = []

    def make(start: bool = True, **options: int) -> Relayed:
        made.append(Relayed(running, pipes, **options))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for relayed in made:
        relayed.close()


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture(params=[TCP, MPTCP], ids=["TCP", "MPTCP"])
def protocol(request: pytest.FixtureRequest) -> int:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, request.param).close()
    except OSError as error:
        pytest.skip(f"no Multipath TCP here: {error.strerror}")
    return int(request.param)


def digest(megabytes: int) -> str:
    hasher = hashlib.sha256()
    for _ in range(megabytes):
        hasher.update(MEGABYTE)
    return hasher.hexdigest()


def send(sock: socket.socket, megabytes: int) -> None:
    for _ in range(megabytes):
        sock.sendall(MEGABYTE)
    sock.shutdown(socket.SHUT_WR)


def receive(sock: socket.socket) -> tuple[int, str]:
    """How many bytes come until the end, and their digest."""
    hasher, size = hashlib.sha256(), 0
    while data := sock.recv(1 << 18):
        hasher.update(data)
        size += len(data)
    return size, hasher.hexdigest()


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, f"the end came {size - len(data)} bytes early"
        data += more
    return data


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()


def is_reset(sock: socket.socket) -> bool:
    """Reads to the end and says whether that was a reset; what came before it does not matter."""
    try:
        while sock.recv(1 << 18):
            pass
    except ConnectionResetError:
        return True
    return False


def descriptors() -> set[str]:
    """What this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


# Bytes


def test_both_directions_at_once(connect: Connect, pipes: PipePool, aside: ThreadPoolExecutor, protocol: int) -> None:
    relayed = connect(protocol=protocol)
    sent = [aside.submit(send, relayed.client, 6), aside.submit(send, relayed.server, 8)]
    down = aside.submit(receive, relayed.client)
    assert receive(relayed.server) == (6 << 20, digest(6))
    assert down.result() == (8 << 20, digest(8))
    assert all(done.result() is None for done in sent)
    until(lambda: relayed.state is State.CLOSED)
    assert (relayed.relay.up.moved, relayed.relay.down.moved) == (6 << 20, 8 << 20)
    assert pipes._spare, "the long connection went through no pipe"


def test_a_short_connection_costs_no_pipe(connect: Connect, pipes: PipePool) -> None:
    relayed = connect()
    relayed.client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert relayed.server.recv(1000) == b"GET / HTTP/1.0\r\n\r\n"
    relayed.server.sendall(MEGABYTE[: COPIED - 1])
    relayed.server.shutdown(socket.SHUT_WR)
    assert receive(relayed.client)[0] == COPIED - 1
    assert pipes._spare == []


def test_an_idle_connection_holds_no_pipe(connect: Connect, pipes: PipePool, aside: ThreadPoolExecutor) -> None:
    relayed = connect()
    aside.submit(relayed.client.sendall, MEGABYTE)
    got = 0
    while got < len(MEGABYTE):
        got += len(relayed.server.recv(1 << 18))
    until(lambda: relayed.running.call(lambda: relayed.relay.up._pipe is None))
    assert len(pipes._spare) == 1
    assert relayed.relay.up.kept == 0


def test_what_came_before_the_start(connect: Connect) -> None:
    """Its edge is gone before anybody watches."""
    relayed = connect(start=False)
    relayed.client.sendall(b"early")
    relayed.server.sendall(b"banner")
    relayed.server.shutdown(socket.SHUT_WR)
    select.select([relayed.relay.client], [], [], PATIENCE)
    select.select([relayed.relay.server], [], [], PATIENCE)
    relayed.start()
    assert relayed.server.recv(100) == b"early"
    assert receive(relayed.client)[0] == len("banner")


def test_an_end_that_was_told_while_the_sink_was_full(connect: Connect) -> None:
    """It gets no edge of its own when the rest is read."""
    relayed = connect(buffer=16384)
    sent = 0
    while relayed.running.call(lambda: relayed.relay.up.waits) != WAIT_SINK:
        sent += relayed.client.send(MEGABYTE[:4096])
    relayed.client.sendall(b"rest")
    relayed.client.shutdown(socket.SHUT_WR)
    until(lambda: relayed.running.call(lambda: relayed.relay.up.ends))
    assert sent < COPIED
    assert receive(relayed.server)[0] == sent + len("rest")


def test_ping_pong_across_the_change_from_copying_to_splicing(connect: Connect) -> None:
    relayed = connect()
    stream = random.Random(2)
    while relayed.relay.moved < 3 * COPIED:
        message = stream.randbytes(stream.randrange(1, 9000))
        for here, there in ((relayed.client, relayed.server), (relayed.server, relayed.client)):
            here.sendall(message)
            assert exactly(there, len(message)) == message


# Ends


def test_no_byte_at_all(connect: Connect, protocol: int) -> None:
    relayed = connect(protocol=protocol)
    relayed.client.shutdown(socket.SHUT_WR)
    assert relayed.server.recv(1) == b""
    assert relayed.state is State.HALF_UP
    relayed.server.shutdown(socket.SHUT_WR)
    assert relayed.client.recv(1) == b""
    until(lambda: relayed.state is State.CLOSED)
    assert relayed.events == [Event.UP_ENDED, Event.DOWN_ENDED]


def test_the_client_ends_and_the_server_goes_on(connect: Connect, aside: ThreadPoolExecutor, protocol: int) -> None:
    relayed = connect(protocol=protocol)
    relayed.client.sendall(b"request")
    relayed.client.shutdown(socket.SHUT_WR)
    assert receive(relayed.server)[0] == len("request")
    aside.submit(send, relayed.server, 2)
    assert receive(relayed.client) == (2 << 20, digest(2))
    until(lambda: relayed.events == [Event.UP_ENDED, Event.DOWN_ENDED])


def test_the_server_ends_and_the_client_goes_on(connect: Connect, aside: ThreadPoolExecutor, protocol: int) -> None:
    relayed = connect(protocol=protocol)
    relayed.server.sendall(b"banner")
    relayed.server.shutdown(socket.SHUT_WR)
    assert receive(relayed.client)[0] == len("banner")
    aside.submit(send, relayed.client, 2)
    assert receive(relayed.server) == (2 << 20, digest(2))
    until(lambda: relayed.events == [Event.DOWN_ENDED, Event.UP_ENDED])


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_reset_becomes_a_reset(connect: Connect, breaker: str, protocol: int) -> None:
    relayed = connect(protocol=protocol)
    relayed.client.sendall(b"x")
    assert relayed.server.recv(1) == b"x"
    broken, other = relayed.client, relayed.server
    if breaker == "server":
        broken, other = other, broken
    reset(broken)
    assert is_reset(other)
    assert relayed.events == [Event.BROKEN]


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_what_was_said_before_a_reset_goes_before_it(
    running: RunningLoop, connect: Connect, breaker: str, protocol: int
) -> None:
    """Both are there when the relay wakes up."""
    relayed = connect(protocol=protocol)
    said = MEGABYTE[:5000]
    for one, other in ((relayed.client, relayed.server), (relayed.server, relayed.client)):
        one.sendall(b"x")
        assert other.recv(1) == b"x"
    broken, other = relayed.client, relayed.server
    if breaker == "server":
        broken, other = other, broken

    def say_and_reset() -> None:
        broken.sendall(said)
        reset(broken)

    running.call(say_and_reset)
    assert other.recv(len(said), socket.MSG_WAITALL) == said
    assert is_reset(other)


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_reset_amid_a_transfer(connect: Connect, aside: ThreadPoolExecutor, breaker: str) -> None:
    """With bytes in the relay's hands, in either direction."""
    relayed = connect(buffer=16384)
    sending: Future[None] = aside.submit(send, relayed.client, 4)
    until(lambda: relayed.relay.up.moved > COPIED or relayed.server.recv(1000))
    until(lambda: relayed.running.call(lambda: relayed.relay.up.kept))
    if breaker == "server":
        reset(relayed.server)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sending.result(PATIENCE)
    else:
        reset(relayed.client)
        assert is_reset(relayed.server)
        with pytest.raises(OSError):  # noqa: PT011 (whichever of them the sender was at)
            sending.result(PATIENCE)
    assert relayed.events == [Event.BROKEN]


@pytest.mark.parametrize(("ended", "breaker"), [("client", "server"), ("server", "client"), ("client", "client")])
def test_a_reset_after_one_side_has_ended(connect: Connect, ended: str, breaker: str) -> None:
    relayed = connect()
    sides = {"client": relayed.client, "server": relayed.server}
    sides[ended].shutdown(socket.SHUT_WR)
    until(lambda: relayed.events)
    reset(sides[breaker])
    until(lambda: relayed.state is State.CLOSED)
    assert relayed.events[-1] is Event.BROKEN


# What is kept


def test_a_slow_reader_holds_the_sender_back(connect: Connect, aside: ThreadPoolExecutor) -> None:
    relayed = connect(buffer=16384)
    sent = 0

    def send_some() -> None:
        nonlocal sent
        for start in range(0, 4 << 20, 4096):
            relayed.client.sendall(MEGABYTE[start % len(MEGABYTE) :][:4096])
            sent += 4096
        relayed.client.shutdown(socket.SHUT_WR)

    sending = aside.submit(send_some)
    until(lambda: relayed.running.call(lambda: relayed.relay.up.kept))  # nobody reads: at the end all is full
    hasher, got = hashlib.sha256(), 0
    while data := relayed.server.recv(4096):
        hasher.update(data)
        got += len(data)
        # Four buffers of sockets, of which the kernel makes the double, and a pipe lie between the two.
        assert sent - got <= 4 * 2 * 16384 * 2 + PIPE + 4096
    sending.result(PATIENCE)
    assert (got, hasher.hexdigest()) == (4 << 20, digest(4))
    assert relayed.most_kept <= PIPE


@pytest.mark.parametrize("protocol", [TCP, MPTCP])
def test_what_the_box_holds_of_a_direction(connect: Connect, aside: ThreadPoolExecutor, protocol: int) -> None:
    relayed = connect(protocol=protocol)
    assert relayed.running.call(lambda: (relayed.relay.up.held, relayed.relay.down.held)) == (0, 0)
    size = COPIED + len(MEGABYTE)
    sending = aside.submit(relayed.client.sendall, bytes(size))
    until(lambda: relayed.running.call(lambda: relayed.relay.up.held) > 128 * 1024)  # nobody reads
    assert relayed.running.call(lambda: relayed.relay.down.held) < 4096
    got = 0
    while got < size:
        got += len(relayed.server.recv(1 << 18))
    sending.result(PATIENCE)
    until(lambda: relayed.running.call(lambda: relayed.relay.up.held) == 0)
    relayed.running.call(relayed.relay.close)
    assert relayed.running.call(lambda: (relayed.relay.up.held, relayed.relay.down.held)) == (0, 0)


def test_what_waits_copied_is_not_touched_by_other_connections(connect: Connect, aside: ThreadPoolExecutor) -> None:
    """The buffer for copying is everybody's."""
    slow = connect(buffer=16384)
    sending = aside.submit(slow.client.sendall, MEGABYTE[: COPIED - 1])
    until(lambda: slow.running.call(lambda: slow.relay.up.kept))
    other = connect()
    other.client.sendall(b"\0" * (COPIED - 1))
    assert exactly(other.server, COPIED - 1) == b"\0" * (COPIED - 1)
    assert exactly(slow.server, COPIED - 1) == MEGABYTE[: COPIED - 1]
    sending.result(PATIENCE)


def test_what_waits_in_the_pipe_goes_on_though_nothing_follows(connect: Connect, aside: ThreadPoolExecutor) -> None:
    relayed = connect(buffer=16384)
    sending = aside.submit(relayed.client.sendall, MEGABYTE[:COPIED])
    assert exactly(relayed.server, COPIED) == MEGABYTE[:COPIED]
    sending.result(PATIENCE)
    sent = 0
    while not relayed.running.call(lambda: relayed.relay.up.kept):
        sent += relayed.client.send(MEGABYTE[sent : sent + 1000])
    assert relayed.relay.up._pipe is not None
    assert exactly(relayed.server, sent) == MEGABYTE[:sent]


def test_one_direction_stuck_does_not_hold_up_the_other(connect: Connect, aside: ThreadPoolExecutor) -> None:
    relayed = connect(buffer=16384)
    relayed.client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            relayed.client.send(MEGABYTE[:4096])
            until(lambda: select.select([], [relayed.client], [], 0.05)[1] or relayed.relay.up.waits == relay.WAIT_SINK)
    relayed.client.settimeout(PATIENCE)
    aside.submit(send, relayed.server, 1)
    assert receive(relayed.client) == (1 << 20, digest(1))


def test_without_descriptors_for_pipes_bytes_are_copied(
    connect: Connect, pipes: PipePool, aside: ThreadPoolExecutor
) -> None:
    relayed = connect()
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, former[1]))
        assert pipes.take() is None
        aside.submit(send, relayed.client, 4)
        assert receive(relayed.server) == (4 << 20, digest(4))
        assert relayed.relay.up.moved == 4 << 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
    assert pipes._spare == []


def test_no_descriptor_is_left(running: RunningLoop, aside: ThreadPoolExecutor) -> None:
    """However a connection ends, also with its pipe full."""
    before = descriptors()
    pipes = PipePool(most=1)
    for number in range(24):
        relayed = Relayed(running, pipes, buffer=16384)
        relayed.start()
        sending = aside.submit(send, relayed.client, 1)
        exactly(relayed.server, 2 * COPIED)
        until(lambda relayed=relayed: running.call(lambda: relayed.relay.up._filled))  # type: ignore[misc]
        match number % 4:
            case 0:
                reset(relayed.server)
            case 1:
                reset(relayed.client)
            case 2:
                running.call(relayed.relay.reset)
                relayed.state = State.CLOSED
            case 3:
                assert receive(relayed.server)[0] == (1 << 20) - 2 * COPIED
                relayed.server.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            sending.result(PATIENCE)
        until(lambda relayed=relayed: relayed.state is State.CLOSED)  # type: ignore[misc]
        relayed.close()
    for pipe in pipes._spare:
        pipes.discard(pipe)
    until(lambda: descriptors() <= before, "all is closed")


def test_the_pool_lends_only_so_many_pipes_and_closes_what_was_not_emptied() -> None:
    before = descriptors()
    pool = PipePool(most=2)
    one, two = pool.take(), pool.take()
    assert one
    assert two
    assert pool.take() is None
    pool.give_back(one)
    assert pool.take() == one
    pool.discard(two)
    three = pool.take()
    assert three
    assert pool.take() is None
    pool.discard(one)
    pool.discard(three)
    assert descriptors() == before


def test_without_a_pipe_to_borrow_bytes_are_copied(running: RunningLoop, aside: ThreadPoolExecutor) -> None:
    relayed = Relayed(running, PipePool(most=0))
    relayed.start()
    sending = aside.submit(send, relayed.client, 4)
    assert receive(relayed.server) == (4 << 20, digest(4))
    sending.result(PATIENCE)
    relayed.close()


# Turns


class Plenty:
    """In a socket's place: a source that does not run dry within a test."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("plenty")
        os.ftruncate(self._descriptor, 1 << 40)

    def fileno(self) -> int:
        return self._descriptor

    def recv_into(self, buffer: memoryview) -> int:
        return os.readv(self._descriptor, [buffer])

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class Abyss:
    """In a socket's place: a sink that takes everything and says nothing."""

    def __init__(self) -> None:
        self._descriptor = os.open("/dev/null", os.O_WRONLY)

    def fileno(self) -> int:
        return self._descriptor

    def send(self, data: memoryview) -> int:
        return os.write(self._descriptor, data)

    def recv_into(self, _buffer: memoryview) -> int:
        raise BlockingIOError

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@pytest.fixture
def plenty() -> Iterator[Plenty]:
    with contextlib.closing(Plenty()) as source:
        yield source


@pytest.fixture
def abyss() -> Iterator[Abyss]:
    with contextlib.closing(Abyss()) as sink:
        yield sink


def test_a_turn_is_limited(plenty: Plenty, abyss: Abyss, pipes: PipePool) -> None:
    endless = Half(plenty, abyss, pipes)  # type: ignore[arg-type]
    for _ in range(5):
        before = endless.moved
        assert endless.move() == GIVE_WAY
        assert TURN <= endless.moved - before < TURN + PIPE
    endless.drop()


def test_a_connection_with_plenty_to_move_does_not_keep_others_waiting(
    connect: Connect, running: RunningLoop, plenty: Plenty, abyss: Abyss
) -> None:
    other = connect()
    hog = Relay(running.loop, plenty, abyss, PipePool(most=1), lambda event: None)  # type: ignore[arg-type]
    running.call(lambda: hog.on_client(IN))
    other.client.sendall(b"x")
    assert other.server.recv(1) == b"x"
    before = running.call(lambda: hog.up.moved)
    until(lambda: running.call(lambda: hog.up.moved) > before)
    running.call(hog.reset)


# A relay that dies


@pytest.mark.root
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("legs", [(TCP, MPTCP), (MPTCP, TCP)], ids=["CPE", "HAG"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_killed_relay_leaves_resets(family: int, legs: tuple[int, int], busy: bool) -> None:
    """Never a clean end, which would pass half a file off as the whole."""
    host = LOOPBACK[socket.AddressFamily(family)]
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, legs[1]))
        target.bind((host, 0))
        target.listen()
        target.settimeout(PATIENCE)
        listener = stack.enter_context(transparent.listener(family, 9000, legs[0]))
        pid = os.fork()
        if pid == 0:
            relay_one(listener, target, family, legs[1])
        listener.close()
        client = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, legs[0]))
        client.settimeout(PATIENCE)
        client.connect((host, 9000))
        server, _ = target.accept()
        stack.enter_context(server)
        server.settimeout(PATIENCE)
        for here, there in ((client, server), (server, client)):
            here.sendall(b"x")
            assert there.recv(1) == b"x"
        if busy:
            server.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                server.sendall(MEGABYTE * 16)
            server.settimeout(PATIENCE)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert is_reset(client)
        assert is_reset(server)


def relay_one(listener: socket.socket, target: socket.socket, family: int, protocol: int) -> None:
    """In a process of its own: relays the listener's first connection to where ``target`` listens, until killed."""
    try:
        select.select([listener], [], [], PATIENCE)
        client, _ = listener.accept()
        client.setblocking(False)
        host, port = target.getsockname()[:2]
        server = transparent.server_leg(family, protocol, (host, 0), (host, port), 0)
        target.close()
        select.select([], [server], [], PATIENCE)
        loop = Loop()
        one = Relay(loop, client, server, PipePool(most=1), lambda event: os._exit(1))
        loop.add(client.fileno(), WATCH, one.on_client)
        loop.add(server.fileno(), WATCH, one.on_server)
        loop.run()
    finally:
        os._exit(1)
