# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults, one a mutant: what somebody could break, and the rows that would tell."""

from lab.mutants.mutation import Mutation

CONNECTION, FLOW, GATE, RELAY = (f"common/{name}.py" for name in ("connection", "flow", "gate", "relay"))
ADMIT, HAG_TABLE = "hag/admit.py", "nftables/hybrid-hag.nft"
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
    Mutation(
        name="clients' own Multipath TCP ended by the HAG",
        file=ADMIT,
        old="        if not (capable.no_join_here or self._ends_native):\n",
        new="        if not (capable.flags or self._ends_native):\n",
        rows=("5c", "5f"),
    ),
    Mutation(
        name="clients' own Multipath TCP stripped",
        file=GATE,
        old="strip=self._role.strips and not decision.untouched",
        new="strip=self._role.strips",
        rows=("5c", "5j"),
    ),
    Mutation(
        name="Multipath TCP from end to end taken for a lost subflow",
        file=HAG_TABLE,
        old="		update @spared4 { ip daddr . tcp dport . ip saddr . tcp sport }\n",
        new="",
        rows=("5g",),
    ),
    Mutation(
        name="addresses known in one spelling",
        file=ADMIT,
        old="        if syn.destination in self._special or _is_isatap(syn.destination):\n",
        new="        if syn.destination in self._special and False:\n",
        rows=("6e", "6f"),
        family=6,
    ),
    Mutation(
        name="forged sources believed",
        file=HAG_TABLE,
        old="		fib saddr . iif oif missing counter name forged accept\n",
        new="",
        rows=("6f",),
    ),
    Mutation(
        name="the kernel lets server legs go anywhere",
        file=HAG_TABLE,
        old="		counter name stopped drop ",
        new="		counter name stopped accept ",
        rows=("6h", "6i"),
    ),
)
