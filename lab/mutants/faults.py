# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults, one a mutant: what somebody could break, and the rows that would tell."""

from lab.mutants.mutation import Mutation

CONNECTION, FLOW, GATE, RELAY = (f"common/{name}.py" for name in ("connection", "flow", "gate", "relay"))
TRANSPARENT = "common/transparent.py"

FAULTS = (
    Mutation(
        name="released before the server has answered",
        file=GATE,
        old="        self._opening_of[syn.source] += 1\n",
        new="        self._opening_of[syn.source] += 1\n        connection.handle(Event.CONNECTED)\n",
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
        name="a half-close closes both ways",
        file=FLOW,
        old="Event.UP_ENDED: (State.HALF_UP, (Action.END_SERVER,)),",
        new="Event.UP_ENDED: (State.CLOSED, (Action.END_SERVER, Action.END_CLIENT, Action.CLOSE)),",
        rows=("8a",),
    ),
    Mutation(
        name="EAGAIN taken for the end",
        file=RELAY,
        old="            return WAIT_SINK if self._filled else WAIT_SOURCE\n",
        new="            return ENDED\n",
        rows=("8a",),
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
        rows=("8x",),
    ),
    Mutation(
        name="linger forgotten",
        file=TRANSPARENT,
        old='_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)',
        new='_RESET_ON_CLOSE: Final = struct.pack("ii", 0, 0)',
        rows=("8x",),
    ),
)
