# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of quotas: written and read again, and each way in which a file system can fail."""

import errno
import json
import os
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpe.ledger import Ledger, parse, text
from cpe.quota import Reading, Record
from tests.running import until

RECORDS = {
    "lte": Record(date(2026, 11, 1), 12_345_678_901, 42, True, Reading("wwan0", 7, "boot-1", 5, 6)),
    "sat": Record(date(2026, 11, 23), astray=7.5),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "hybrid-access"
    assert Ledger(directory).read() == {}
    assert Ledger(directory).write(RECORDS)
    assert Ledger(directory).read() == RECORDS
    assert sorted(file.name for file in directory.iterdir()) == ["quota.json"]


@given(st.data())
def test_a_file_that_is_not_all_there_is_none(data: st.DataObject) -> None:
    whole = text(RECORDS)
    cut = data.draw(st.integers(0, len(whole) - 3))
    with pytest.raises(ValueError, match="not all there"):
        parse(whole[:cut])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not all there, or not ours"),
        (b"\xff\xfe", "it is not all there, or not ours"),
        (b"\0" * 400, "it is not all there, or not ours"),
        (b"[]", "it is not ours"),
        (b"{}", "it is not ours"),
        (b'{"format": 2, "links": {}}', "it has format 2, of another version of this program"),
        (b'{"format": 1, "links": {"lte": 5}}', "there is something in it that we have not written"),
        (b'{"format": 1, "links": {"lte": {}}}', "there is something in it that we have not written"),
        (text(RECORDS).replace(b"2026-11-01", b"2026-11-99"), "there is something in it that we have not written"),
        (text(RECORDS).replace(b": 42", b": -1"), "there is something in it that we have not written"),
        (text(RECORDS).replace(b": 42", b": true"), "there is something in it that we have not written"),
        (text(RECORDS).replace(b"7.5", b"NaN"), "there is something in it that we have not written"),
        (text(RECORDS).replace(b"7.5", b"null"), "there is something in it that we have not written"),
        (text(RECORDS).replace(b'"wwan0"', b"null"), "there is something in it that we have not written"),
    ],
)
def test_a_foreign_file_is_set_aside_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    file = tmp_path / "quota.json"
    file.write_bytes(content)
    ledger = Ledger(tmp_path)
    assert ledger.read() == {}
    assert caplog.messages == [
        f"what links have used before is not known: {file}: {reason}; it is set aside as {tmp_path}/quota.damaged"
    ]
    assert (tmp_path / "quota.damaged").read_bytes() == content
    assert ledger.write(RECORDS)
    assert ledger.read() == RECORDS


def fails(call: str, number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["mkdir", "open", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_file_system_that_fails_keeps_what_was_there_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    caplog.set_level("INFO")
    ledger = Ledger(tmp_path)
    assert ledger.write(RECORDS)
    with monkeypatch.context() as broken:
        broken.setattr(os if call == "fsync" else Path, call, fails(call, number))
        for _ in range(3):
            assert not ledger.write({"lte": Record(date(2026, 12, 1))})
    (warning,) = caplog.messages
    assert warning.endswith(f"cannot write {tmp_path}/quota.json: {os.strerror(number)}")
    assert json.loads((tmp_path / "quota.json").read_text())["format"] == 1
    assert ledger.read() == RECORDS
    assert not (tmp_path / "quota.new").exists()
    assert ledger.write({})
    assert caplog.messages[1:] == [f"what links use of their quotas is kept in {tmp_path}/quota.json again"]


def test_what_a_daemon_has_left_half_written_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "quota.new").write_text("half of it")
    ledger = Ledger(tmp_path)
    assert ledger.read() == {}
    assert ledger.write(RECORDS)
    assert ledger.read() == RECORDS


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not ours")
    (tmp_path / "quota.new").symlink_to(elsewhere)
    assert Ledger(tmp_path).write(RECORDS)
    assert elsewhere.read_text() == "not ours"


def test_a_directory_that_cannot_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    ledger = Ledger(tmp_path / "file")
    assert ledger.read() == {}
    assert not ledger.write(RECORDS)
    assert len(caplog.messages) == 2


def test_a_file_of_before_dates_that_are_astray_were_kept() -> None:
    old = text(RECORDS).replace(b',\n   "astray": 0.0', b"").replace(b',\n   "astray": 7.5', b"")
    assert b"astray" not in old
    assert {record.astray for record in parse(old).values()} == {0.0}


def test_a_card_that_takes_its_time_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, later, goes_on = Ledger(tmp_path), {"lte": Record(date(2026, 12, 1))}, threading.Event()
    sync = os.fsync
    monkeypatch.setattr("cpe.ledger._PATIENCE", 0.01)
    monkeypatch.setattr(os, "fsync", lambda descriptor: goes_on.wait() and sync(descriptor))
    try:
        ledger.begin(RECORDS)
        ledger.begin(later)  # not now
        assert ledger.busy
        assert ledger.written == {}
        assert not ledger.write(later)
        assert caplog.messages == [f"the file system has not written {tmp_path}/quota.json in 0.01 s"]
    finally:
        goes_on.set()
    until(lambda: not ledger.busy, "the card has written")
    assert ledger.written == ledger.read() == RECORDS
    monkeypatch.setattr("cpe.ledger._PATIENCE", 10.0)
    ledger.begin(RECORDS)
    assert ledger.write(later)  # waits for the one before
    assert ledger.written == Ledger(tmp_path).read() == later


def test_no_thread_to_be_had(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", _no_thread)
        assert not ledger.write(RECORDS)
    assert caplog.messages[0].endswith("quota.json: can't start new thread")
    assert ledger.write(RECORDS)


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
