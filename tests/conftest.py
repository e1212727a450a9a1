# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of more than one folder: network namespaces that a test has for itself, and loops that run beside it."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from lab.errors import LabError
from lab.netns import Namespace
from tests.running import RunningLoop

# Machines are shared: how long one example takes says nothing.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

MakeNamespace = Callable[[], Namespace]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs no privilege comes first: quick answers first."""
    items.sort(key=lambda item: item.get_closest_marker("root") is not None)


@pytest.fixture(scope="session")
def obstacle() -> str:
    """Why no network namespace can be had here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    trial = Namespace(f"test-{secrets.token_hex(4)}")
    try:
        trial.create()
        trial.delete()
    except LabError as error:
        return f"no network namespaces here: {error}"
    return ""


@pytest.fixture(autouse=True)
def _skip_without_namespaces(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and (why := request.getfixturevalue("obstacle")):
        pytest.skip(why)


@pytest.fixture
def make_namespace() -> Iterator[MakeNamespace]:
    """Makes namespaces with random names; they are gone, with all that runs in them, when the test ends."""
    made: list[Namespace] = []

    def make() -> Namespace:
        namespace = Namespace(f"test-{secrets.token_hex(4)}")
        made.append(namespace)
        namespace.create()
        return namespace

    yield make
    for namespace in made:
        namespace.delete()


@pytest.fixture
def namespace(make_namespace: MakeNamespace) -> Iterator[Namespace]:
    """One namespace, and the test is inside."""
    inside = make_namespace()
    with inside.entered():
        yield inside


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What the test starts can be interrupted, though we ourselves may run in the background of a shell, which has such
    processes, and all that they start, ignore SIGINT; or under nohup, which has them ignore SIGHUP."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def running() -> Iterator[RunningLoop]:
    """A loop that runs in a thread of its own while the test plays the peers."""
    with RunningLoop() as loop:
        yield loop
