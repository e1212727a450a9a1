# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings are made and given back, also by the daemon after the one that crashed."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from common.settings import Settings, Sysctl
from common.system import SystemLacks

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("namespace")]

# Settings that each network namespace has for itself
REUSE = Sysctl("net.ipv4.tcp_tw_reuse", "1", "a test")
FORWARD = Sysctl("net.ipv4.ip_forward", "1", "a test")
MISSING = Sysctl("net.ipv4.no_such_thing", "1", "a test")
WRONG = Sysctl(REUSE.name, "7", "a test")

Make = Callable[..., Settings]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cpe.settings"


@pytest.fixture
def daemon(memory: Path) -> Make:
    """Makes the settings of a daemon; each call is another daemon's life."""
    return lambda *settings: Settings(memory, settings)


@pytest.fixture(autouse=True)
def _initial() -> None:
    REUSE.path.write_text("2")
    FORWARD.path.write_text("0")


def values() -> tuple[str, str]:
    return REUSE.path.read_text().strip(), FORWARD.path.read_text().strip()


def test_applied_and_restored(daemon: Make, memory: Path) -> None:
    settings = daemon(REUSE, FORWARD)
    settings.apply()
    assert values() == ("1", "1")
    assert json.loads(memory.read_text()) == {REUSE.name: "2", FORWARD.name: "0"}
    settings.restore()
    assert values() == ("2", "0")
    assert not memory.exists()


def test_after_a_crash_the_users_values_come_back(daemon: Make) -> None:
    daemon(REUSE).apply()
    again = daemon(REUSE, FORWARD)
    again.apply()
    assert values() == ("1", "1")
    again.restore()
    assert values() == ("2", "0")


def test_after_two_lives_in_order_too(daemon: Make) -> None:
    for _ in range(2):
        settings = daemon(REUSE)
        settings.apply()
        settings.restore()
        REUSE.path.write_text("0")  # by the user, in between
    settings = daemon(REUSE)
    settings.apply()
    settings.restore()
    assert values() == ("0", "0")


def test_restore_without_apply(daemon: Make) -> None:
    daemon(REUSE, FORWARD).restore()
    assert values() == ("2", "0")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"net.ipv4.ip_forward": 1}'])
def test_a_memory_that_is_damaged(daemon: Make, memory: Path, text: str) -> None:
    memory.write_text(text)
    settings = daemon(FORWARD)
    settings.apply()
    settings.restore()
    assert values() == ("2", "0")


def test_a_setting_that_the_kernel_lacks_is_passed_over(daemon: Make, memory: Path) -> None:
    settings = daemon(MISSING, FORWARD)
    settings.apply()
    assert values() == ("2", "1")
    assert MISSING.name not in json.loads(memory.read_text())
    settings.restore()
    assert values() == ("2", "0")


def test_a_value_that_the_kernel_does_not_take_is_named_and_the_others_can_be_restored(daemon: Make) -> None:
    settings = daemon(FORWARD, WRONG)
    with pytest.raises(SystemLacks, match=r"^cannot set net\.ipv4\.tcp_tw_reuse to 7: Invalid argument$"):
        settings.apply()
    settings.restore()
    assert values() == ("2", "0")


def test_a_value_that_cannot_be_restored_is_told_and_the_others_are(
    daemon: Make, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = daemon(FORWARD, REUSE)
    settings.apply()
    memory.write_text(json.dumps({FORWARD.name: "0", REUSE.name: "7"}))
    with caplog.at_level(logging.WARNING):
        settings.restore()
    assert values() == ("1", "0")
    assert "net.ipv4.tcp_tw_reuse is not restored to 7: Invalid argument" in caplog.text
    assert not memory.exists()


def test_a_setting_of_several_values(daemon: Make) -> None:
    ports = Sysctl("net.ipv4.ip_local_port_range", "20000 30000", "a test")
    former = ports.path.read_text()
    settings = daemon(ports)
    settings.apply()
    assert ports.path.read_text().split() == ["20000", "30000"]
    settings.restore()
    assert ports.path.read_text() == former


def test_settings_that_change_each_other_come_back(daemon: Make) -> None:
    """The path manager has an old name and a new one; where the kernel has both, either changes the other."""
    both = (
        Sysctl("net.mptcp.path_manager", "userspace", "a test"),
        Sysctl("net.mptcp.pm_type", "1", "a test"),
    )
    before = [setting.read() for setting in both]
    settings = daemon(*both)
    settings.apply()
    assert [setting.read() for setting in both] == [
        setting.value if former is not None else None for setting, former in zip(both, before, strict=True)
    ]
    settings.restore()
    assert [setting.read() for setting in both] == before
