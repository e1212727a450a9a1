# SPDX-License-Identifier: GPL-2.0-or-later
"""hybridctl as people and programs use it: the command line in; output, complaints and exit status out."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ctl import inquiry
from ctl.hybridctl import COMMANDS, main
from tests.ctl.fake_daemon import abandoned_socket, fake_daemon
from tests.ctl.test_display import (
    CPE_FLOWS,
    CPE_STATUS,
    CPE_TEXT,
    HAG_FLOWS,
    HAG_STATUS,
    HAG_TABLE,
    LINKS,
    LINKS_TEXT,
)

PROJECT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "import sys; from ctl.hybridctl import main; sys.exit(main())"]

RIGHT = """\
config cpe 'cpe'
	list lan 'br-lan'

config link 'xdsl'
	option device 'pppoe-wan'
	option role 'primary'

config link 'lte'
	option device 'wwan0'
	option role 'secondary'
"""

WRONG = """\
config cpe 'cpe'
	list lan 'br-lan'

config link 'xdsl'
	option device 'pppoe-wan'
	option role 'primry'

config link 'lte'
	option role 'secondary'
"""

ROLE_REASON = "'primry' is not one of: primary, secondary"
NOT_UNDERSTOOD = "hybridctl: hybrid-cpe answers what this hybridctl does not understand: are they of one version?\n"

EVENTS = [
    {"time": 1795654684.25, "role": "cpe", "level": "info", "what": "link lte is up", "link": "lte"},
    {
        "time": 1795654690.0,
        "role": "cpe",
        "level": "warning",
        "what": "link xdsl is down: 'ppp0' has no carrier",
        "link": "xdsl",
        "reason": "'ppp0' has no carrier",
    },
]
EVENTS_TEXT = """\
2026-11-26 00:58:04  cpe  info     link lte is up
2026-11-26 00:58:10  cpe  warning  link xdsl is down: 'ppp0' has no carrier
"""


class Outcome(NamedTuple):
    """What a command gave."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def hybridctl(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Outcome:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse
            status = int(end.code or 0)
        return Outcome(status, *capsys.readouterr())

    return run


def ok(result: object) -> bytes:
    return json.dumps({"ok": True, "result": result}).encode() + b"\n"


# The command line


def test_the_level_of_the_log(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok({"level": "debug"})) as daemon:
        assert hybridctl("log", "debug", "--run-dir", tmp_path) == (0, "hybrid-cpe logs: debug\n", "")
    assert daemon.request == b'{"command": "log", "level": "debug"}\n'


def test_steering_is_shown(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok({"steering": "overflow", "configured": "overflow"})) as daemon:
        assert hybridctl("steering", "--run-dir", tmp_path) == (0, "steering: overflow\n", "")
    assert daemon.request == b'{"command": "steering"}\n'


def test_steering_is_set(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok({"steering": "always", "configured": "overflow"})) as daemon:
        outcome = hybridctl("steering", "set", "always", "--run-dir", tmp_path)
    assert outcome == (0, "steering: always, for now (the configuration has overflow)\n", "")
    assert daemon.request == b'{"command": "steering", "set": "always"}\n'


@pytest.mark.parametrize("words", [["set"], ["always"], ["set", "never"]])
def test_steering_is_set_to_a_mode(hybridctl: Run, tmp_path: Path, words: list[str]) -> None:
    outcome = hybridctl("steering", *words, "--run-dir", tmp_path)
    assert (outcome.status, outcome.out) == (2, "")


def test_what_a_reload_has_changed(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok({"changed": ["list lan", "config bypass"], "errors": []})):
        outcome = hybridctl("reload", "--run-dir", tmp_path)
    assert outcome == (0, "hybrid-cpe has changed: list lan, config bypass\n", "")


def test_a_reload_that_changes_nothing(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok({"changed": [], "errors": ["file:3: wrong", "file:5: too"]})):
        outcome = hybridctl("reload", "--run-dir", tmp_path)
    told = "hybrid-cpe goes on with the configuration that it has.\n"
    assert outcome == (1, told, "hybridctl: file:3: wrong\nhybridctl: file:5: too\n")


def test_a_reload_of_one_that_waits(hybridctl: Run, tmp_path: Path) -> None:
    reason = "there is no device 'late' (option 'lan')"
    told = f"hybrid-cpe tries again at once what it was waiting for: {reason}\n"
    for errors, status, complaints in (([], 0, ""), (["file:3: wrong"], 1, "hybridctl: file:3: wrong\n")):
        with fake_daemon(tmp_path, "cpe", ok({"changed": [], "errors": errors, "waiting": reason})):
            assert hybridctl("reload", "--run-dir", tmp_path) == (status, told, complaints)
        (tmp_path / "cpe.sock").unlink()


def test_a_reload_has_a_patience_of_its_own(hybridctl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inquiry.PATIENCE_TO_RELOAD > inquiry.PATIENCE
    monkeypatch.setattr(inquiry, "PATIENCE_TO_RELOAD", 0.05)
    with fake_daemon(tmp_path, "cpe", None):
        outcome = hybridctl("reload", "--run-dir", tmp_path)
    silent = f"hybridctl: hybrid-cpe does not answer (waited 0.05 seconds at {tmp_path}/cpe.sock)\n"
    assert outcome == (3, "", silent)


@pytest.mark.parametrize("wrong", [True, False])
def test_doctor(hybridctl: Run, file: Path, wrong: bool) -> None:
    file.write_text(WRONG if wrong else RIGHT)
    outcome = hybridctl("doctor", "--local", "--config", file)
    assert (outcome.status, outcome.err) == (5, "")
    lines = [re.split(r"  +", line) for line in outcome.out.splitlines()]
    assert lines[0] == ["WHAT", "STATE", "HOW"]
    missing = [line for line in lines if "MISSING" in line]
    if wrong:
        assert missing[0][2] == f"{file}:6: link 'xdsl', option 'role': {ROLE_REASON}"
    else:
        assert ["device pppoe-wan", "MISSING", "there is none of that name (link 'xdsl')"] in missing
        assert ["net.mptcp.blackhole_timeout", "ok"] in [line[:2] for line in lines]


def test_doctor_for_programs(hybridctl: Run, file: Path) -> None:
    file.write_text(RIGHT.replace("'br-lan'", "'lo'"))
    outcome = hybridctl("doctor", "--local", "--json", "--config", file)
    answer = json.loads(outcome.out)
    assert (outcome.status, answer["ok"]) == (5, False)
    assert {"what": "device lo", "found": True, "text": "lan", "needed": True} in answer["findings"]


def test_doctor_is_asked_for_something(hybridctl: Run) -> None:
    assert hybridctl("doctor").status == 2


def test_without_a_command_it_prints_help_and_fails(hybridctl: Run) -> None:
    outcome = hybridctl()
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: hybridctl ")


def test_help_has_every_command_and_exit_status(hybridctl: Run) -> None:
    outcome = hybridctl("--help")
    assert outcome.status == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^    {name} +{command.summary}$", outcome.out, re.MULTILINE)
    assert re.findall(r"^  (\d)  ", outcome.out, re.MULTILINE) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(hybridctl: Run, name: str) -> None:
    outcome = hybridctl(name, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"usage: hybridctl {name} ")
    assert "{{" not in outcome.out
    assert '{"' in outcome.out  # the document that --json prints


def test_version(hybridctl: Run) -> None:
    outcome = hybridctl("--version")
    assert outcome.status == 0
    assert re.fullmatch(r"hybridctl \S.*\n", outcome.out)


@pytest.mark.parametrize(
    "arguments", [["stats"], ["status", "--role", "lte"], ["check", "a", "b"], ["flows", "x"], ["log"], ["log", "loud"]]
)
def test_wrong_command_line(hybridctl: Run, arguments: list[str]) -> None:
    outcome = hybridctl(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: ")


# check


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hybridaccess"


def test_a_right_configuration(hybridctl: Run, file: Path) -> None:
    file.write_text(RIGHT)
    assert hybridctl("check", file) == (0, f"{file}: ok: cpe with links xdsl (primary), lte (secondary)\n", "")
    assert hybridctl("check", "--json", file) == (0, '{"ok": true, "errors": []}\n', "")


def test_a_wrong_configuration(hybridctl: Run, file: Path) -> None:
    file.write_text(WRONG)
    complaints = (
        f"{file}:6: link 'xdsl', option 'role': {ROLE_REASON}\n{file}:8: link 'lte': option 'device' is missing\n"
    )
    assert hybridctl("check", file) == (1, "", complaints)


def test_a_wrong_configuration_for_programs(hybridctl: Run, file: Path) -> None:
    file.write_text(WRONG)
    outcome = hybridctl("check", "--json", file)
    assert (outcome.status, outcome.err) == (1, "")
    name = str(file)
    assert json.loads(outcome.out) == {
        "ok": False,
        "errors": [
            {"file": name, "line": 6, "section": "link 'xdsl'", "option": "role", "reason": ROLE_REASON},
            {"file": name, "line": 8, "section": "link 'lte'", "option": None, "reason": "option 'device' is missing"},
        ],
    }


def test_a_configuration_without_a_role(hybridctl: Run, file: Path) -> None:
    file.write_text("# nothing yet\n")
    reason = "there is neither a 'config cpe' nor a 'config hag' section"
    assert hybridctl("check", file) == (1, "", f"{file}: {reason}\n")
    error = {"file": str(file), "line": None, "section": None, "option": None, "reason": reason}
    assert json.loads(hybridctl("check", file, "--json").out) == {"ok": False, "errors": [error]}


def test_a_missing_file(hybridctl: Run, file: Path) -> None:
    assert hybridctl("check", file) == (1, "", f"{file}: cannot be read: No such file or directory\n")


def test_a_file_whose_name_would_clear_the_screen(hybridctl: Run, tmp_path: Path) -> None:
    file = tmp_path / "\x1b[2J"
    file.write_text(RIGHT)
    assert hybridctl("check", file).out.startswith(f"{tmp_path}/\\x1b[2J: ok: ")
    file.unlink()
    assert hybridctl("check", file).err.startswith(f"{tmp_path}/\\x1b[2J: cannot be read")


# status and flows


def test_status_of_the_one_daemon_there(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(CPE_STATUS)) as daemon:
        assert hybridctl("status", "--run-dir", tmp_path) == (0, f"{CPE_TEXT}\n", "")
    assert daemon.request == b'{"command": "status"}\n'


def test_links_are_the_home_routers(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(LINKS)) as daemon, fake_daemon(tmp_path, "hag", ok([])) as hag:
        assert hybridctl("links", "--run-dir", tmp_path) == (0, f"{LINKS_TEXT}\n", "")
    assert daemon.request == b'{"command": "links"}\n'
    assert not hag.asked.is_set()
    nobody = hybridctl("links", "--json", "--run-dir", tmp_path / "elsewhere")
    assert nobody[:2] == (3, "")


def test_json_of_one_daemon_is_its_answer(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(CPE_FLOWS)):
        outcome = hybridctl("flows", "--json", "--run-dir", tmp_path)
    assert outcome == (0, json.dumps(CPE_FLOWS) + "\n", "")


def test_both_daemons(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok([])), fake_daemon(tmp_path, "hag", ok(HAG_FLOWS)):
        outcome = hybridctl("flows", "--run-dir", tmp_path)
    assert outcome == (0, f"hybrid-cpe relays no connections.\n\nhybrid-hag:\n{HAG_TABLE}\n", "")


def test_json_of_both_daemons(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(CPE_STATUS)), fake_daemon(tmp_path, "hag", ok(HAG_STATUS)):
        outcome = hybridctl("status", "--json", "--run-dir", tmp_path)
    assert outcome == (0, json.dumps({"cpe": CPE_STATUS, "hag": HAG_STATUS}) + "\n", "")


def test_role_picks_one(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok([])) as cpe, fake_daemon(tmp_path, "hag", ok(HAG_FLOWS)):
        outcome = hybridctl("flows", "--role", "hag", "--run-dir", tmp_path)
    assert outcome == (0, f"{HAG_TABLE}\n", "")
    assert not cpe.asked.is_set()


def test_count_of_one(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(CPE_STATUS)):
        assert hybridctl("flows", "--count", "--run-dir", tmp_path) == (0, "12\n", "")


@pytest.mark.parametrize(("more", "out"), [([], "cpe: 12\nhag: 0\n"), (["--json"], '{"cpe": 12, "hag": 0}\n')])
def test_count_of_both(hybridctl: Run, tmp_path: Path, more: list[str], out: str) -> None:
    with fake_daemon(tmp_path, "cpe", ok(CPE_STATUS)), fake_daemon(tmp_path, "hag", ok(HAG_STATUS)):
        assert hybridctl("flows", "--count", "--run-dir", tmp_path, *more) == (0, out, "")


@pytest.mark.parametrize("command", ["status", "flows"])
def test_no_daemon(hybridctl: Run, tmp_path: Path, command: str) -> None:
    neither = "hybridctl: neither hybrid-cpe nor hybrid-hag is running"
    complaint = f"{neither} (no cpe.sock or hag.sock in {tmp_path})\n"
    assert hybridctl(command, "--run-dir", tmp_path) == (3, "", complaint)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_events(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(EVENTS)) as daemon:
        assert hybridctl("events", "--run-dir", tmp_path) == (0, EVENTS_TEXT, "")
    assert daemon.request == b'{"command": "events"}\n'


@pytest.mark.usefixtures("utc")
def test_events_that_are_followed_until_the_daemon_ends(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(EVENTS[:1]) + ok([]) + ok(EVENTS[1:])) as daemon:
        outcome = hybridctl("events", "--follow", "--run-dir", tmp_path)
    assert outcome == (3, EVENTS_TEXT, "hybridctl: hybrid-cpe has hung up\n")
    assert json.loads(daemon.request) == {"command": "events", "follow": True}


def test_followed_for_programs_each_event_is_a_line(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", ok(EVENTS)):
        out = hybridctl("events", "--follow", "--json", "--role", "cpe", "--run-dir", tmp_path).out
    assert [json.loads(line) for line in out.splitlines()] == EVENTS


def test_nobody_to_follow(hybridctl: Run, tmp_path: Path) -> None:
    neither = "hybridctl: neither hybrid-cpe nor hybrid-hag is running"
    told = f"{neither} (no cpe.sock or hag.sock in {tmp_path})\n"
    assert hybridctl("events", "--follow", "--run-dir", tmp_path) == (3, "", told)


@pytest.mark.parametrize("result", [[5], [{"what": "?"}], {"time": 1}])
def test_followed_but_not_understood(hybridctl: Run, tmp_path: Path, result: object) -> None:
    with fake_daemon(tmp_path, "cpe", ok(result)):
        assert hybridctl("events", "--follow", "--run-dir", tmp_path) == (3, "", NOT_UNDERSTOOD)


def test_no_daemon_of_the_role(hybridctl: Run, tmp_path: Path) -> None:
    complaint = f"hybridctl: hybrid-hag is not running (no {tmp_path}/hag.sock)\n"
    assert hybridctl("flows", "--json", "--role", "hag", "--run-dir", tmp_path) == (3, "", complaint)


@pytest.mark.parametrize(("more", "out"), [([], "cpe: 12\n"), (["--json"], '{"cpe": 12, "hag": null}\n')])
def test_one_of_two_does_not_answer(hybridctl: Run, tmp_path: Path, more: list[str], out: str) -> None:
    abandoned_socket(tmp_path, "hag")
    complaint = f"hybridctl: hybrid-hag is not running (nobody listens at {tmp_path}/hag.sock)\n"
    with fake_daemon(tmp_path, "cpe", ok(CPE_STATUS)):
        assert hybridctl("flows", "--count", "--run-dir", tmp_path, *more) == (3, out, complaint)


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["status"], {"role": "cpe"}),
        (["status"], []),
        (["status"], CPE_STATUS | {"counters": 5}),
        (["flows"], [{"client": "192.0.2.10"}]),
        (["flows"], [CPE_FLOWS[0] | {"age": None}]),
        (["flows"], [CPE_FLOWS[0] | {"up_bytes": "many"}]),
        (["flows"], {"flows": 1}),
        (["flows", "--count"], {}),
        (["flows", "--count"], [1]),
    ],
)
def test_an_answer_of_another_version(hybridctl: Run, tmp_path: Path, arguments: list[str], result: object) -> None:
    with fake_daemon(tmp_path, "cpe", ok(result)):
        outcome = hybridctl(*arguments, "--run-dir", tmp_path)
    assert outcome == (3, "", NOT_UNDERSTOOD)


def test_answers_cannot_drive_the_terminal(hybridctl: Run, tmp_path: Path) -> None:
    evil = CPE_STATUS | {"lan": ["\x1b]0;title\x07"], "counters": {"passed: bypass 'a\nb'": 1}}
    with fake_daemon(tmp_path, "cpe", ok(evil)):
        out = hybridctl("status", "--run-dir", tmp_path).out
    assert "  lan: \\x1b]0;title\\x07\n" in out
    assert "  bypass 'a\\nb': 1\n" in out


def test_refusals_cannot_drive_the_terminal(hybridctl: Run, tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", b'{"ok": false, "error": "\\u001b[2J"}\n'):
        err = hybridctl("status", "--run-dir", tmp_path).err
    assert err == "hybridctl: hybrid-cpe does not answer 'status': \\x1b[2J\n"


# The process


def start(*arguments: str | Path, stdout: int, **environment: str) -> subprocess.Popen[str]:
    without = ("NO_COLOR", "TERM", "PYTHONUNBUFFERED")  # buffered as it is for users: the last write may fail at exit
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=PROJECT,
        env=inherited | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("flows", [1, 10_000])
def test_a_reader_that_has_gone(tmp_path: Path, flows: int) -> None:
    """One flow breaks the pipe when the buffer is flushed, thousands while they are printed."""
    reader, writer = os.pipe()
    os.close(reader)
    with fake_daemon(tmp_path, "cpe", ok([CPE_FLOWS[0]] * flows)):
        process = start("flows", "--run-dir", tmp_path, stdout=writer)
        os.close(writer)
        assert process.communicate()[1] == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.usefixtures("interruptible")
def test_interrupted(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, "cpe", None) as daemon:
        process = start("flows", "--run-dir", tmp_path, stdout=subprocess.PIPE)
        assert daemon.asked.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "")
    assert process.returncode == 128 + signal.SIGINT


@pytest.mark.usefixtures("interruptible")
def test_in_the_background_of_a_shell_it_goes_on(tmp_path: Path) -> None:
    """POSIX, XCU 2.11: what a shell starts with & ignores the ^C that is for the one in the foreground."""
    with fake_daemon(tmp_path, "cpe", None) as daemon:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = start("flows", "--run-dir", tmp_path, stdout=subprocess.PIPE)
        assert daemon.asked.wait(30)
        process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "hybridctl: hybrid-cpe hung up before its answer was complete\n")
    assert process.returncode == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(file: Path) -> None:
    file.write_text(RIGHT)
    with open("/dev/full", "w") as full:
        process = start("check", file, stdout=full.fileno())
        _, err = process.communicate()
    assert (process.returncode, err) == (4, "hybridctl: cannot write the output: No space left on device\n")


@pytest.mark.parametrize(("environment", "head"), [({}, b"\x1b[1mCLIENT "), ({"NO_COLOR": "1"}, b"CLIENT ")])
def test_bold_on_a_terminal(tmp_path: Path, environment: dict[str, str], head: bytes) -> None:
    terminal, end = os.openpty()
    with fake_daemon(tmp_path, "cpe", ok(CPE_FLOWS)):
        process = start("flows", "--run-dir", tmp_path, stdout=end, **environment)
        os.close(end)
        assert process.communicate()[1] == ""
    shown = os.read(terminal, 4096)
    os.close(terminal)
    assert shown.startswith(head)
