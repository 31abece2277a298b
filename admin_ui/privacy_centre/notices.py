"""What people were told: the notices in effect, and the archive of all that were published."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

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

_USUAL = "privacy"


@dataclass(frozen=True, slots=True)
class Standing:
    """The words of a controller that stand now, as a page names them."""

    ref: NoticeRef
    title: str
    direction: str


@public("What people were told is told to everyone")
def archive() -> Response:
    """Every published notice, the newest version first."""
    now = services().clock()
    with services().database.read() as reader:
        versions = services().notices.published(reader)
    shown = visitor_language()
    notices = [
        [(one, _nearest(one, shown), one.effective_from > now) for one in of_one]
        for _, of_one in groupby(versions, key=lambda one: one.notice)
    ]
    return page("notices.html", notices=notices)


@public("What people were told is told to everyone")
def notice(name: str, version: str, language: str) -> Response:
    """One version of a notice in one language, as it was shown."""
    with services().database.read() as reader:
        words = services().notices.version(reader, name, version, language)
        versions = [
            one
            for one in services().notices.published(reader, name)
            if words is not None and one.version == words.version
        ]
    if words is None:
        raise NotFound
    return page(
        "notice.html",
        words=words,
        # Written by `consent.notice_text.render`, which escapes all that it was given.
        rendering=Markup(words.rendering),  # noqa: S704
        others=[one for one in versions[0].languages if one.language != words.language],
        announced=words.effective_from > services().clock(),
    )


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
