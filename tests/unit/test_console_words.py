"""The pure parts of the console: words, masks, times, preferences, navigation."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from admin_ui.console import evidence, navigation, times, wording
from admin_ui.console.preferences import Density, Keys, Preferences, Theme
from admin_ui.console.wording import EFFECTIVE, Tone
from policies.explain import REASONS
from policies.permissions import ROLE_PERMISSIONS, Permission
from policies.vocabulary import CONFIRMED, ChoiceState, EventType, MarkState, Reason

ADMIN_UI = Path(__file__).resolve().parents[2] / "admin_ui"
STYLE = (ADMIN_UI / "static" / "console.css").read_text(encoding="utf-8")
BERLIN = ZoneInfo("Europe/Berlin")

# --- words -------------------------------------------------------------------------------------


def test_every_reason_has_a_word_a_shape_and_a_sentence() -> None:
    assert set(EFFECTIVE) == set(Reason) == set(REASONS)
    assert all(tag.brief for tag in EFFECTIVE.values())
    # Choosing a status from a list must not be a riddle.
    assert len({tag.word for tag in EFFECTIVE.values()}) == len(EFFECTIVE)


def test_every_state_that_can_be_stored_has_a_word() -> None:
    for state in (*ChoiceState, CONFIRMED):
        assert wording.stored(EventType.CHOICE, state).tone is not Tone.UNKNOWN
    for kind in (EventType.SUPPRESSION, EventType.SIGNAL):
        for mark in MarkState:
            assert wording.stored(kind, mark).tone is not Tone.UNKNOWN
    assert wording.stored("rumour", "heard").tone is Tone.UNKNOWN


def test_every_tone_is_drawn_by_shape_and_not_by_colour_alone() -> None:
    for tone in Tone:
        assert f".state-{tone}" in STYLE
        assert f".shape-{tone}" in STYLE
        assert f".ink-{tone}" in STYLE


# --- evidence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("via 198.51.100.7, twice", "via 198.51.100.0/24, twice"),
        ("2001:db8:aaaa:bbbb::1", "2001:db8:aaaa::/48"),
        ("alice@example.com", "a•••@e•••.com"),
        ("call me: Alice@Example.com.", "call me: a•••@e•••.com."),
        ("+49 30 901820 at noon", "+•••20 at noon"),
        ("10:02:33 on 2026-03-01", "10:02:33 on 2026-03-01"),
        ("version 1.2.3", "version 1.2.3"),
        ("Mozilla/5.0 (X11; Linux) rv:128.0", "Mozilla/5.0 (X11; Linux) rv:128.0"),
        ("a@b", "a@b"),
        ("", ""),
    ],
)
def test_evidence_shows_no_address_and_no_number_of_anyone(text: str, shown: str) -> None:
    assert evidence.masked(text) == shown
    assert evidence.names_nobody({"x": text}) == (text == shown)


def test_nested_evidence_is_shown_with_its_path() -> None:
    nested = {
        "form": {"page": "/news", "fields": ["email", "ok"]},
        "age": 34,
        "ticked": True,
        "parent": None,
        "seen": {"from": {"ip": "203.0.113.77"}},
    }
    assert evidence.shown(nested) == [
        ("form · page", "/news"),
        ("form · fields 1", "email"),
        ("form · fields 2", "ok"),
        ("age", "34"),
        ("ticked", "yes"),
        ("parent", "not given"),
        ("seen · from · ip", "203.0.113.0/24"),
    ]
    assert not evidence.names_nobody(nested)


# --- times -------------------------------------------------------------------------------------


def test_times_are_local_with_utc_on_hover() -> None:
    instant = datetime(2026, 7, 31, 22, 30, 5, tzinfo=UTC)
    assert times.shown(instant, BERLIN) == (
        '<time datetime="2026-07-31T22:30:05Z" title="2026-07-31 22:30:05 UTC">'
        "1 Aug 2026, 00:30</time>"
    )
    assert ">1 Aug 2026<" in times.shown_day(instant, BERLIN)
    assert ">00:30<" in times.shown_clock(instant, BERLIN)


def test_what_is_typed_is_read_in_the_organisations_zone() -> None:
    assert times.typed("2026-07-01T00:30", BERLIN) == datetime(2026, 6, 30, 22, 30, tzinfo=UTC)
    end = times.typed("2026-07-01", BERLIN)
    assert end == datetime(2026, 7, 1, 21, 59, 59, 999999, tzinfo=UTC)
    # Twice there is 02:30 on this day; the first is meant.
    assert times.typed("2026-10-25T02:30", BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    instant = datetime(2026, 7, 1, 10, 5, tzinfo=UTC)
    assert times.typed(times.field(instant, BERLIN), BERLIN) == instant


@pytest.mark.parametrize("text", ["", "today", "2026-02-30", "0001-01-01", "9999-12-31T23:59"])
def test_what_is_no_storable_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        times.typed(text, BERLIN)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7300, "2 hours ago"),
        (180_000, "2 days ago"),
    ],
)
def test_how_long_ago(seconds: int, words: str) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert times.ago(now - timedelta(seconds=seconds), now) == words


# --- preferences, navigation -------------------------------------------------------------------


def test_unknown_preferences_count_as_not_stated() -> None:
    assert Preferences.of({"theme": "neon", "density": "", "other": "x"}) == Preferences()
    assert Preferences.of({"theme": "dark", "density": "comfortable", "keys": "off"}) == (
        Preferences(Theme.DARK, Density.COMFORTABLE, Keys.OFF)
    )


def test_no_heading_stands_over_nothing() -> None:
    assert navigation.visible(lambda _: False) == []
    for permissions in ROLE_PERMISSIONS.values():
        for section in navigation.visible(permissions.__contains__):
            assert section.endpoint or section.inner
    everything = navigation.visible(lambda _: True)
    letters = [item.letter for one in everything for item in (one, *one.inner) if item.endpoint]
    assert len(letters) == len(set(letters)) > 1
    assert all(letters)


def test_every_role_may_open_the_first_page() -> None:
    assert all(Permission.POLICY_READ in held for held in ROLE_PERMISSIONS.values())


# --- files -------------------------------------------------------------------------------------


def test_the_style_sheet_names_the_version_of_tabler_that_is_installed() -> None:
    locked = json.loads((ADMIN_UI.parent / "package-lock.json").read_text(encoding="utf-8"))
    version = locked["packages"]["node_modules/@tabler/core"]["version"]
    base = (ADMIN_UI / "templates" / "console" / "base.html").read_text(encoding="utf-8")
    assert f"tabler.min.css?v={version}" in STYLE
    assert f"}}}}?v={version}" in base


def test_our_classes_are_not_tablers() -> None:
    """What Tabler also names would get its rules; only these are meant to."""
    tabler = (ADMIN_UI / "static" / "vendor" / "tabler.min.css").read_text(encoding="utf-8")

    def classes(text: str) -> set[str]:
        return set(re.findall(r"\.([a-z][\w-]*)", re.sub(r"/\*.*?\*/|url\(.*?\)", "", text)))

    meant = {"btn", "btn-danger", "btn-primary", "card", "icon", "table"}
    assert classes(STYLE) & classes(tabler) == meant
