"""Notices on real databases: written by one, published by another, and never changed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from admin_ui.services import Services
from consent.models import notice_version as version_table
from consent.models import notice_words as words_table
from consent.notice_drafts import (
    Draft,
    DraftWords,
    NoticeChangedError,
    SecondPersonError,
    Settings,
    begin_draft,
    change_settings,
    checked_languages,
    discard_draft,
    objections,
    publish_draft,
    read_draft,
    read_drafts,
    write_words,
)
from consent.notice_text import InvalidNoticeError
from consent.notices import Version, Words
from governance.audit.trail import CLI, SYSTEM, Actor, ActorKind, AuditRecord
from governance.notice_desk import NotAPersonError
from tests.fakes.core import Core
from tests.fakes.notices import AUTHOR, SECOND, SHOP, publish, words

ALICE = Actor(ActorKind.ACCOUNT, "alice", "officer")
BOB = Actor(ActorKind.ACCOUNT, "bob", "approver")
CHARLIE = Actor(ActorKind.ACCOUNT, "charlie", "officer")
DAY = timedelta(days=1)
COMPLETE = words("en", "4")


def draft_of(
    core: Core, version: str = "4", languages: tuple[str, ...] = ("en",), **more: Any
) -> Draft:
    """A complete draft of the next version of `privacy`, written by the author."""
    with core.database.begin() as session:
        draft = begin_draft(session, "privacy", SHOP, (), AUTHOR, core.clock())
        stated: dict[str, Any] = {"effective_from": None, "material": False} | more
        settings = Settings(draft.controller, version, languages=languages, **stated)
        draft = change_settings(session, "privacy", draft.revision, settings, AUTHOR, core.clock())
        for language in languages:
            draft = write_words(
                session,
                "privacy",
                draft.revision,
                language,
                words(language, version),
                AUTHOR,
                core.clock(),
            )
    return draft


def publish_it(core: Core, draft: Draft, by: str = SECOND, **more: Any) -> Version:
    stated: dict[str, Any] = {"reason": "Read.", "policies": core.policies, "now": core.clock()}
    stated |= more
    with core.database.begin() as session:
        return publish_draft(session, draft.notice, draft.revision, by=by, **stated)


def refused(core: Core, draft: Draft, **more: Any) -> dict[str, str]:
    """Why a draft cannot be published."""
    with pytest.raises(InvalidNoticeError) as error:
        publish_it(core, draft, **more)
    with core.database.read() as reader:
        assert read_draft(reader, draft.notice) == draft
        assert [one.version for one in core.notices.published(reader)] == ["3"]
    return error.value.fields


def shown(core: Core, version: str, language: str = "en") -> Words:
    with core.database.read() as reader:
        found = core.notices.version(reader, "privacy", version, language)
    assert found is not None
    return found


# --- what is published -------------------------------------------------------------------------


def test_what_is_published_is_what_was_written_with_hashes_of_exactly_its_bytes(
    core: Core,
) -> None:
    draft = draft_of(core, languages=("en", "de-AT"), effective_from=core.clock() + DAY)
    version = publish_it(core, draft)
    assert (version.version, version.controller, version.material) == ("4", SHOP, False)
    assert (version.authors, version.published_by) == ((AUTHOR,), SECOND)
    assert (version.published_at, version.effective_from) == (core.clock(), core.clock() + DAY)
    assert [one.language for one in version.languages] == ["de-AT", "en"]
    german = shown(core, "4", "DE-at")
    assert (german.title, german.text) == (
        draft.said_in("de-AT").title,
        draft.said_in("de-AT").text,
    )
    assert german.recipients == ("The post",)
    assert german.hash == f"sha256:{sha256(german.text.encode()).hexdigest()}"
    assert german.rendering_hash == f"sha256:{sha256(german.rendering.encode()).hexdigest()}"
    assert core.policies.controllers[SHOP].name in german.rendering
    with core.database.read() as reader:
        assert read_drafts(reader) == []


def test_the_database_refuses_to_change_or_remove_what_is_published(core: Core) -> None:
    statements = [
        f"{change} {table}{rest}"
        for table in (version_table.name, words_table.name)
        for change, rest in (("UPDATE", " SET version = '9'"), ("DELETE FROM", ""))
    ]
    if core.database.dialect == "postgresql":
        statements += [f"TRUNCATE {version_table.name}", f"TRUNCATE {words_table.name}"]
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"), core.database.begin() as session:
            session.execute(text(statement))
    assert shown(core, "3").title == "Privacy notice 3"


def test_the_migrated_database_refuses_it_too(services: Services) -> None:
    for table in (version_table.name, words_table.name):
        with (
            pytest.raises(DBAPIError, match="append-only"),
            services.database.begin() as session,
        ):
            session.execute(text(f"DELETE FROM {table}"))


def test_the_words_in_effect_change_at_the_instant_and_a_wider_language_stands_in(
    core: Core,
) -> None:
    change = core.clock() + DAY
    publish_it(core, draft_of(core, languages=("de", "en"), effective_from=change))

    def current(language: str, now: datetime) -> tuple[str, str] | None:
        with core.database.read() as reader:
            found = core.notices.current(reader, "privacy", language, now)
        return None if found is None else (found.version, found.language)

    assert current("en", change - timedelta(microseconds=1)) == ("3", "en")
    assert current("de", change - timedelta(microseconds=1)) is None
    assert current("de-AT", change) == ("4", "de")
    assert current("en-GB-oxendict", change) == ("4", "en")
    assert current("fr", change) is None
    with core.database.read() as reader:
        assert core.notices.current(reader, "terms", "en", change) is None
        for odd in ("priv\0acy", "pri\udcffvacy", "x" * 5000, ""):
            assert core.notices.current(reader, odd, "en", change) is None
            assert core.notices.version(reader, "privacy", odd, "en") is None
            assert core.notices.version(reader, "privacy", "3", odd) is None


# --- what is missing ---------------------------------------------------------------------------


def test_what_is_missing_is_said_field_by_field_and_nothing_is_published(core: Core) -> None:
    draft = draft_of(core, languages=("en", "de", "fr"))
    with core.database.begin() as session:
        draft = write_words(
            session, "privacy", draft.revision, "de", DraftWords(), AUTHOR, core.clock()
        )
        draft = write_words(
            session,
            "privacy",
            draft.revision,
            "fr",
            DraftWords("Titre", "Sans titres", ()),
            AUTHOR,
            core.clock(),
        )
    assert [draft.completeness(language) for language in draft.languages] == [100, 0, 50]
    assert refused(core, draft) == {
        "de.title": "The title is missing.",
        "de.text": "The text is missing.",
        "de.recipients": "Say who receives the data; if nobody does, say that.",
        "fr.recipients": "Say who receives the data; if nobody does, say that.",
        "fr.text": "The text has 0 of the 1 headings of the other languages.",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"controller": "nobody"}, "controller"),
        ({"version": ""}, "version"),
        ({"version": "3"}, "version"),
        ({"languages": ()}, "languages"),
    ],
)
def test_a_draft_that_contradicts_policy_or_history_is_not_published(
    core: Core, changes: dict[str, Any], field: str
) -> None:
    draft = replace(draft_of(core), **changes)
    with core.database.read() as reader:
        published = core.notices.published(reader, "privacy")
    assert list(objections(draft, core.policies, published, core.clock())) == [field]


def test_a_controller_that_left_the_policy_blocks_publication(core: Core) -> None:
    draft = draft_of(core)
    alone = replace(core.policies, controllers={})
    assert refused(core, draft, policies=alone).keys() == {"controller"}


@pytest.mark.parametrize("reason", ["", "  \n ", "x" * 501])
def test_publishing_takes_a_reason(core: Core, reason: str) -> None:
    assert refused(core, draft_of(core), reason=reason).keys() == {"reason"}


@pytest.mark.parametrize(
    ("material", "days", "allowed"),
    [
        (False, 1, True),
        (True, 1, True),
        (True, 0, True),
        (True, -1, False),
        (False, -1, True),
    ],
)
def test_a_material_change_cannot_take_effect_in_the_past(
    core: Core, material: bool, days: int, allowed: bool
) -> None:
    draft = draft_of(core, effective_from=core.clock() + days * DAY, material=material)
    if allowed:
        assert publish_it(core, draft).effective_from == core.clock() + days * DAY
    else:
        assert refused(core, draft).keys() == {"effective_from"}


def test_words_of_before_cannot_be_dated_behind_a_material_change(core: Core) -> None:
    change = core.clock() + DAY
    publish_it(core, draft_of(core, material=True, effective_from=change))
    core.clock.advance(5 * DAY)
    for at, field in ((change + DAY, "effective_from"), (change, "effective_from")):
        with pytest.raises(InvalidNoticeError) as error:
            publish_it(core, draft_of(core, "5", effective_from=at))
        assert error.value.fields.keys() == {field}
        with core.database.begin() as session:
            (draft,) = read_drafts(session)
            discard_draft(session, "privacy", draft.revision)
    publish_it(core, draft_of(core, "5", effective_from=change - 2 * DAY))


def test_two_versions_never_take_effect_at_once(core: Core) -> None:
    at = core.clock() + DAY
    publish_it(core, draft_of(core, effective_from=at))
    with pytest.raises(InvalidNoticeError) as error:
        publish_it(core, draft_of(core, "5", effective_from=at))
    assert error.value.fields.keys() == {"effective_from"}


# --- two people --------------------------------------------------------------------------------


def test_nobody_who_wrote_a_word_of_it_can_publish_it(core: Core) -> None:
    draft = draft_of(core)
    with core.database.begin() as session:
        draft = write_words(
            session,
            "privacy",
            draft.revision,
            "en",
            replace(COMPLETE, title="Another title"),
            SECOND,
            core.clock(),
        )
    assert draft.authors == (AUTHOR, SECOND)
    for by in (AUTHOR, SECOND):
        with pytest.raises(SecondPersonError):
            publish_it(core, draft, by=by)
    assert publish_it(core, draft, by="account:third").published_by == "account:third"


def test_who_saved_without_a_change_wrote_nothing(core: Core) -> None:
    draft = draft_of(core)
    with core.database.begin() as session:
        same = write_words(
            session, "privacy", draft.revision, "en", draft.said_in("en"), SECOND, core.clock()
        )
        settings = Settings("example-shop", "4", None, material=False, languages=("en",))
        same = change_settings(session, "privacy", same.revision, settings, SECOND, core.clock())
    assert same == draft
    publish_it(core, draft)


def test_what_was_changed_since_it_was_read_is_not_published(core: Core) -> None:
    draft = draft_of(core)
    with core.database.begin() as session:
        write_words(
            session,
            "privacy",
            draft.revision,
            "en",
            replace(COMPLETE, text="Something else entirely.\n\n## Heading"),
            AUTHOR,
            core.clock(),
        )
    with pytest.raises(NoticeChangedError):
        publish_it(core, draft)
    with core.database.begin() as session, pytest.raises(NoticeChangedError):
        write_words(session, "privacy", draft.revision, "en", COMPLETE, SECOND, core.clock())
    with core.database.begin() as session, pytest.raises(NoticeChangedError):
        discard_draft(session, "privacy", draft.revision)


def test_of_two_who_publish_at_once_one_does(core: Core) -> None:
    draft = draft_of(core)
    start = threading.Barrier(6)

    def go(n: int) -> str:
        start.wait()
        try:
            return publish_it(core, draft, by=f"account:approver{n}").published_by
        except NoticeChangedError:
            return ""

    with ThreadPoolExecutor(6) as pool:
        done = [one for one in pool.map(go, range(6)) if one]
    assert len(done) == 1
    with core.database.read() as reader:
        newest = core.notices.published(reader, "privacy")[0]
    assert (newest.version, newest.published_by) == ("4", done[0])


def test_publications_of_many_notices_at_once_are_numbered_without_gaps(core: Core) -> None:
    def go(n: int) -> None:
        with core.database.begin() as session:
            publish(session, core.policies, "1", notice=f"notice-{n}", now=core.clock())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(go, range(12)))
    with core.database.read() as reader:
        numbers = reader.execute(select(version_table.c.seq)).scalars().all()
    assert sorted(numbers) == list(range(1, 14))


def test_a_change_and_a_publication_at_once_leave_one_of_them(core: Core) -> None:
    """Never a publication of words that nobody read."""
    for round_number in range(4):
        draft = draft_of(core, str(10 + round_number))
        start = threading.Barrier(2)

        def change(draft: Draft = draft, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                with core.database.begin() as session:
                    write_words(
                        session,
                        "privacy",
                        draft.revision,
                        "en",
                        replace(COMPLETE, title="Slipped in"),
                        AUTHOR,
                        core.clock(),
                    )
            except NoticeChangedError:
                return False
            return True

        def confirm(draft: Draft = draft, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                publish_it(core, draft)
            except NoticeChangedError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            changed, published = pool.submit(change), pool.submit(confirm)
        assert changed.result() != published.result()
        if published.result():
            assert shown(core, draft.version).title != "Slipped in"
        else:
            with core.database.begin() as session:
                (left,) = read_drafts(session)
                discard_draft(session, "privacy", left.revision)
        core.clock.advance(DAY)


# --- drafts ------------------------------------------------------------------------------------


def test_a_new_version_begins_with_the_newest_words_and_the_next_number(core: Core) -> None:
    with core.database.begin() as session:
        draft = begin_draft(session, "privacy", "other", ("fr",), AUTHOR, core.clock())
        assert (draft.controller, draft.version, draft.languages) == (SHOP, "4", ("en",))
        assert draft.said_in("en") == words("en", "3")
        with pytest.raises(NoticeChangedError):
            begin_draft(session, "privacy", SHOP, (), SECOND, core.clock())


@pytest.mark.parametrize(
    "notice",
    ["", "new", "quoted_words", "Privacy", "1st", "a b", "a\n", "../x", "x" * 65, "prïvacy", "a\0"],
)
def test_an_id_that_cannot_stand_in_an_address_is_refused(core: Core, notice: str) -> None:
    with core.database.begin() as session, pytest.raises(InvalidNoticeError) as error:
        begin_draft(session, notice, SHOP, ("en",), AUTHOR, core.clock())
    assert error.value.fields.keys() == {"notice"}


@pytest.mark.parametrize("version", ["a b", "1\n", "/", "x" * 33, "é", "-1"])
def test_a_version_that_cannot_stand_in_an_address_is_refused(core: Core, version: str) -> None:
    draft = draft_of(core)
    settings = Settings(SHOP, version, None, material=False, languages=("en",))
    with core.database.begin() as session, pytest.raises(InvalidNoticeError) as error:
        change_settings(session, "privacy", draft.revision, settings, AUTHOR, core.clock())
    assert error.value.fields.keys() == {"version"}


def test_a_published_notice_stays_with_its_controller(core: Core) -> None:
    draft = draft_of(core)
    settings = Settings("other", "4", None, material=False, languages=("en",))
    with core.database.begin() as session, pytest.raises(InvalidNoticeError) as error:
        change_settings(session, "privacy", draft.revision, settings, AUTHOR, core.clock())
    assert error.value.fields.keys() == {"controller"}


def test_languages_are_spelled_one_way_and_none_twice() -> None:
    assert checked_languages(["EN", "de-at", "en", "De-AT"]) == ("en", "de-AT")
    for wrong in (
        ["english"],
        ["und"],
        ["en", "x"],
        [f"a{c}{d}" for c in "abcdefg" for d in "abcdefg"],
    ):
        with pytest.raises(InvalidNoticeError) as error:
            checked_languages(wrong)
        assert error.value.fields.keys() == {"languages"}


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({"title": "a\0"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"text": "\u202etxt"}, "text"),
        ({"text": "x" * 40_001}, "text"),
        ({"recipients": "x" * 201}, "recipients"),
        ({"recipients": "a\n" * 101}, "recipients"),
    ],
)
def test_words_that_cannot_be_kept_are_refused_at_the_door(
    stated: dict[str, str], field: str
) -> None:
    with pytest.raises(InvalidNoticeError) as error:
        DraftWords.checked(**{"title": "t", "text": "t", "recipients": "r", **stated})
    assert error.value.fields.keys() == {field}


# --- the desk: one transaction, on the operator log --------------------------------------------


def records(services: Services) -> list[AuditRecord]:
    with services.database.read() as reader:
        return [
            one for one in services.trail.read(reader)[::-1] if one.action.startswith("notice.")
        ]


def written(services: Services) -> Draft:
    """A draft that Alice wrote at the desk."""
    desk = services.notice_desk
    draft = desk.begin("terms", controller=SHOP, languages=("en",), actor=ALICE)
    return desk.write("terms", draft.revision, "en", COMPLETE, actor=ALICE)


def test_the_operator_log_tells_who_wrote_and_who_published_what(services: Services) -> None:
    draft = written(services)
    services.notice_desk.write("terms", draft.revision, "en", COMPLETE, actor=CHARLIE)
    version = services.notice_desk.publish("terms", draft.revision, actor=BOB, reason="Fine.")
    told = records(services)
    assert [(one.action, one.actor, one.object) for one in told] == [
        ("notice.drafted", "account:alice", "notice:terms"),
        ("notice.draft_changed", "account:alice", "notice:terms"),
        ("notice.published", "account:bob", "notice:terms"),
    ]
    assert told[-1].reason == "Fine."
    assert told[-1].details["authors"] == ["account:alice"]
    (english,) = version.languages
    assert told[-1].details["languages"] == {
        "en": {"hash": english.hash, "rendering_hash": english.rendering_hash}
    }
    assert told[-1].details["asked_again"] == 0
    # What was written is nowhere in the log.
    assert COMPLETE.text not in json.dumps([dict(one.details) for one in told])


@pytest.mark.parametrize("actor", [CLI, SYSTEM, Actor(ActorKind.API_KEY, "k1", "api_key")])
def test_a_program_neither_writes_nor_publishes(services: Services, actor: Actor) -> None:
    draft = written(services)
    desk = services.notice_desk
    settings = Settings(SHOP, "1", None, material=False, languages=("en",))
    for act in (
        lambda: desk.begin("more", controller=SHOP, languages=("en",), actor=actor),
        lambda: desk.change("terms", draft.revision, settings, actor=actor),
        lambda: desk.write("terms", draft.revision, "en", COMPLETE, actor=actor),
        lambda: desk.discard("terms", draft.revision, actor=actor),
        lambda: desk.publish("terms", draft.revision, actor=actor, reason="Mine."),
    ):
        with pytest.raises(NotAPersonError):
            act()
    assert len(records(services)) == 2


def test_an_author_cannot_publish_at_the_desk_and_leaves_no_trace(services: Services) -> None:
    draft = written(services)
    before = records(services)
    with pytest.raises(SecondPersonError):
        services.notice_desk.publish("terms", draft.revision, actor=ALICE, reason="Mine.")
    assert records(services) == before
    with services.database.read() as reader:
        assert read_draft(reader, "terms") == draft


def test_a_publication_that_cannot_be_recorded_did_not_happen(services: Services) -> None:
    draft = written(services)
    with services.database.begin() as session:
        session.execute(text("ALTER TABLE audit_entry RENAME TO lost"))
    with pytest.raises(DBAPIError):
        services.notice_desk.publish("terms", draft.revision, actor=BOB, reason="Fine.")
    with services.database.begin() as session:
        session.execute(text("ALTER TABLE lost RENAME TO audit_entry"))
    with services.database.read() as reader:
        assert read_draft(reader, "terms") == draft
        assert services.notices.published(reader, "terms") == []
        assert reader.execute(select(func.count()).select_from(words_table)).scalar_one() == 1


def test_two_who_begin_the_same_notice_at_once_are_told(services: Services) -> None:
    start = threading.Barrier(4)

    def go(_: int) -> bool:
        start.wait()
        try:
            services.notice_desk.begin("terms", controller=SHOP, languages=("en",), actor=ALICE)
        except NoticeChangedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(go, range(4))) == [False, False, False, True]


def test_a_discarded_draft_is_gone_and_its_end_is_on_record(services: Services) -> None:
    draft = written(services)
    services.notice_desk.discard("terms", draft.revision, actor=BOB)
    with services.database.read() as reader:
        assert read_draft(reader, "terms") is None
    assert records(services)[-1].action == "notice.draft_discarded"
