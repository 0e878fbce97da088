"""The ids on disk."""

import uuid
from pathlib import Path

import pytest

from taskmill.publishing import journal


def test_new_ids_are_distinct_random_uuids() -> None:
    """Ids are UUIDs of version 4, as Celery's own are, and no two are alike."""
    ids = journal.new_ids(5000)
    assert len(set(ids)) == 5000
    for identifier in ids[:200]:
        parsed = uuid.UUID(identifier.decode())
        assert (str(parsed).encode(), parsed.version, parsed.variant) == (identifier, 4, uuid.RFC_4122)


def test_journal_reads_back_what_was_written(tmp_path: Path) -> None:
    """Lines, their queues, when they were sent and the number confirmed come back in order."""
    ids = journal.new_ids(3)
    one = journal.Journal(tmp_path, 0, 7)
    one.write(b"".join(identifier + b" red\n" for identifier in ids[:2]), 2, 1795388520.25)
    one.confirm(1)
    one.write(ids[2] + b" deep blue\n", 3, 1795388521.5)
    one.close()
    (back,) = journal.read(tmp_path)
    assert back.name == "00-007"
    assert back.lines == [(ids[0], b"red"), (ids[1], b"red"), (ids[2], b"deep blue")]
    assert back.confirmed == 1
    assert back.posted.tolist() == [1795388520.25, 1795388520.25, 1795388521.5]


def test_journal_never_writes_over_ids(tmp_path: Path) -> None:
    """A second journal of the same name is refused."""
    journal.Journal(tmp_path, 0, 0).close()
    with pytest.raises(FileExistsError):
        journal.Journal(tmp_path, 0, 0)


def test_line_cut_short_is_left_out(tmp_path: Path) -> None:
    """A last line without its end, as a full disk may leave it, was never sent."""
    identifier = journal.new_ids(1)[0]
    (tmp_path / "00-000.ids").write_bytes(identifier + b" red\n" + identifier[:20])
    (back,) = journal.read(tmp_path)
    assert back.lines == [(identifier, b"red")]
    assert back.confirmed == 0


def test_interleave_follows_the_order_of_posting() -> None:
    """Threads that posted side by side are read side by side."""
    first, second = [b"a"] * 3, [b"b"] * 5
    assert b"".join(journal.interleave([first, second], block=2)) == b"aabbabbb"
