"""From a draft to a published notice: two people, complete words, and no way back.

A notice has at most one draft. Everybody who changes a word of it is one of its authors, and none
of them can publish it. Whoever changes or publishes names the revision that they saw, so that
nobody overwrites, or publishes, what they have not read.

Publishing is one act: the version, its words with their hashes and pages, and the end of the draft
are the caller's transaction. What was published is never changed: code has no statement for it,
and the database refuses it.

Dates: a version takes effect when it is published or later. One that is not material may also be
dated back, to enter words that were in use before they were kept here; but not behind a material
change, which it would undo. So decisions that were made stay what they were.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from consent.errors import ConsentError
from consent.models import notice_draft as draft_table
from consent.models import notice_version as version_table
from consent.models import notice_words as words_table
from consent.notice_text import (
    MAX_LINE,
    MAX_RECIPIENTS,
    MAX_TEXT,
    InvalidNoticeError,
    fingerprint,
    language_tag,
    normalised,
    one_line,
    render,
    sections,
)
from consent.notices import Notices, Version
from consent.subjects import Reader
from policies.model import PolicySet

MAX_LANGUAGES: Final = 40
MAX_REASON: Final = 500

_NOTICE: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_TAKEN: Final = frozenset({"new", "quoted_words"})
"""A page of the console, and what importers call words that name no notice."""

_draft = draft_table.c


class NoticeChangedError(ConsentError):
    """The draft is not what the caller saw: it was changed, published or discarded meanwhile."""

    code = "NOTICE_CHANGED"


class SecondPersonError(ConsentError):
    """Who wrote something of a notice cannot publish it."""

    code = "SECOND_PERSON_NEEDED"


@dataclass(frozen=True, slots=True)
class DraftWords:
    """What is to be shown in one language. Made by `checked`, or empty."""

    title: str = ""
    text: str = ""
    recipients: tuple[str, ...] = ()

    @classmethod
    def checked(cls, *, title: str, text: str, recipients: str) -> "DraftWords":
        """Words in their one spelling; recipients come one a line.

        Raises:
            InvalidNoticeError: with what is wrong by `title`, `text` and `recipients`.
        """
        wrong: dict[str, str] = {}
        found: dict[str, str] = {}
        for field, stated, spell, most in (
            ("title", title, one_line, MAX_LINE),
            ("text", text, normalised, MAX_TEXT),
            ("recipients", recipients, normalised, MAX_TEXT),
        ):
            try:
                found[field] = spell(stated)
            except InvalidNoticeError as error:
                wrong[field] = f"{str(error).capitalize()}."
            else:
                if len(found[field]) > most:
                    wrong[field] = f"Write at most {most:,} characters."
        lines = tuple(line for line in found.get("recipients", "").split("\n") if line)
        if len(lines) > MAX_RECIPIENTS or any(len(line) > MAX_LINE for line in lines):
            wrong["recipients"] = (
                f"Write at most {MAX_RECIPIENTS} lines of at most {MAX_LINE} characters."
            )
        if wrong:
            raise InvalidNoticeError("the words cannot be kept as they are", wrong)
        return cls(found["title"], found["text"], lines)


@dataclass(frozen=True, slots=True)
class Draft:
    """The next version of a notice while it is being written."""

    notice: str
    controller: str
    version: str
    effective_from: datetime | None
    """None: when it is published."""
    material: bool
    languages: tuple[str, ...]
    """The first is the one that the others are translated from."""
    words: Mapping[str, DraftWords]
    authors: tuple[str, ...]
    """Opaque references of all who wrote something of it."""
    revision: int
    changed_at: datetime

    def said_in(self, language: str) -> DraftWords:
        """The words of a language, which may be empty."""
        return self.words.get(language, DraftWords())

    def completeness(self, language: str) -> int:
        """How much of a language is written, in per cent: title, recipients, text, and as many
        headings as the language with the most of them has.
        """
        own, most = self.said_in(language), self._most_sections()
        done = sum(map(bool, (own.title, own.recipients, own.text)))
        return (done + sections(own.text)) * 100 // (3 + most)

    def _most_sections(self) -> int:
        return max((sections(self.said_in(one).text) for one in self.languages), default=0)

    def gaps(self, language: str) -> dict[str, str]:
        """What is missing in a language: a sentence for `title`, `text` and `recipients`."""
        own, most = self.said_in(language), self._most_sections()
        missing = {
            "title": not own.title and "The title is missing.",
            "text": not own.text and "The text is missing.",
            "recipients": (
                not own.recipients and "Say who receives the data; if nobody does, say that."
            ),
        }
        if own.text and sections(own.text) < most:
            missing["text"] = (
                f"The text has {sections(own.text)} of the {most} headings of the other languages."
            )
        return {field: sentence for field, sentence in missing.items() if sentence}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a draft says beside its words."""

    controller: str
    version: str
    effective_from: datetime | None
    material: bool
    languages: tuple[str, ...]


# --- reading -------------------------------------------------------------------------------------


def read_drafts(reader: Reader) -> list[Draft]:
    """All drafts, by the id of their notice."""
    rows = reader.execute(select(draft_table).order_by(_draft.notice)).all()
    return [_draft_of(row) for row in rows]


def read_draft(reader: Reader, notice: str) -> Draft | None:
    """The draft of a notice, if there is one."""
    if _NOTICE.fullmatch(notice) is None:
        return None
    row = reader.execute(select(draft_table).where(_draft.notice == notice)).one_or_none()
    return None if row is None else _draft_of(row)


def objections(
    draft: Draft, policies: PolicySet, published: Sequence[Version], now: datetime
) -> dict[str, str]:
    """Why a draft cannot be published: sentences by field; of words, `language.field`.

    Args:
        draft: the draft.
        policies: the active policy, which has the controllers.
        published: all published versions of the notice.
        now: when it would be published.
    """
    found = {
        "controller": (
            draft.controller not in policies.controllers
            and "The policy in force has no such controller."
        ),
        "version": _wrong_version(draft, published),
        "effective_from": _wrong_date(draft, published, now),
        "languages": not draft.languages and "Name one language at least.",
    }
    for language in draft.languages:
        for field, sentence in draft.gaps(language).items():
            found[f"{language}.{field}"] = sentence
    return {field: sentence for field, sentence in found.items() if sentence}


def _wrong_version(draft: Draft, published: Sequence[Version]) -> str | None:
    if not draft.version:
        return "Give the version a name, such as 4."
    if any(one.version == draft.version for one in published):
        return "This version was published already; its words can't change. Give it another name."
    return None


def _wrong_date(draft: Draft, published: Sequence[Version], now: datetime) -> str | None:
    at = draft.effective_from or now
    if any(one.effective_from == at for one in published):
        return "Another version takes effect at that very moment."
    if at >= now:
        return None
    if draft.material:
        return (
            "A material change can't take effect in the past: what was decided since would become "
            "wrong."
        )
    if any(one.material and one.effective_from <= at for one in published):
        return (
            "Words from before today can only be entered as older than every material change, or "
            "they would undo it."
        )
    return None


# --- writing -------------------------------------------------------------------------------------


def begin_draft(
    session: Session, notice: str, controller: str, languages: Sequence[str], by: str, now: datetime
) -> Draft:
    """A new draft: empty for a new notice, else with the newest published words.

    Args:
        session: the caller's transaction.
        notice: the notice's id.
        controller: of a new notice; a published one keeps its controller.
        languages: of a new notice, in the order in which they are written.
        by: an opaque reference of who begins it.
        now: the time.

    Raises:
        InvalidNoticeError: with what is wrong by `notice` and `languages`.
        NoticeChangedError: there is a draft already.
        sqlalchemy.exc.IntegrityError: somebody else began one at the same moment.
    """
    if _NOTICE.fullmatch(notice) is None or notice in _TAKEN:
        raise InvalidNoticeError(
            "the id cannot be used",
            {"notice": "Use small letters, digits, - and _, beginning with a letter."},
        )
    if read_draft(session, notice) is not None:
        raise NoticeChangedError("this notice has a draft already; go on with that one")
    notices = Notices()
    published = notices.published(session, notice)
    if published:
        newest = published[0]
        shown = [
            words
            for one in newest.languages
            if (words := notices.version(session, notice, newest.version, one.language)) is not None
        ]
        draft = Draft(
            notice=notice,
            controller=newest.controller,
            version=_next_name(published),
            effective_from=None,
            material=False,
            languages=tuple(words.language for words in shown),
            words={
                words.language: DraftWords(words.title, words.text, words.recipients)
                for words in shown
            },
            authors=(by,),
            revision=1,
            changed_at=now,
        )
    else:
        draft = Draft(
            notice=notice,
            controller=controller,
            version="1",
            effective_from=None,
            material=False,
            languages=checked_languages(languages),
            words={},
            authors=(by,),
            revision=1,
            changed_at=now,
        )
    session.execute(insert(draft_table), _row_of(draft))
    return draft


def change_settings(
    session: Session, notice: str, seen: int, settings: Settings, by: str, now: datetime
) -> Draft:
    """Change what a draft says beside its words.

    Raises:
        InvalidNoticeError: with what is wrong by field.
        NoticeChangedError: the draft is not at the revision that was seen.
    """
    before = _seen(session, notice, seen)
    wrong = {}
    if settings.version and _VERSION.fullmatch(settings.version) is None:
        wrong["version"] = "Use letters, digits, points, - and _, at most 32 of them."
    published = Notices().published(session, notice)
    if published and settings.controller != published[0].controller:
        wrong["controller"] = "A notice that was published stays with its controller."
    if wrong:
        raise InvalidNoticeError("the draft cannot be kept as it is", wrong)
    after = replace(
        before,
        controller=settings.controller,
        version=settings.version,
        effective_from=settings.effective_from,
        material=settings.material,
        languages=checked_languages(settings.languages),
    )
    return _changed(session, before, after, by, now)


def write_words(
    session: Session,
    notice: str,
    seen: int,
    language: str,
    words: DraftWords,
    by: str,
    now: datetime,
) -> Draft:
    """Write what a draft says in one of its languages.

    Raises:
        InvalidNoticeError: the draft has no such language.
        NoticeChangedError: the draft is not at the revision that was seen.
    """
    before = _seen(session, notice, seen)
    if language not in before.languages:
        raise InvalidNoticeError("the draft has no such language")
    after = replace(before, words={**before.words, language: words})
    return _changed(session, before, after, by, now)


def discard_draft(session: Session, notice: str, seen: int) -> Draft:
    """Remove a draft; returns what it was.

    Raises:
        NoticeChangedError: the draft is not at the revision that was seen.
    """
    draft = _seen(session, notice, seen)
    gone = session.execute(
        delete(draft_table)
        .where(_draft.notice == notice, _draft.revision == seen)
        .returning(_draft.notice)
    ).one_or_none()
    if gone is None:
        raise _not_as_seen()
    return draft


def publish_draft(
    session: Session,
    notice: str,
    seen: int,
    *,
    by: str,
    reason: str,
    policies: PolicySet,
    now: datetime,
) -> Version:
    """Publish a draft, for good.

    Args:
        session: the caller's transaction.
        notice: the notice's id.
        seen: the revision of the draft that whoever publishes has read.
        by: an opaque reference of who publishes: none of the authors.
        reason: why, in a sentence that names nobody.
        policies: the active policy.
        now: the time.

    Raises:
        NoticeChangedError: the draft is not at that revision, or is published already.
        SecondPersonError: `by` wrote something of it.
        InvalidNoticeError: something is missing or wrong; `fields` says what.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Numbers follow the order of commits: one publication at a time, and readers go on.
        session.execute(text(f"LOCK TABLE {version_table.name} IN SHARE ROW EXCLUSIVE MODE"))
    draft = _seen(session, notice, seen)
    if by in draft.authors:
        raise SecondPersonError(
            "who wrote something of a notice cannot publish it; somebody else has to read it first"
        )
    wrong = objections(draft, policies, Notices().published(session, notice), now)
    if not 0 < len(reason.strip()) <= MAX_REASON:
        wrong["reason"] = f"Say why, in at most {MAX_REASON} characters."
    if wrong:
        raise InvalidNoticeError("the draft cannot be published as it is", wrong)
    discard_draft(session, notice, seen)
    number = session.execute(select(func.coalesce(func.max(version_table.c.seq), 0))).scalar_one()
    session.execute(
        insert(version_table),
        {
            "notice": draft.notice,
            "version": draft.version,
            "seq": number + 1,
            "controller": draft.controller,
            "effective_from": draft.effective_from or now,
            "published_at": now,
            "material": draft.material,
            "authors": " ".join(draft.authors),
            "published_by": by,
            "reason": reason.strip(),
        },
    )
    session.execute(
        insert(words_table), [_published_words(draft, one, policies) for one in draft.languages]
    )
    return next(one for one in Notices().published(session, notice) if one.version == draft.version)


def checked_languages(languages: Sequence[str]) -> tuple[str, ...]:
    """Languages in their usual spelling and in their order, none twice.

    Raises:
        InvalidNoticeError: one is no language tag, or there are too many.
    """
    try:
        found = tuple(dict.fromkeys(language_tag(one) for one in languages))
    except InvalidNoticeError as error:
        raise InvalidNoticeError(
            str(error),
            {"languages": "Write tags such as en, de-AT or zh-Hans, with spaces between."},
        ) from error
    if len(found) > MAX_LANGUAGES:
        raise InvalidNoticeError(
            "too many languages", {"languages": f"At most {MAX_LANGUAGES} languages fit."}
        )
    return found


def shown_page(draft: Draft, language: str, policies: PolicySet) -> str | None:
    """The page that a draft would be published as; None while its controller is unknown."""
    controller = policies.controllers.get(draft.controller)
    if controller is None:
        return None
    words = draft.said_in(language)
    return render(
        language=language,
        title=words.title,
        text=words.text,
        recipients=words.recipients,
        controller=controller,
    )


# --- inside --------------------------------------------------------------------------------------


def _published_words(draft: Draft, language: str, policies: PolicySet) -> dict[str, Any]:
    words = draft.said_in(language)
    rendering = shown_page(draft, language, policies) or ""
    return {
        "notice": draft.notice,
        "version": draft.version,
        "language": language,
        "title": words.title,
        "text": words.text,
        "recipients": "\n".join(words.recipients),
        "hash": fingerprint(words.text),
        "rendering": rendering,
        "rendering_hash": fingerprint(rendering),
    }


def _seen(session: Session, notice: str, seen: int) -> Draft:
    draft = read_draft(session, notice)
    if draft is None or draft.revision != seen:
        raise _not_as_seen()
    return draft


def _not_as_seen() -> NoticeChangedError:
    return NoticeChangedError("the draft was changed, published or discarded since you opened it")


def _changed(session: Session, before: Draft, after: Draft, by: str, now: datetime) -> Draft:
    """Keep a draft that somebody changed. Who changed nothing is no author."""
    if after == before:
        return before
    after = replace(
        after,
        authors=tuple(dict.fromkeys((*before.authors, by))),
        revision=before.revision + 1,
        changed_at=now,
    )
    kept = session.execute(
        update(draft_table)
        .where(_draft.notice == before.notice, _draft.revision == before.revision)
        .values(_row_of(after))
        .returning(_draft.revision)
    ).one_or_none()
    if kept is None:
        raise _not_as_seen()
    return after


def _next_name(published: Sequence[Version]) -> str:
    """The name that comes next where names are numbers; else nothing."""
    numbers = [int(one.version) for one in published if one.version.isdecimal()]
    return str(max(numbers) + 1) if len(numbers) == len(published) else ""


def _row_of(draft: Draft) -> dict[str, Any]:
    return {
        "notice": draft.notice,
        "controller": draft.controller,
        "version": draft.version,
        "effective_from": draft.effective_from,
        "material": draft.material,
        "languages": " ".join(draft.languages),
        "words": json.dumps(
            {
                language: [words.title, words.text, list(words.recipients)]
                for language, words in draft.words.items()
            },
            ensure_ascii=False,
        ),
        "authors": " ".join(draft.authors),
        "revision": draft.revision,
        "changed_at": draft.changed_at,
    }


def _draft_of(row: Row[Any]) -> Draft:
    return Draft(
        notice=row.notice,
        controller=row.controller,
        version=row.version,
        effective_from=row.effective_from,
        material=row.material,
        languages=tuple(row.languages.split()),
        words={
            language: DraftWords(title, words, tuple(recipients))
            for language, (title, words, recipients) in json.loads(row.words).items()
        },
        authors=tuple(row.authors.split()),
        revision=row.revision,
        changed_at=row.changed_at,
    )
