"""Which words still stand: by the dates of publications, whatever they are called."""

from datetime import UTC, datetime, timedelta

import pytest

from consent.notice_history import NOTHING_PUBLISHED, NoticeHistory, Publication

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(day: int) -> datetime:
    return START + day * DAY


def published(
    version: str, day: int, *, material: bool = False, on: int | None = None, notice: str = "n"
) -> Publication:
    return Publication(notice, version, at(day), at(day if on is None else on), material)


HISTORY = NoticeHistory(
    [
        published("10", 40),
        published("3", 30, material=True, on=20),
        published("1", 0),
        published("2", 10),
        published("x", 5, material=True, notice="other"),
    ]
)


@pytest.mark.parametrize(
    ("version", "given", "expected"),
    [
        ("1", 0, 30),
        ("1", 35, 30),  # a form that still shows the old words: never in force
        ("2", 29, 30),
        ("3", 30, None),
        ("10", 41, None),
        ("10", 39, 30),  # before it took effect nobody can have been shown it
        ("unpublished", 100, 30),
        ("", 0, 30),
    ],
)
def test_a_material_version_supersedes_what_is_older_than_it(
    version: str, given: int, expected: int | None
) -> None:
    assert HISTORY.superseded_at("n", version, at(given)) == (
        None if expected is None else at(expected)
    )


def test_another_notice_says_nothing() -> None:
    assert HISTORY.superseded_at("third", "1", at(0)) is None
    assert NOTHING_PUBLISHED.superseded_at("n", "1", at(0)) is None


@pytest.mark.parametrize(("given", "expected"), [(0, at(5)), (5, at(30)), (30, None)])
def test_words_that_were_not_kept_cover_no_later_change(
    given: int, expected: datetime | None
) -> None:
    assert HISTORY.superseded_at(None, None, at(given)) == expected
    assert HISTORY.superseded_at("n", None, at(given)) == expected


def test_what_nobody_had_published_by_then_was_not_known() -> None:
    assert HISTORY.known_at(at(19)).superseded_at("n", "1", at(0)) is None
    assert HISTORY.known_at(at(20)).superseded_at("n", "1", at(0)) == at(30)
    assert HISTORY.known_at(at(50)) is HISTORY


def test_publications_of_a_notice_come_in_the_order_in_which_they_take_effect() -> None:
    assert [one.version for one in HISTORY.of("n")] == ["1", "2", "3", "10"]
