# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/architecture.md shows the flow's states as they are: the diagram is the table of common/flow.py."""

from pathlib import Path

from common.flow import TRANSITIONS, State

DOCUMENT = Path(__file__).parents[2] / "docs/architecture.md"


def diagram() -> str:
    """What to put into the document when the table has changed."""
    lines = ["stateDiagram-v2", f"    [*] --> {name(State.HELD)}: SYN"]
    for state, events in TRANSITIONS.items():
        for event, (after, actions) in events.items():
            does = ", ".join(action.value for action in actions)
            lines.append(f"    {name(state)} --> {name(after)}: {event.value} / {does}")
    lines.append(f"    {name(State.CLOSED)} --> [*]")
    return "\n".join(lines)


def name(state: State) -> str:
    return state.name


def test_diagram_is_the_table() -> None:
    block = DOCUMENT.read_text().partition("```mermaid\n")[2].partition("\n```")[0]
    assert block == diagram()
