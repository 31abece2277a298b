"""The composition root: one Flask app out of the surfaces that a deployment wants.

`create_app` puts together what `admin_ui.services` constructed: the API of consent, its
documentation, the console and the privacy centre. Every response carries the security headers;
every error of the API is a problem document; every endpoint carries a label, or the app refuses to
start. It lives in this package because this is the last word of the sentence, also for deployments
without a UI.
"""

import secrets
from collections.abc import Callable, Collection
from enum import StrEnum
from http import HTTPStatus
from importlib.metadata import version
from threading import BoundedSemaphore
from typing import Any, Final, cast

import structlog
from flask import Flask, Request, Response, current_app, g, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from werkzeug.exceptions import (
    HTTPException,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
)
from werkzeug.middleware.proxy_fix import ProxyFix

from admin_ui import documentation, well_known
from admin_ui.console import surface as console
from admin_ui.do_not_call import record_replaced
from admin_ui.privacy_centre import surface as privacy_centre
from admin_ui.proofs import export_proof
from admin_ui.services import Services
from consent.api import (
    changes,
    checks,
    choices,
    log,
    mirrors,
    notices,
    proofs,
    receipts,
    signals,
)
from consent.api.context import ConsentApi
from consent.api.problems import Problem, problem_of_http, register_problems, wants_problem
from governance.access.guard import Guard, SessionCookie
from governance.access.principal import Principal
from governance.errors import DatabaseError
from policies.permissions import Permission

_API: Final = [
    one.blueprint
    for one in (checks, choices, notices, changes, mirrors, receipts, proofs, log, signals)
]

MAX_BODY: Final = 64 * 1024
"""Bytes in a body, where a view does not allow more."""


class _App(Flask):
    """Flask without what only others need: it is asked for several times a request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: no view of ours is a coroutine."""
        return func


class _FormSessions(SecureCookieSessionInterface):
    """The signed cookie that a form's token is bound to. Calls of the API have none."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """The session of a page; for the API one that holds nothing and is never sent."""
        if wants_problem():
            return self.make_null_session(app)
        return super().open_session(app, request)


class Surface(StrEnum):
    """A part that may be deployed alone."""

    API = "api"
    CONSOLE = "console"
    PRIVACY_CENTRE = "privacy_centre"


def create_app(services: Services, surfaces: Collection[Surface] = tuple(Surface)) -> Flask:
    """Put the app together.

    Raises:
        UnlabelledEndpointError: a view does not say who may call it.
    """
    app = _App(__name__)
    app.session_interface = _FormSessions()
    settings = services.settings
    app.config.update(
        SECRET_KEY=settings.signing_secret(),
        MAX_CONTENT_LENGTH=MAX_BODY,
        SESSION_COOKIE_NAME="tutela_form",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.url.startswith("https://"),
        WTF_CSRF_TIME_LIMIT=None,
    )
    if settings.proxies:
        # Whose request it is, for limits. Whoever reaches the service past the proxy could lie.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=0, x_host=0)  # type: ignore[method-assign]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # each address has one spelling; others are not found
    services.put_on(app)
    register_problems(app)
    _keep_threads(app, settings.threads)
    app.before_request(_admit_long_forms)
    csrf = CSRFProtect(app)
    if Surface.API in surfaces:
        _add_api(app, services, csrf)
    guard = Guard(
        app,
        services.api_keys,
        services.sessions,
        cookie=SessionCookie(secure=settings.url.startswith("https://")),
        public={"static": "style sheets, scripts and pictures of our own"},
    )
    if Surface.CONSOLE in surfaces:
        console.register(app, guard)
        if Surface.API in surfaces:
            app.register_blueprint(documentation.pages)
    if Surface.PRIVACY_CENTRE in surfaces:
        privacy_centre.register(app, csrf)
    app.register_blueprint(well_known.blueprint)
    app.register_error_handler(HTTPException, _http_error)
    for error in (OperationalError, InternalError, NoConnectionError):  # the second: read-only
        app.register_error_handler(error, _unavailable)
    app.register_error_handler(DatabaseError, _unavailable)
    app.register_error_handler(Exception, _unexpected)
    app.after_request(_secure)
    guard.check_labels(app)
    return app


def _keep_threads(app: Flask, threads: int) -> None:
    """Let forms hold half of the threads at most, for they are read before anyone knows whose.

    A body may come as slowly as its sender likes, and a password takes its time to be looked at.
    Calls of the API are authenticated before their bodies are read.
    """
    seats = BoundedSemaphore(max(1, threads // 2))

    def take() -> None:
        if request.method == "POST" and not wants_problem():
            if not seats.acquire(blocking=False):
                raise TooManyRequests
            g.seat = seats

    def give_back(_: BaseException | None) -> None:
        if g.pop("seat", None) is not None:
            seats.release()

    app.before_request(take)
    app.teardown_request(give_back)


def _admit_long_forms() -> None:
    """Before anything reads a form: some may be longer."""
    longest = console.LONG_FORMS.get(request.endpoint or "")
    if longest is not None:
        request.max_content_length = longest


def _add_api(app: Flask, services: Services, csrf: CSRFProtect) -> None:
    ConsentApi(
        read=services.database.read,
        snapshot=services.database.snapshot,
        clock=services.clock,
        policies=services.policies,
        directory=services.directory,
        checker=services.checker,
        mirrors=services.mirrors,
        writer=services.writer,
        receipts=services.receipts,
        export_proof=lambda event_id, seen, about, as_of: export_proof(
            services,
            event_id,
            _principal().actor,
            may_see=lambda _: seen,
            about=about,
            as_of=as_of,
        ),
        notices=services.notices,
        log=services.log,
        notary=services.notary,
        actor=lambda: str(_principal().actor),
        may=lambda permission: _principal().may(Permission(permission)),
        signals=services.signals,
        lists=services.lists,
        list_replaced=lambda session, replaced: record_replaced(
            services, session, replaced, _principal().actor
        ),
        long_polls=BoundedSemaphore(services.settings.threads // 2),
    ).put_on(app)
    for blueprint in documentation.register(app, _API, version("tutela")):
        csrf.exempt(blueprint)  # API keys travel in a header that no foreign page can send


def _principal() -> Principal:
    return cast(Principal, g.principal)


def _http_error(error: HTTPException) -> Response:
    if wants_problem():
        return problem_of_http(error).response()
    return _error_page(error)


def _error_page(error: HTTPException, reference: str | None = None) -> Response:
    """The page for an error, as people of that address read it."""
    there = current_app.blueprints
    if "privacy_centre" in there and (privacy_centre.is_ours() or "console" not in there):
        return privacy_centre.error_page(error, reference)
    if "console" in there:
        return console.error_page(error, reference)
    return cast(Response, error.get_response())


def _unavailable(error: Exception) -> Response:
    """The database cannot be reached, or was busy for too long: worth another try later."""
    structlog.get_logger().error("database unavailable", endpoint=request.endpoint, exc_info=error)
    if wants_problem():
        return Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "DATABASE_UNAVAILABLE",
            "The database did not answer. What was sent may have been recorded or not: send it "
            "again, under the same Idempotency-Key if it had one.",
            headers={"Retry-After": "5"},
        ).response()
    return _error_page(ServiceUnavailable())


def _unexpected(error: Exception) -> Response:
    """Whatever nobody expected: logged by place, answered with a reference, never explained."""
    reference = secrets.token_hex(4)
    structlog.get_logger().error(
        "request failed", reference=reference, endpoint=request.endpoint, exc_info=error
    )
    if wants_problem():
        return Problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            f"What was sent may have been carried out or not. Operators find it as {reference}.",
        ).response()
    return _error_page(InternalServerError(), reference)


_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def _secure(response: Response) -> Response:
    if "X-Content-Type-Options" not in response.headers:  # the API's own answers have theirs
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
    return response
