"""The console as a surface of the app: its addresses, its frame and its error pages."""

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from flask import Blueprint, Flask, Response, make_response, render_template, request, url_for
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, default_exceptions

from admin_ui.console import frame
from admin_ui.console.pages import (
    access,
    consent,
    door,
    mail,
    notices,
    overview,
    record,
    webhooks,
)
from consent.errors import (
    ChannelNotCoveredError,
    ConsentError,
    EvidenceErasedError,
    InvalidInstantError,
    UnknownEventError,
    UnknownPurposeError,
)
from consent.proof_bundle import MAX_EVENTS, TooManyEventsError
from governance.access.guard import Guard

_GET: Final = ("GET",)
_POST: Final = ("POST",)
_BOTH: Final = ("GET", "POST")

_ROUTES: Final = (
    ("/", "root", door.root, _GET),
    ("/setup/<token>", "set_up", door.set_up, _BOTH),
    ("/login", "log_in", door.log_in, _BOTH),
    ("/logout", "log_out", door.log_out, _POST),
    ("/admin", "today", overview.home, _GET),
    ("/admin/consent", "explore", consent.explore, _GET),
    ("/admin/consent/people", "find_person", consent.find_person, _POST),
    ("/admin/consent/people/<ref>", "person", consent.person, _GET),
    ("/admin/consent/people/<ref>/record", "record", record.record, _BOTH),
    ("/admin/consent/events/<uuid:event_id>/receipt", "receipt", consent.receipt, _GET),
    ("/admin/consent/events/<uuid:event_id>/proof", "proof", consent.proof, _GET),
    (
        "/admin/consent/events/<uuid:event_id>/bundle",
        "proof_bundle",
        consent.proof_bundle,
        _POST,
    ),
    ("/admin/purposes", "purposes", notices.purposes, _GET),
    ("/admin/purposes/new", "new_notice", notices.new_notice, _BOTH),
    ("/admin/purposes/<notice_id>", "notice", notices.notice, _GET),
    ("/admin/purposes/<notice_id>/draft", "notice_draft", notices.notice_draft, _BOTH),
    (
        "/admin/purposes/<notice_id>/draft/<language>",
        "notice_words",
        notices.notice_words,
        _BOTH,
    ),
    ("/admin/purposes/<notice_id>/preview", "preview_notice", notices.preview, _GET),
    ("/admin/purposes/<notice_id>/publish", "publish_notice", notices.publish_notice, _BOTH),
    ("/admin/purposes/<notice_id>/discard", "discard_notice", notices.discard_notice, _POST),
    (
        "/admin/purposes/<notice_id>/versions/<version>",
        "notice_version",
        notices.notice_version,
        _GET,
    ),
    ("/admin/ledger", "ledger", overview.ledger_head, _GET),
    ("/admin/ledger/verify", "verify_ledger", overview.verify_ledger, _POST),
    ("/admin/api-keys", "api_keys", access.api_keys, _GET),
    ("/admin/api-keys/new", "new_api_key", access.new_api_key, _BOTH),
    ("/admin/api-keys/<key_id>/revoke", "revoke_api_key", access.revoke_api_key, _BOTH),
    ("/admin/webhooks", "webhooks", webhooks.webhooks, _GET),
    ("/admin/webhooks/new", "new_webhook", webhooks.new_webhook, _BOTH),
    ("/admin/webhooks/<uuid:endpoint_id>", "webhook", webhooks.webhook, _GET),
    ("/admin/webhooks/<uuid:endpoint_id>/test", "test_webhook", webhooks.test_webhook, _POST),
    ("/admin/webhooks/<uuid:endpoint_id>/pause", "pause_webhook", webhooks.pause_webhook, _POST),
    ("/admin/webhooks/<uuid:endpoint_id>/resume", "resume_webhook", webhooks.resume_webhook, _POST),
    ("/admin/webhooks/<uuid:endpoint_id>/retry", "retry_delivery", webhooks.retry_delivery, _POST),
    ("/admin/webhooks/<uuid:endpoint_id>/secret", "change_secret", webhooks.change_secret, _BOTH),
    ("/admin/webhooks/<uuid:endpoint_id>/replay", "replay_webhook", webhooks.replay_webhook, _BOTH),
    ("/admin/webhooks/<uuid:endpoint_id>/remove", "remove_webhook", webhooks.remove_webhook, _BOTH),
    ("/admin/mail", "mails", mail.mails, _GET),
    ("/admin/mail/test", "test_mail", mail.test_mail, _BOTH),
    ("/admin/mail/<uuid:mail_id>", "mail", mail.mail, _GET),
    ("/admin/jobs", "jobs", overview.job_runs, _GET),
    ("/admin/preferences", "prefer", door.prefer, _POST),
    ("/admin/shortcuts", "shortcuts", door.shortcuts, _GET),
)
"""Every address of the console: path, endpoint, view, methods."""

LONG_FORMS: Final = {"console.notice_words": 512 * 1024}
"""Bytes in a form that may be longer than others: a notice in a script of many bytes a letter."""


class _Text(NamedTuple):
    """An error page: what happened, what did not, and who can help."""

    title: str
    happened: str
    did_not: str
    who: str
    again: str = ""
    """What trying again is called, where that makes sense."""


_NOTHING: Final = "Nothing was read or changed."
_NOT_IN_POLICY: Final = _Text(
    "The policy does not have this",
    "The active policy has no such purpose, or does not pursue it on this channel.",
    "Nothing was made or changed.",
    "You: load the person's page again; the policy may have changed meanwhile.",
)
_TEXTS: Final = {
    400: _Text(
        "This cannot be understood",
        "The browser sent something that this page does not expect.",
        "Nothing was saved.",
        "You: go back, load the page again and send it once more.",
        "Load the page again",
    ),
    401: _Text(
        "You are not logged in",
        "Your session has ended, or you had none.",
        "What you just sent was not saved.",
        "You: log in, and do it again.",
    ),
    403: _Text(
        "Your role does not include this",
        "The page is there, and your account may not use it.",
        _NOTHING,
        "An administrator can give your account another role.",
    ),
    404: _Text(
        "There is nothing here",
        "The address is wrong, or what it named is gone.",
        _NOTHING,
        "You: check the address, or start from the first page.",
    ),
    405: _Text(
        "This address does not work that way",
        "The address is there, and is not for opening or for sending, whichever was tried.",
        _NOTHING,
        "You: start from the first page.",
    ),
    410: _Text(
        "This is gone",
        "A set-up link was used, replaced or has expired; or the content was erased for good.",
        "Nothing was changed.",
        "For a set-up link: whoever runs the service makes a new one with "
        "`tutela accounts setup-link`, while there is no account.",
    ),
    413: _Text(
        "That is too much at once",
        "What was sent is larger than this page accepts.",
        "Nothing was saved.",
        "You: shorten it, and send it again.",
    ),
    429: _Text(
        "Too many attempts",
        "The same thing was tried too often in a short time.",
        "The last attempt was not looked at.",
        "You: wait some minutes.",
        "Try again",
    ),
    500: _Text(
        "Something went wrong here",
        "The service met a fault of its own.",
        "Whether what you sent was saved is not known: look before you send it again.",
        "Whoever runs this service finds the fault by the reference below.",
        "Try again",
    ),
    503: _Text(
        "This cannot be answered now",
        "The database or the ledger cannot be used as it stands.",
        "Whether what you sent was saved is not known: look before you send it again.",
        "Whoever runs this service: `tutela doctor` says what is wrong.",
        "Try again",
    ),
}
_REFUSED: Final[Mapping[type[ConsentError], tuple[int, _Text]]] = {
    UnknownEventError: (404, _TEXTS[404]),
    EvidenceErasedError: (
        410,
        _Text(
            "This was erased",
            "The person's data was erased for good; the ledger keeps that something was recorded.",
            "No evidence was made, and none can be.",
            "Nobody: what was erased cannot be brought back.",
        ),
    ),
    TooManyEventsError: (
        422,
        _Text(
            "Too much for one bundle",
            f"More than {MAX_EVENTS:,} events bear on this consent, and a bundle holds no more.",
            "No bundle was made.",
            "You: take the receipts of the events that matter; or whoever runs this service, with "
            "`tutela ledger export`.",
        ),
    ),
    InvalidInstantError: (
        422,
        _Text(
            "That moment has not come yet",
            "The page was asked about a time that lies ahead.",
            "Nothing was made or changed.",
            "You: go back, and choose an earlier time.",
        ),
    ),
    UnknownPurposeError: (422, _NOT_IN_POLICY),
    ChannelNotCoveredError: (422, _NOT_IN_POLICY),
}
"""What consent refuses where no form could say so. Whatever is not here is a 503."""
_EVIDENCE: Final = {"console.receipt", "console.proof", "console.proof_bundle"}
_UNPROVED: Final = _Text(
    "This cannot be proved",
    "What is stored does not match the ledger, or was not signed yet.",
    "No evidence was made.",
    "You: try again in a minute. If it stays so, whoever runs this service: "
    "`tutela ledger verify` says what does not match.",
)
_FORGED: Final = _Text(
    "This form can no longer be sent",
    "It was open for too long, you logged in anew meanwhile, or it came from another site.",
    "Nothing was saved.",
    "You: load the page again, fill it in and send it.",
    "Load the page again",
)


def register(app: Flask, guard: Guard) -> None:
    """Add the console to an app that carries `admin_ui.services`."""
    frame.register(app, guard.cookie)
    # Pages tell no other page where they are (Referrer-Policy: no-referrer), so that forms come
    # without a Referer, which Flask-WTF would demand over https. Their token is what counts.
    app.config["WTF_CSRF_SSL_STRICT"] = False
    blueprint = Blueprint("console", __name__)
    for path, endpoint, view, methods in _ROUTES:
        blueprint.add_url_rule(path, endpoint, view, methods=methods)
    blueprint.register_error_handler(ConsentError, _refused)
    app.register_blueprint(blueprint)


def error_page(
    error: HTTPException, reference: str | None = None, text: _Text | None = None
) -> Response:
    """The page for an error: what happened, what did not, who can help, and a reference.

    Args:
        error: what to tell of.
        reference: by which operators find the error in the logs; None: one is made up, so that
            a caller who reports the page can be told from others.
        text: what the page says; None: what is said of all errors of that status.
    """
    status = error.code or 500
    if text is None:
        text = _FORGED if isinstance(error, CSRFError) else _TEXTS.get(status, _TEXTS[500])
    body = render_template(
        "console/message.html",
        text=text,
        reference=reference or secrets.token_hex(4),
        again=_again(),
        home=url_for("console.today"),
        home_label="Log in" if status == HTTPStatus.UNAUTHORIZED else "Go to Today",
    )
    response = make_response(body, status)
    if "HX-Request" in request.headers and request.method == "GET":
        # A part of a page was asked for; the browser has to load all of this one instead.
        response.headers["HX-Redirect"] = request.full_path.rstrip("?")
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response


def _again() -> str:
    """The page from which the request came: this address for what is only read."""
    return request.full_path.rstrip("?")


def _refused(error: ConsentError) -> Response:
    """What consent refuses where no form could say so."""
    unproved = _UNPROVED if request.endpoint in _EVIDENCE else None
    status, text = _REFUSED.get(type(error), (503, unproved))
    return error_page(default_exceptions[status](), text=text)
