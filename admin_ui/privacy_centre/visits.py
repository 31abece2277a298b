"""Whose choices a visitor may see: by the link or the code that they bring.

A link may have been passed on, so that it shows a masked contact and nothing else of the person.
It dies with the contact that it was sent to. A visit by code is a link of its own kind, in a
cookie: for twenty minutes, for these pages alone, never sent along from another site. Nothing is
kept of it on the server, so that it ends when the browser forgets it, when its time is up, or
with the person.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import structlog
from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from admin_ui.privacy_centre.choices import BY_LINK, Visit, by_code
from admin_ui.privacy_centre.page import page
from admin_ui.services import services
from consent import subjects
from consent.links import LIFETIMES, InvalidLinkError, Link, LinkScope
from consent.subjects import Identifier, Reader, SubjectRef
from governance.contacts.codes import Proven
from governance.errors import DecryptionError

COOKIE: Final = "tutela_visit"
PATH: Final = "/privacy"


@dataclass(frozen=True, slots=True)
class Person:
    """Whose choices these are, and how that was shown."""

    ref: SubjectRef
    identifiers: list[Identifier]
    contact: Identifier | None
    """Where the link or the code was sent; None where a link was made for nobody in particular."""
    visit: Visit

    @property
    def actor(self) -> str:
        """Who acts, as the ledger names it."""
        return "person:link" if self.visit is BY_LINK else "person:code"


def read_link(token: str, scope: LinkScope) -> Link | None:
    """What a token says; None if it is no link of this kind, or not any more."""
    try:
        return services().links.read(token, scope, services().clock())
    except InvalidLinkError as error:
        structlog.get_logger().info("link refused", outcome=error.fault.value)
        return None


def person_of(reader: Reader, link: Link) -> Person | None:
    """Whom a link is about; None if nobody any more, or if its contact is not theirs any more."""
    directory, links = services().directory, services().links
    if directory.find(reader, [subjects.ref(link.subject)]) == [None]:
        return None
    try:
        held = directory.identifiers_of(reader, [link.subject])[link.subject]
    except DecryptionError:
        held = []
    contact = next((one for one in held if links.was_sent_to(link, one)), None)
    if contact is None and link.recipient is not None:
        return None
    by_a_code = link.scope is LinkScope.VISIT and contact is not None
    visit = by_code(contact) if by_a_code and contact is not None else BY_LINK
    return Person(link.subject, held, contact, visit)


def gone() -> Response:
    """The page for a link that leads nowhere. Always the same: it tells nothing about anyone."""
    return page("gone.html", 410)


# --- the cookie --------------------------------------------------------------------------------


def visit_token() -> str | None:
    """The token of the visit that the browser remembers."""
    return request.cookies.get(COOKIE)


def begin(response: AnyResponse, proven: Proven) -> None:
    """Let the browser remember whose contact was proven."""
    now = services().clock()
    token = services().links.issue(LinkScope.VISIT, proven.subject, now, recipient=proven.contact)
    response.set_cookie(
        COOKIE,
        token,
        max_age=LIFETIMES[LinkScope.VISIT],
        path=PATH,
        secure=_secure(),
        httponly=True,
        samesite="Strict",
    )


def end(response: AnyResponse) -> None:
    """Let the browser forget."""
    response.delete_cookie(COOKIE, path=PATH, secure=_secure(), httponly=True, samesite="Strict")


def form_token(token: str) -> str:
    """What the forms of a visit by code carry. Only who knows the cookie can make it."""
    return hashlib.sha256(f"form {token}".encode()).hexdigest()


def is_own_form(token: str) -> bool:
    """Whether the form that was sent is one of this visit's."""
    sent = request.form.get("form", "")
    return hmac.compare_digest(sent.encode(), form_token(token).encode())


def _secure() -> bool:
    return services().settings.url.startswith("https://")
