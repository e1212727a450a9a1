# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done about a worker that does not answer: transcripts.

`ask` is control's question, one a second; a worker says `alive`, or `begun` that it has begun anew since then. `<<` is
what is done.
"""

from common.pulse import Pulse, Step


class Player:
    """A worker's pulse with a clock."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.now = 1000.0

    def play(self, *lines: str) -> None:
        heard = []
        for line in lines:
            if not line.startswith("<<"):
                step = self.hear(line.split())
                heard += [line] if step is None else [line, f"<< {step.value}"]
        assert heard == list(lines)

    def hear(self, words: list[str]) -> Step | None:
        match words:
            case ["ask"]:
                self.now += 1
                return self.pulse.ask(self.now)
            case ["alive"]:
                return self.pulse.heard()
            case ["begun", since]:
                said = self.pulse.heard()
                return self.pulse.begun(float(since)) or said
        raise AssertionError(words)


def test_who_answers_is_left_alone() -> None:
    Player().play(*("ask", "alive") * 20)


def test_an_answer_that_is_late_is_one() -> None:
    Player().play(*("ask", "ask", "alive") * 10)


def test_who_hangs_loses_its_queues_then_its_life() -> None:
    Player().play("ask", "ask", "ask", "<< withdraw", "ask", "ask", "ask", "ask", "<< abort", "ask", "<< kill")


def test_one_that_cannot_even_be_killed_is_killed_again() -> None:
    player = Player()
    player.play("ask", "ask", "ask", "<< withdraw", "ask", "ask", "ask", "ask", "<< abort", "ask", "<< kill")
    player.play("ask", "<< kill")


def test_who_was_only_slow_has_its_queues_back_once_it_has_begun_anew() -> None:
    player = Player()
    player.play("ask", "ask", "ask", "<< withdraw", "ask", "alive", "<< begin-anew")
    assert player.pulse.withdrawn == 1003
    assert not player.pulse.hangs
    player.play("alive", "alive", "ask", "alive", "begun 1003", "<< restore")
    assert player.pulse.withdrawn is None
    player.play(*("ask", "alive") * 5)


def test_who_hangs_again_before_it_has_begun_begins_once_more() -> None:
    """What it says of the first time is no news then: it has queues' numbers of in between to forget."""
    player = Player()
    player.play("ask", "ask", "ask", "<< withdraw", "alive", "<< begin-anew")
    player.play("ask", "ask", "ask", "<< withdraw", "begun 1003", "<< begin-anew", "begun 1006", "<< restore")


def test_who_hangs_again_later_is_treated_alike() -> None:
    player = Player()
    player.play("ask", "ask", "ask", "<< withdraw", "alive", "<< begin-anew", "begun 1003", "<< restore")
    player.play("ask", "ask", "ask", "<< withdraw", "alive", "<< begin-anew", "begun 1006", "<< restore")
