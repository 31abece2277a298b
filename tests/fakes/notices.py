"""The notice that tests' choices name, and a short way to publish others."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.orm import Session

from consent.notice_drafts import (
    DraftWords,
    Settings,
    begin_draft,
    change_settings,
    publish_draft,
    read_draft,
    write_words,
)
from consent.notices import Notices, Version
from governance.database import Database
from policies.model import PolicySet

AUTHOR: Final = "account:author"
SECOND: Final = "account:second"
SHOP: Final = "example-shop"
SINCE: Final = datetime.min.replace(tzinfo=UTC)
"""Long before anything that a test says has happened."""


def words(language: str, version: str, more: str = "") -> DraftWords:
    """Something to read."""
    text = f"We write to you. Version {version}, in {language}.\n\n## Your rights\n\nSay no.{more}"
    return DraftWords(f"Privacy notice {version}", text, ("The post",))


def publish(
    session: Session,
    policies: PolicySet,
    version: str,
    *,
    now: datetime,
    notice: str = "privacy",
    material: bool = False,
    effective_from: datetime | None = None,
    languages: Iterable[str] = ("en",),
    said: Mapping[str, DraftWords] | None = None,
) -> Version:
    """Write a version of a notice and publish it, by two people."""
    if read_draft(session, notice) is None:
        begin_draft(session, notice, SHOP, list(languages), AUTHOR, now)
    draft = read_draft(session, notice)
    assert draft is not None
    stated = Settings(draft.controller, version, effective_from, material, tuple(languages))
    draft = change_settings(session, notice, draft.revision, stated, AUTHOR, now)
    for language in draft.languages:
        own = (said or {}).get(language) or words(language, version)
        draft = write_words(session, notice, draft.revision, language, own, AUTHOR, now)
    return publish_draft(
        session, notice, draft.revision, by=SECOND, reason="A test.", policies=policies, now=now
    )


def publish_privacy(database: Database, policies: PolicySet) -> None:
    """Version 3 of `privacy` in English, unless another process of the test has published it."""
    with database.begin() as session:
        if Notices().version(session, "privacy", "3", "en") is None:
            publish(session, policies, "3", now=SINCE, effective_from=SINCE)
