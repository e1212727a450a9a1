# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults, one a mutant: what somebody could break, and the rows that would tell."""

from lab.mutants.mutation import Mutation

CONNECTION, FLOW, GATE, RELAY = (f"common/{name}.py" for name in ("connection", "flow", "gate", "relay"))
TRANSPARENT = "common/transparent.py"

FAULTS = (
    Mutation(
        name="released before the server has answered",
        file=CONNECTION,
        old="(server.fileno(), _WATCH, self._on_connecting)\n",
        new="(server.fileno(), _WATCH, self._on_connecting)\n        self.handle(Event.CONNECTED)\n",
        rows=("1a",),
    ),
    Mutation(
        name="a refusal becomes another one",
        file=FLOW,
        old="errno.ECONNREFUSED: Refusal.RESET,",
        new="errno.ECONNREFUSED: Refusal.HOST_UNREACHABLE,",
        rows=("1a",),
    ),
    Mutation(
        name="SHUT_WR forgotten",
        file=CONNECTION,
        old="        leg.shutdown(socket.SHUT_WR)\n",
        new="        pass\n",
        rows=("8a",),
    ),
    Mutation(
        name="the client's half-close closes both ways",
        file=FLOW,
        old="Event.UP_ENDED: (State.HALF_UP, (Action.END_SERVER,)),",
        new="Event.UP_ENDED: (State.CLOSED, (Action.END_SERVER, Action.END_CLIENT, Action.CLOSE)),",
        rows=("8a",),
    ),
    Mutation(
        name="the server's half-close closes both ways",
        file=FLOW,
        old="Event.DOWN_ENDED: (State.HALF_DOWN, (Action.END_CLIENT,)),",
        new="Event.DOWN_ENDED: (State.CLOSED, (Action.END_CLIENT, Action.END_SERVER, Action.CLOSE)),",
        rows=("8b",),
    ),
    Mutation(
        name="EAGAIN taken for the end",
        file=RELAY,
        old="            return WAIT_SINK if self._filled else WAIT_SOURCE\n",
        new="            return ENDED\n",
        rows=("8a",),
    ),
    Mutation(
        name="EAGAIN ignored, tried again at once",
        file=RELAY,
        old="            return WAIT_SINK if self._filled else WAIT_SOURCE\n",
        new="            return GIVE_WAY\n",
        rows=("8y",),
    ),
    Mutation(
        name="a sink that has room again not noticed",
        file=RELAY,
        old="        if events & _WRITABLE and incoming.waits == WAIT_SINK:\n",
        new="        if events & _WRITABLE and incoming.waits == GIVE_WAY:\n",
        rows=("13a",),
    ),
    Mutation(
        name="the pipe's last bytes dropped",
        file=RELAY,
        old="                    self._filled -= size\n",
        new="                    self._filled = 0\n",
        rows=("13a",),
    ),
    Mutation(
        name="what a partial send left is lost",
        file=RELAY,
        old="        self._left = memoryview(bytes(data[sent:]))\n",
        new="        self._left = None\n",
        rows=("13a",),
    ),
    Mutation(
        name="a failure ends with FIN",
        file=CONNECTION,
        old="            self._relay.reset()\n",
        new="            self._relay.close()\n",
        rows=("8g", "8h", "8x"),
    ),
    Mutation(
        name="what was said before RST is lost",
        file=RELAY,
        old="                outgoing.move()\n",
        new="                pass\n",
        rows=("8l",),
    ),
    Mutation(
        name="linger forgotten",
        file=TRANSPARENT,
        old='_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)',
        new='_RESET_ON_CLOSE: Final = struct.pack("ii", 0, 0)',
        rows=("8x",),
    ),
    Mutation(
        name="DSCP forgotten",
        file=GATE,
        old="                syn.dscp,\n",
        new="                0,\n",
        rows=("10a",),
    ),
    Mutation(
        name="more connections than allowed",
        file=GATE,
        old="        if len(self.connections) >= limits.flows:\n",
        new="        if False:\n",
        rows=("12a",),
    ),
)
