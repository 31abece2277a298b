"""What people were told: the notices in effect, and the archive of all that were published."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from flask import Response
from markupsafe import Markup
from werkzeug.exceptions import NotFound

from admin_ui.privacy_centre.language import TAGS, Language
from admin_ui.privacy_centre.page import page, visitor_language
from admin_ui.services import services
from consent.choices import NoticeRef
from consent.notice_text import direction
from consent.notices import Rendered, Version
from consent.subjects import Reader
from policies.permissions import public

_USUAL: Final = "privacy"


@dataclass(frozen=True, slots=True)
class Standing:
    """The words of a controller that stand now, as a page names them."""

    ref: NoticeRef
    title: str
    direction: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A published version as the archive lists it."""

    version: Version
    nearest: Rendered
    """In the visitor's language, or the nearest that there is."""
    until: datetime | None
    """When the next version took its place; None while it has not."""
    announced: bool
    """Whether it is still to come."""


@public("What people were told is told to everyone")
def archive() -> Response:
    """Every published notice, the newest version first."""
    with services().database.read() as reader:
        versions = services().notices.published(reader)
    by_notice = groupby(versions, key=lambda one: one.notice)
    return page("notices.html", notices=[_listed(list(of_one)) for _, of_one in by_notice])


@public("What people were told is told to everyone")
def notice(name: str, version: str, language: str) -> Response:
    """One version of a notice in one language, as it was shown."""
    with services().database.read() as reader:
        words = services().notices.version(reader, name, version, language)
        listed = _listed(services().notices.published(reader, name)) if words is not None else []
    if words is None:
        raise NotFound
    (shown,) = (one for one in listed if one.version.version == words.version)
    return page(
        "notice.html",
        words=words,
        # Written by `consent.notice_text.render`, which escapes all that it was given.
        rendering=Markup(words.rendering),  # noqa: S704
        shown=shown,
    )


def _listed(versions: Sequence[Version]) -> list[Shown]:
    """The versions of one notice, of which each is followed by the one before it."""
    now, language = services().clock(), visitor_language()
    newer = [datetime.max.replace(tzinfo=UTC), *(one.effective_from for one in versions)]
    return [
        Shown(
            one,
            _nearest(one, language),
            until if until <= now else None,
            one.effective_from > now,
        )
        for one, until in zip(versions, newer, strict=False)
    ]


def standing(reader: Reader, language: Language, now: datetime) -> dict[str, Standing]:
    """The notice that stands now, by controller, in a language or the nearest that there is.

    A controller that has several is spoken for by the one called `privacy`, else by the first.
    """
    found: dict[str, Standing] = {}
    versions = services().notices.published(reader)
    for name, of_one in groupby(versions, key=lambda one: one.notice):
        newest = next((one for one in of_one if one.effective_from <= now), None)
        if newest is None or (newest.controller in found and name != _USUAL):
            continue
        words = _nearest(newest, language)
        found[newest.controller] = Standing(
            NoticeRef(name, newest.version, words.language, words.hash),
            words.title,
            direction(words.language),
        )
    return found


def _nearest(version: Version, language: Language) -> Rendered:
    """A version in a visitor's language; else in ours, in their order; else in any."""

    def far(one: Rendered) -> tuple[bool, int, str]:
        tag = one.language.partition("-")[0].lower()
        order = TAGS.index(tag) if tag in TAGS else len(TAGS)
        return tag != language.tag, order, one.language

    return min(version.languages, key=far)
