"""The way in by code: an e-mail address, a code sent to it, a visit.

Guarantees: whoever asks for a code gets the same answer in the same time whether the address is
known or not; whose it is is looked up when the answer is out. Wrong, used, expired and made-up
codes are told with the same words.
"""

from http import HTTPStatus

import structlog
from flask import request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import Forbidden, TooManyRequests
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from admin_ui.privacy_centre import visits
from admin_ui.privacy_centre.language import N_
from admin_ui.privacy_centre.page import address, page, visitor_language
from admin_ui.services import services
from consent.errors import InvalidSubjectError
from consent.subjects import email
from governance.contacts.codes import LIFE, Asked, ContactCodes, NotProven
from governance.errors import GovernanceError
from policies.permissions import public

_MALFORMED = N_("This is not an e-mail address. It looks like name@example.com.")
_WRONG = N_(
    "This code does not work. Look whether it is from the newest message, or get a new one. "
    "A code works once, for ten minutes and five tries."
)


@public("Whoever knows the address gets a code there, and whoever asks learns nothing")
def ask() -> Response:
    """Send a code to an address, if it is known."""
    try:
        contact = email(request.form.get("contact", ""))
    except InvalidSubjectError:
        return page("ask.html", HTTPStatus.UNPROCESSABLE_ENTITY, wrong=_MALFORMED, ended=False)
    asked = services().contact_codes.ask(contact, request.remote_addr or "")
    if asked is None:
        raise TooManyRequests
    response = redirect(address("enter", challenge=asked.challenge), HTTPStatus.SEE_OTHER)
    codes, later, language = services().contact_codes, services().later, visitor_language().tag
    # When the answer is out: how long it takes to deliver a code tells whether anyone gets one.
    response.call_on_close(lambda: later.submit(_deliver, codes, asked, language))
    return response


def _deliver(codes: ContactCodes, asked: Asked, language: str) -> None:
    """Send a code. Nobody waits for it: whoever gets none asks again, and operators read why."""
    try:
        codes.deliver(asked, language)
    except (GovernanceError, SQLAlchemyError) as error:
        structlog.get_logger().error("code not delivered", exc_info=error)


@public("The code is the permission")
def enter(challenge: str) -> Response:
    """Ask for the code, and begin a visit when it is right."""
    wrong = None
    if request.method == "POST":
        code, caller = request.form.get("code", ""), request.remote_addr or ""
        proven = services().contact_codes.prove(challenge, code, caller)
        if proven is NotProven.TOO_MANY:
            raise TooManyRequests
        if proven is not NotProven.WRONG:
            response = redirect(address("by_visit"), HTTPStatus.SEE_OTHER)
            visits.begin(response, proven)
            return response
        wrong = _WRONG
    status = HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK
    return page("code.html", status, challenge=challenge, wrong=wrong, minutes=LIFE.seconds // 60)


@public("It ends what a code began, and takes the token of the visit's own form")
def leave() -> Response:
    """End the visit."""
    if not visits.is_own_form(visits.visit_token() or ""):
        raise Forbidden
    response = redirect(address("home"), HTTPStatus.SEE_OTHER)
    visits.end(response)
    return response
