"""The privacy centre as a surface of the app: its addresses and its error pages.

Every view is public, as the people whom data is about have no account here. What a view may show
or do follows from the link or the code that the visitor brings. GET and HEAD change nothing, so
that whoever opens a link before its reader does (mail scanners, previews, prefetching) does
nothing.

Forms carry no token against other sites' forgeries, and Flask-WTF, whose tokens take a cookie, is
left out: a page by link is reached by a secret in its address, which a forger does not have; a
page by code takes the token of its own session (`door`). `same_site` refuses the rest.
"""

import secrets
from typing import Final, NamedTuple

from flask import Blueprint, Flask, Response, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import Forbidden, HTTPException, ServiceUnavailable

from admin_ui.privacy_centre import confirm, door, home, notices, preferences
from admin_ui.privacy_centre.language import N_
from admin_ui.privacy_centre.page import page, secure
from consent.errors import LedgerError

PREFIX: Final = "/privacy"

_GET: Final = ("GET",)
_POST: Final = ("POST",)
_BOTH: Final = ("GET", "POST")

_ROUTES: Final = (
    ("", "home", home.home, _GET),
    ("/choices", "by_visit", preferences.by_visit, _BOTH),
    ("/choices/<token>", "by_link", preferences.by_link, _BOTH),
    ("/confirm/<token>", "confirm", confirm.confirm, _BOTH),
    ("/code", "ask", door.ask, _POST),
    ("/code/<challenge>", "enter", door.enter, _BOTH),
    ("/leave", "leave", door.leave, _POST),
    ("/notices", "archive", notices.archive, _GET),
    ("/notices/<name>/<version>/<language>", "notice", notices.notice, _GET),
    ("/contact", "contact", home.contact, _GET),
    ("/accessibility", "accessibility", home.accessibility, _GET),
)
"""Every address of the centre: path behind `/privacy`, endpoint, view, methods."""


class _Text(NamedTuple):
    """An error page: what happened, what did not, and what helps."""

    title: str
    happened: str
    did_not: str
    what_helps: str


_NOT_SAVED: Final = N_("Nothing was changed.")
_TEXTS: Final = {
    400: _Text(
        N_("This cannot be understood"),
        N_("Your browser sent something that this page does not expect."),
        _NOT_SAVED,
        N_("Go back, load the page again and send it once more."),
    ),
    403: _Text(
        N_("This came from another place"),
        N_("The form was not sent from our own page, or your visit has ended meanwhile."),
        _NOT_SAVED,
        N_("Open the page again and send it once more."),
    ),
    404: _Text(
        N_("There is nothing here"),
        N_("The address is wrong, or what was here is gone."),
        _NOT_SAVED,
        N_("Check the address, or start from the first page."),
    ),
    405: _Text(
        N_("This address does not work that way"),
        N_("The address is there, and is not for opening or for sending, whichever was tried."),
        _NOT_SAVED,
        N_("Start from the first page."),
    ),
    413: _Text(
        N_("That is too much at once"),
        N_("What was sent is larger than this page accepts."),
        _NOT_SAVED,
        N_("Shorten it, and send it again."),
    ),
    429: _Text(
        N_("Too many attempts"),
        N_("The same thing was tried too often in a short time."),
        N_("The last attempt was not looked at."),
        N_("Wait a quarter of an hour, or use one of the other ways to reach us."),
    ),
    500: _Text(
        N_("Something went wrong here"),
        N_("This service met a fault of its own."),
        N_("What you sent was not saved, unless a page has confirmed it."),
        N_("Try again. If it stays, tell us the reference below."),
    ),
    503: _Text(
        N_("This cannot be answered now"),
        N_("This service cannot reach its records."),
        N_("What you sent was not saved, unless a page has confirmed it."),
        N_("Try again in some minutes. To stop something, you can also write or call."),
    ),
}


def register(app: Flask, csrf: CSRFProtect) -> None:
    """Add the privacy centre to an app that carries `admin_ui.services`."""
    blueprint = Blueprint("privacy_centre", __name__, url_prefix=PREFIX)
    for path, endpoint, view, methods in _ROUTES:
        blueprint.add_url_rule(path, endpoint, view, methods=methods)
    blueprint.before_request(same_site)
    blueprint.after_request(secure)
    blueprint.register_error_handler(LedgerError, _unusable)
    csrf.exempt(blueprint)
    app.register_blueprint(blueprint)


def is_ours() -> bool:
    """Whether the request came to the privacy centre, also where it found nothing."""
    return request.path == PREFIX or request.path.startswith(f"{PREFIX}/")


def same_site() -> ResponseReturnValue | None:
    """Refuse forms that a browser says another site has sent.

    Raises:
        Forbidden: the browser says so. What says nothing (mail programs, old browsers) passes.
    """
    sent_from = request.headers.get("Sec-Fetch-Site", "none")
    if request.method == "POST" and sent_from not in {"same-origin", "none"}:
        raise Forbidden
    return None


def error_page(error: HTTPException, reference: str | None = None) -> Response:
    """The page for an error: what happened, what did not, what helps, and a reference.

    Args:
        error: what to tell of.
        reference: by which operators find the error in the logs; None: one is made up, so that
            a visitor who reports the page can be told from others.
    """
    status = error.code or 500
    text = _TEXTS.get(status, _TEXTS[500])
    response = page("message.html", status, text=text, reference=reference or secrets.token_hex(4))
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return secure(response)


def _unusable(_: LedgerError) -> Response:
    return error_page(ServiceUnavailable())
