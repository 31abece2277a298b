"""Laws of publishing: only a material version changes a decision, and only from yes to no.

The dates are those that `consent.notice_drafts` admits: at the moment of publishing or later; back
only where it is not material, and then before every material change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consent.notice_history import NoticeHistory, Publication
from consent.registers import Key, Register, facts_of
from policies.decisions import Decision, decide
from policies.model import PolicySet, Purpose
from policies.periods import Period
from policies.vocabulary import Channel, EventType, LegalBasis, Reason

START = datetime(2026, 1, 1, tzinfo=UTC)
PURPOSE = Purpose(
    key="news",
    controller="shop",
    name="News",
    description="We write to you.",
    legal_basis=LegalBasis.CONSENT,
    channels=frozenset(Channel),
    dpv=("Marketing",),
    data_use="marketing",
    data_categories=("user",),
    data_subjects=("customer",),
    expires_after=Period.parse("P20D"),
)
POLICIES = PolicySet("1", "sha256:00", {}, {"news": PURPOSE})

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
NAMES = ("1", "2", "3", "4", "5")


def at(day: int) -> datetime:
    return START + day * DAY


moments = st.integers(-5, 40).map(at)


@dataclass(frozen=True)
class Story:
    """What was published and said before a moment, and what is published at that moment."""

    before: tuple[Publication, ...]
    said: tuple[tuple[Key, Register], ...]
    new: Publication

    @property
    def after(self) -> tuple[Publication, ...]:
        return (*self.before, self.new)


@st.composite
def stories(draw: st.DrawFn, *, material: bool) -> Story:
    """A story in which every version was admitted when it was published."""
    before: list[Publication] = []
    names = draw(st.permutations(NAMES))
    for day in draw(st.lists(st.integers(0, 11), max_size=3, unique=True).map(sorted)):
        one = draw(publications(names[len(before)], before, at(day), material=draw(st.booleans())))
        before.append(one)
    now = at(12)
    new = draw(publications(names[len(before)], before, now, material=material))
    said_at = at(draw(st.integers(-3, 11))) + draw(st.sampled_from([0, 1])) * INSTANT
    register = Register(
        state=draw(st.sampled_from(["granted", "granted", "granted", "withdrawn"])),
        event_id="e",
        idx=0,
        occurred_at=said_at,
        notice=draw(st.sampled_from(["privacy", "privacy", "privacy", "other", None])),
        notice_version=draw(st.sampled_from(NAMES)),
    )
    return Story(tuple(before), ((("news", "email", EventType.CHOICE.value), register),), new)


@st.composite
def publications(
    draw: st.DrawFn, version: str, made: Sequence[Publication], now: datetime, *, material: bool
) -> Publication:
    """A version that may be published now."""
    changes = [one.effective_from for one in made if one.material]
    # Dated back only where it is not material, and then before every material change.
    begins = now if material else min([at(-5), *(change - 9 * DAY for change in changes)])
    ends = min([now, *changes]) if begins < now and draw(st.booleans()) else now + 9 * DAY
    begins = begins if ends <= now else now
    moments = st.integers(0, (ends - begins) // DAY).map(lambda day: begins + day * DAY)
    taken = {one.effective_from for one in made} | ({ends} if ends <= now else set())
    moment = draw(moments.filter(lambda one: one not in taken))
    return Publication("privacy", version, moment, now, material)


def decided(
    story: Story, publications: Sequence[Publication], instant: datetime, *, as_of: bool = False
) -> Decision:
    history = NoticeHistory(publications)
    known = history.known_at(instant) if as_of else history
    facts = facts_of(story.said, frozenset(), known)
    return decide(POLICIES, "news", Channel.EMAIL, facts, instant)


@given(stories(material=False), moments)
def test_a_version_that_is_not_material_changes_no_decision(
    story: Story, instant: datetime
) -> None:
    assert decided(story, story.after, instant) == decided(story, story.before, instant)


@given(stories(material=True), moments)
def test_a_material_version_only_takes_away_and_only_from_its_moment_on(
    story: Story, instant: datetime
) -> None:
    before = decided(story, story.before, instant)
    after = decided(story, story.after, instant)
    if not before.allow:
        assert not after.allow
    if before.allow and not after.allow:
        assert after.reason is Reason.NOTICE_SUPERSEDED
        assert instant >= story.new.effective_from
    if instant < story.new.effective_from:
        assert (after.allow, after.reason) == (before.allow, before.reason)
    # It says how long the yes lasts, and keeps its word.
    if after.allow and after.expires_at is not None:
        assert not decided(story, story.after, after.expires_at).allow


@given(stories(material=True))
def test_who_agreed_to_older_words_needs_to_be_asked_again_from_that_very_moment(
    story: Story,
) -> None:
    ((_, register),) = story.said
    at_once = decided(story, story.after, story.new.effective_from)
    just_before = decided(story, story.before, story.new.effective_from)
    if register.notice == story.new.notice and just_before.allow:
        assert at_once.reason is Reason.NOTICE_SUPERSEDED


@given(st.booleans().flatmap(lambda material: stories(material=material)), st.integers(-3, 11))
def test_a_past_day_is_answered_the_same_whatever_is_published_later(
    story: Story, day: int
) -> None:
    assert decided(story, story.after, at(day), as_of=True) == decided(
        story, story.before, at(day), as_of=True
    )
