from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from werkzeug.datastructures import LanguageAccept

from admin_ui.privacy_centre.language import TAGS, TEST_TAG, language_of, languages, negotiated

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("stated", "accepted", "tag"),
    [
        (None, "", "en"),
        (None, "nl, de-AT;q=0.8, fr;q=0.9", "fr"),
        (None, "de-AT, en;q=0.5", "de"),
        (None, "de;q=0, es-MX;q=0.1", "es"),
        (None, "zh, ja", "en"),
        ("es", "de", "es"),
        ("DE", "fr", "fr"),
        ("../../etc", "fr", "fr"),
        ('"><script>', "", "en"),
        (TEST_TAG, "fr", "fr"),
    ],
)
def test_the_address_counts_before_the_browser(stated: str | None, accepted: str, tag: str) -> None:
    weights = [part.strip().partition(";q=") for part in accepted.split(",") if part]
    header = LanguageAccept([(name, float(weight or 1)) for name, _, weight in weights])
    language, chosen = negotiated(stated, header)
    assert language.tag == tag
    assert chosen == (stated == tag)


def test_the_test_language_is_on_offer_only_where_it_is_asked_for() -> None:
    assert [one.tag for one in languages()] == [*TAGS]
    assert [one.tag for one in languages(test=True)] == [*TAGS, TEST_TAG]
    assert negotiated(TEST_TAG, LanguageAccept(), test=True)[0].is_test


def test_the_test_language_reads_from_the_right_and_keeps_places() -> None:
    test = language_of(TEST_TAG)
    assert test.direction == "rtl"
    said = test.translated("Since %(since)s at 100 %%")
    assert "%(since)s" in said
    assert "%%" in said
    assert "Since" not in said


def test_times_are_those_of_the_organisation() -> None:
    assert "13:00" in language_of("en").clock(NOON, BERLIN)
    assert "1 March 2026" in language_of("en").day(NOON, BERLIN)
    assert "1. März 2026" in language_of("de").day(NOON, BERLIN)
    assert 'datetime="2026-03-01T12:00:00+00:00"' in language_of("fr").clock(NOON, BERLIN)
