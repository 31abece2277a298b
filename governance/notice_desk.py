"""Where staff write and publish notices: each act a transaction, and on the operator log.

Guarantees: a draft, its publication and the record of either are durable together or not at all. A
notice is published by a person, not by a program, and by another one than its authors: neither
through an account nor through an API key can anybody be their own second person, for no key can
do either. The record of a publication holds the hashes of what was published, so that the operator
log tells if the words were changed in the database.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consent import notice_drafts
from consent.ledger.canonical import JSONValue
from consent.ledger.leaf import timestamp
from consent.notice_drafts import Draft, DraftWords, NoticeChangedError, Settings
from consent.notices import Notices, Version
from consent.reconsent import people_to_ask_again
from governance.audit.trail import Actor, ActorKind, Trail
from governance.database import Database
from governance.errors import GovernanceError
from policies.model import PolicySet

DRAFTED: Final = "notice.drafted"
CHANGED: Final = "notice.draft_changed"
DISCARDED: Final = "notice.draft_discarded"
PUBLISHED: Final = "notice.published"


class NotAPersonError(GovernanceError):
    """A program cannot write or publish notices."""

    code = "NOT_A_PERSON"


class NoticeDesk:
    """Carries out what staff do about notices."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        policies: Callable[[], PolicySet],
        notices: Notices,
    ) -> None:
        self._database = database
        self._trail = trail
        self._clock = clock
        self._policies = policies
        self._notices = notices

    def begin(
        self, notice: str, *, controller: str, languages: Sequence[str], actor: Actor
    ) -> Draft:
        """Begin a draft; see `consent.notice_drafts.begin_draft`.

        Raises:
            ConsentError: as there.
            NotAPersonError: the actor is no account.
        """
        with self._work(actor) as (session, now):
            draft = notice_drafts.begin_draft(
                session, notice, controller, languages, str(actor), now
            )
            self._record(session, actor, DRAFTED, draft, now)
        return draft

    def change(self, notice: str, seen: int, settings: Settings, *, actor: Actor) -> Draft:
        """Change what a draft says beside its words; see `consent.notice_drafts.change_settings`.

        Raises:
            ConsentError: as there.
            NotAPersonError: the actor is no account.
        """
        with self._work(actor) as (session, now):
            draft = notice_drafts.change_settings(session, notice, seen, settings, str(actor), now)
            if draft.revision != seen:
                self._record(session, actor, CHANGED, draft, now)
        return draft

    def write(
        self, notice: str, seen: int, language: str, words: DraftWords, *, actor: Actor
    ) -> Draft:
        """Write a draft's words in a language; see `consent.notice_drafts.write_words`.

        Raises:
            ConsentError: as there.
            NotAPersonError: the actor is no account.
        """
        with self._work(actor) as (session, now):
            draft = notice_drafts.write_words(
                session, notice, seen, language, words, str(actor), now
            )
            if draft.revision != seen:
                self._record(session, actor, CHANGED, draft, now, {"language": language})
        return draft

    def discard(self, notice: str, seen: int, *, actor: Actor) -> Draft:
        """Remove a draft; see `consent.notice_drafts.discard_draft`.

        Raises:
            ConsentError: as there.
            NotAPersonError: the actor is no account.
        """
        with self._work(actor) as (session, now):
            draft = notice_drafts.discard_draft(session, notice, seen)
            self._record(session, actor, DISCARDED, draft, now)
        return draft

    def publish(self, notice: str, seen: int, *, actor: Actor, reason: str) -> Version:
        """Publish a draft for good; see `consent.notice_drafts.publish_draft`.

        Raises:
            ConsentError: as there.
            NotAPersonError: the actor is no account.
        """
        with self._work(actor) as (session, now):
            asked_again = self._asked_again(session, notice, now)
            version = notice_drafts.publish_draft(
                session,
                notice,
                seen,
                by=str(actor),
                reason=reason,
                policies=self._policies(),
                now=now,
            )
            record_publication(self._trail, session, actor, version, asked_again, now)
        return version

    @contextmanager
    def _work(self, actor: Actor) -> Iterator[tuple[Session, datetime]]:
        if actor.kind is not ActorKind.ACCOUNT:
            raise NotAPersonError("only members of staff write and publish notices")
        try:
            with self._database.begin() as session:
                yield session, self._clock()
        except IntegrityError as error:
            raise NoticeChangedError(
                "somebody else did the same at this very moment; look again"
            ) from error

    def _asked_again(self, session: Session, notice: str, now: datetime) -> int:
        draft = notice_drafts.read_draft(session, notice)
        if draft is None or not draft.material:
            return 0
        return people_to_ask_again(
            session,
            self._policies(),
            self._notices.history(session),
            notice,
            max(draft.effective_from or now, now),
        )

    def _record(
        self,
        session: Session,
        actor: Actor,
        action: str,
        draft: Draft,
        now: datetime,
        more: Mapping[str, JSONValue] | None = None,
    ) -> None:
        self._trail.record(
            session,
            actor=actor,
            action=action,
            object=_object(draft.notice),
            details={
                "version": draft.version,
                "revision": draft.revision,
                "material": draft.material,
                **(more or {}),
            },
            now=now,
        )


def record_publication(
    trail: Trail,
    session: Session,
    actor: Actor,
    version: Version,
    asked_again: int,
    now: datetime,
) -> None:
    """Write a publication into the operator log, with the hashes of what was published.

    `asked_again` is how many people lose a permission by it.
    """
    trail.record(
        session,
        actor=actor,
        action=PUBLISHED,
        object=_object(version.notice),
        reason=version.reason,
        details=_published(version) | {"asked_again": asked_again},
        now=now,
    )


def _object(notice: str) -> str:
    return f"notice:{notice}"


def _published(version: Version) -> dict[str, JSONValue]:
    """What the operator log keeps of a publication."""
    return {
        "version": version.version,
        "controller": version.controller,
        "effective_from": timestamp(version.effective_from),
        "material": version.material,
        "authors": list(version.authors),
        "languages": _hashes(version),
    }


def _hashes(version: Version) -> dict[str, JSONValue]:
    return {
        one.language: {"hash": one.hash, "rendering_hash": one.rendering_hash}
        for one in version.languages
    }
