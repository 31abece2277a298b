import base64
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.links import (
    LIFETIMES,
    MAX_TOKEN,
    InvalidLinkError,
    LinkFault,
    LinkKey,
    Links,
    LinkScope,
)
from consent.subjects import SubjectRef, email, new_subject_ref, phone

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
ALICE = new_subject_ref()
HER_ADDRESS = email("alice@example.org")
KEY = LinkKey(1, b"k" * 32)
LINKS = Links([KEY])
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def unsubscribe(links: Links = LINKS) -> str:
    return links.issue(
        LinkScope.UNSUBSCRIBE,
        ALICE,
        NOW,
        purpose="marketing_information",
        channel="email",
        recipient=HER_ADDRESS,
    )


def fault(
    token: str,
    scope: LinkScope = LinkScope.UNSUBSCRIBE,
    now: datetime = NOW,
    links: Links = LINKS,
) -> LinkFault:
    with pytest.raises(InvalidLinkError) as caught:
        links.read(token, scope, now)
    return caught.value.fault


def test_a_link_says_what_it_was_made_to_say() -> None:
    link = LINKS.read(unsubscribe(), LinkScope.UNSUBSCRIBE, NOW)
    assert (link.subject, link.purpose, link.channel) == (ALICE, "marketing_information", "email")
    assert (link.issued_at, link.event) == (NOW, None)
    assert link.expires_at == NOW + LIFETIMES[LinkScope.UNSUBSCRIBE]
    assert LINKS.was_sent_to(link, HER_ADDRESS)
    assert not LINKS.was_sent_to(link, email("mallory@example.org"))
    assert not LINKS.was_sent_to(link, phone("+49301234567"))


def test_a_link_that_was_sent_to_nobody_in_particular_was_not_sent_to_her() -> None:
    token = LINKS.issue(LinkScope.PREFERENCES, ALICE, NOW)
    link = LINKS.read(token, LinkScope.PREFERENCES, NOW)
    assert link.recipient is None
    assert not LINKS.was_sent_to(link, HER_ADDRESS)


def test_a_token_fits_into_a_mail_and_shows_nothing() -> None:
    token = unsubscribe()
    assert set(token) <= set(ALPHABET)
    assert len(token) < 150
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for secret in (b"marketing", b"email", b"alice", ALICE.encode()):
        assert secret not in raw


@given(
    scope=st.sampled_from(LinkScope),
    purpose=st.none() | st.text(min_size=1, max_size=60),
    channel=st.none() | st.text(min_size=1, max_size=20),
    event=st.none() | st.uuids().map(str),
    seconds=st.integers(1, 10**9),
)
def test_whatever_is_put_in_comes_out(
    scope: LinkScope, purpose: str | None, channel: str | None, event: str | None, seconds: int
) -> None:
    end = NOW + timedelta(seconds=seconds)
    subject = new_subject_ref()
    token = LINKS.issue(
        scope, subject, NOW, expires_at=end, purpose=purpose, channel=channel, event=event
    )
    link = LINKS.read(token, scope, end - timedelta(microseconds=1))
    assert (link.scope, link.subject, link.purpose, link.channel, link.event) == (
        scope,
        subject,
        purpose,
        channel,
        event,
    )
    assert fault(token, scope, end) is LinkFault.EXPIRED


@given(place=st.integers(0, 10_000), letter=st.sampled_from(ALPHABET))
def test_a_token_with_one_letter_changed_is_no_link(place: int, letter: str) -> None:
    token = unsubscribe()
    place %= len(token)
    if token[place] != letter:
        changed = token[:place] + letter + token[place + 1 :]
        assert fault(changed) in (LinkFault.FORGED, LinkFault.MALFORMED, LinkFault.UNKNOWN_KEY)


@given(st.text(max_size=200))
def test_what_was_made_up_is_no_link(text: str) -> None:
    assert fault(text) in (LinkFault.MALFORMED, LinkFault.UNKNOWN_KEY, LinkFault.FORGED)


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_have_the_form_are_no_link(raw: bytes) -> None:
    made_up = base64.urlsafe_b64encode(b"\x01\x00\x00\x00\x01" + raw).rstrip(b"=").decode()
    assert fault(made_up) in (LinkFault.MALFORMED, LinkFault.FORGED)


@pytest.mark.parametrize(
    "spell",
    [
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token[:-3],
        lambda token: token + token,
        lambda token: "A" * (MAX_TOKEN + 1),
        lambda token: "",
        lambda token: token.replace(token[0], "\uff21", 1),
    ],
)
def test_a_token_has_one_spelling(spell: object) -> None:
    token = unsubscribe()
    assert callable(spell)
    assert fault(spell(token)) in (LinkFault.MALFORMED, LinkFault.FORGED)


def test_the_bits_that_no_byte_needs_cannot_be_set() -> None:
    token = LINKS.issue(LinkScope.PREFERENCES, ALICE, NOW, purpose="x")
    assert len(token) % 4 in (2, 3), "there are spare bits"
    last = sorted(
        ALPHABET, key="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index
    )
    spare = token[:-1] + last[last.index(token[-1]) + 1]
    assert fault(spare, LinkScope.PREFERENCES) is LinkFault.MALFORMED


@pytest.mark.parametrize("other", sorted(set(LinkScope) - {LinkScope.UNSUBSCRIBE}))
def test_a_link_does_its_own_thing_alone(other: LinkScope) -> None:
    assert fault(unsubscribe(), other) is LinkFault.OTHER_SCOPE


def test_a_genuine_link_expires_in_the_very_second() -> None:
    token = LINKS.issue(
        LinkScope.CONFIRM, ALICE, NOW, expires_at=NOW + timedelta(days=7), event="e"
    )
    read = LINKS.read(token, LinkScope.CONFIRM, NOW + timedelta(days=7, seconds=-1))
    assert read.event == "e"
    assert fault(token, LinkScope.CONFIRM, NOW + timedelta(days=7)) is LinkFault.EXPIRED


def test_why_is_found_out_only_of_links_that_are_genuine() -> None:
    token = unsubscribe()
    late = NOW + timedelta(days=10_000)
    assert fault(token, LinkScope.CONFIRM, late) is LinkFault.OTHER_SCOPE
    assert fault(token[:-4] + "AAAA", LinkScope.CONFIRM, late) is LinkFault.FORGED


def test_a_confirmation_needs_an_end() -> None:
    with pytest.raises(ValueError, match="expires"):
        LINKS.issue(LinkScope.CONFIRM, ALICE, NOW)


@pytest.mark.parametrize("ref", ["", "short", "a" * 27, "a" * 25 + "b", "A" * 26, "1" * 26])
def test_what_is_no_ref_gets_no_link(ref: str) -> None:
    with pytest.raises(ValueError, match="ref"):
        LINKS.issue(LinkScope.PREFERENCES, SubjectRef(ref), NOW)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="255"):
        LINKS.issue(LinkScope.PREFERENCES, ALICE, NOW, purpose="p" * 256)


def test_new_links_are_made_under_the_newest_key_and_old_ones_go_on() -> None:
    old = unsubscribe()
    newer = LinkKey(2, b"n" * 32)
    both = Links([KEY, newer])
    assert both.read(old, LinkScope.UNSUBSCRIBE, NOW).key_version == 1
    link = both.read(unsubscribe(both), LinkScope.UNSUBSCRIBE, NOW)
    assert link.key_version == 2
    assert both.was_sent_to(link, HER_ADDRESS)
    assert fault(old, links=Links([newer])) is LinkFault.UNKNOWN_KEY
    assert fault(unsubscribe(both)) is LinkFault.UNKNOWN_KEY
    assert fault(old, links=Links([LinkKey(1, b"another" * 8)])) is LinkFault.FORGED


def test_digests_depend_on_the_key_the_use_and_where_parts_begin() -> None:
    told = {
        LINKS.digest("code", "ab", "c"),
        LINKS.digest("code", "a", "bc"),
        LINKS.digest("code", "abc"),
        LINKS.digest("limit", "ab", "c"),
        Links([LinkKey(1, b"x" * 32)]).digest("code", "ab", "c"),
    }
    assert len(told) == 5
    assert LINKS.digest("code", "ab", "c") in told


def test_links_need_a_key() -> None:
    with pytest.raises(ValueError, match="key"):
        Links([])


def test_keys_do_not_leave_the_process() -> None:
    assert "k" * 8 not in repr(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
