"""Stands before every endpoint: who is calling, and may they?

Guarantees: an endpoint without a label (`policies.permissions`) is refused, and named when the
app starts. The API takes API keys and nothing else, so that no page of another site can act
through a cookie; the console takes session cookies and nothing else. A caller needs all the
permissions that a label names.

The caller is `g.principal`; at public endpoints it is None, whatever credentials came along.
The one file of governance outside its API that knows Flask. Not here: CSRF, rates, pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from flask import Flask, Request, Response, g, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, Unauthorized
from werkzeug.routing import Rule

from consent.api.problems import Problem
from governance.access.api_keys import ApiKeys
from governance.access.errors import (
    AccessError,
    NotAuthenticatedError,
    PermissionDeniedError,
    UnlabelledEndpointError,
)
from governance.access.principal import Principal
from governance.access.sessions import OpenedSession, Sessions
from policies.permissions import Label, label_of

API_PATH: Final = "/v1/"
"""What lies under it is called by programs."""

_REALM: Final = 'Bearer realm="tutela"'


class Surface(StrEnum):
    """Who an endpoint is for, and so which credentials it takes."""

    API = "api"
    CONSOLE = "console"


class Refusal(Protocol):
    """Answers a caller who is refused: 401 for `NotAuthenticatedError`, else 403."""

    def __call__(self, surface: Surface, error: AccessError) -> ResponseReturnValue:
        """The response, or an exception that the app's error handlers turn into one."""


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The cookie that carries a session's token: out of reach of scripts and of other sites."""

    name: str = "tutela_session"
    secure: bool = True
    """False only where the service is reached by plain http, on the machine it runs on."""

    def read(self) -> str | None:
        """The token that the browser sent."""
        return request.cookies.get(self.name)

    def put(self, response: Response, opened: OpenedSession) -> None:
        """Give the browser the token of a session just opened, until the browser closes."""
        response.set_cookie(
            self.name, opened.token, secure=self.secure, httponly=True, samesite="Lax", path="/"
        )

    def clear(self, response: Response) -> None:
        """Make the browser forget its session."""
        response.delete_cookie(
            self.name, secure=self.secure, httponly=True, samesite="Lax", path="/"
        )


class Guard:
    """Refuses whoever may not, before a view is called."""

    def __init__(
        self,
        app: Flask,
        api_keys: ApiKeys,
        sessions: Sessions,
        *,
        cookie: SessionCookie | None = None,
        public: Mapping[str, str] | None = None,
        login: str = "/login",
        refuse: Refusal | None = None,
    ) -> None:
        """Stand before all endpoints of the app, present and future.

        Args:
            app: the app.
            api_keys: who holds which key.
            sessions: who is logged in.
            cookie: where a browser keeps its session.
            public: endpoints that anyone may call and that cannot carry a label, being other
                people's functions (`static`), each with the reason.
            login: the path of the login page.
            refuse: answers refused callers; None for problem documents and a way to log in.
        """
        self.cookie: Final = cookie or SessionCookie()
        self._api_keys = api_keys
        self._sessions = sessions
        self._public = dict(public or {})
        self._login = login
        self._refuse = refuse or self._refusal
        self._views = app.view_functions
        self._labels: dict[tuple[str, str], Label | None] = {}
        app.before_request(self._check)

    def check_labels(self, app: Flask) -> None:
        """Call when all views are registered, before the first request.

        Raises:
            UnlabelledEndpointError: names each endpoint and method that has no label.
        """
        unlabelled = {
            f"{rule.endpoint} ({method} {rule.rule})"
            for rule in app.url_map.iter_rules()
            for method in _methods(rule)
            if self._label(rule.endpoint, method) is None
        }
        if unlabelled:
            raise UnlabelledEndpointError(
                "these endpoints do not say who may call them; label each with "
                f"@requires(…) or @public(reason): {', '.join(sorted(unlabelled))}"
            )

    def visitor(self) -> Principal | None:
        """Whose browser this is, also where anyone may call: to draw a page, never to decide."""
        token = self.cookie.read()
        return None if token is None else self._sessions.find(token)

    def _check(self) -> ResponseReturnValue | None:
        # Every check of consent passes here: each use of Flask's proxies costs a microsecond.
        asked: Request = request._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001
        now: Any = g._get_current_object()  # noqa: SLF001
        now.principal = None
        rule = asked.url_rule
        if rule is None or (asked.method == "OPTIONS" and _answers_options(rule)):
            # Nothing is there, or only the list of methods, which the API's documentation holds.
            return None
        label = self._label(rule.endpoint, asked.method)
        if label is not None and label.is_public:
            return None
        surface = surface_of(rule)
        try:
            if label is None:
                raise UnlabelledEndpointError("nobody may call this address")
            principal = self._authenticate(surface, asked)
            if not label.permissions <= principal.permissions:
                raise PermissionDeniedError(
                    f"this needs {', '.join(sorted(label.permissions - principal.permissions))}"
                )
        except AccessError as error:
            return self._refuse(surface, error)
        now.principal = principal
        return None

    def _authenticate(self, surface: Surface, asked: Request) -> Principal:
        if surface is Surface.API:
            return self._api_keys.authenticate(asked.environ.get("HTTP_AUTHORIZATION"))
        principal = self.visitor()
        if principal is None:
            raise NotAuthenticatedError("log in first")
        return principal

    def _label(self, endpoint: str, method: str) -> Label | None:
        key = endpoint, method
        if key not in self._labels:
            reason = self._public.get(endpoint)
            self._labels[key] = (
                label_of(self._views[endpoint], method)
                if reason is None
                else Label(frozenset(), public_reason=reason)
            )
        return self._labels[key]

    def _refusal(self, surface: Surface, error: AccessError) -> ResponseReturnValue:
        unknown = isinstance(error, NotAuthenticatedError)
        if surface is Surface.API:
            status = HTTPStatus.UNAUTHORIZED if unknown else HTTPStatus.FORBIDDEN
            # RFC 6750, section 3: a 401 says how to authenticate, a 403 that a scope is missing.
            challenge = _REALM if unknown else f'{_REALM}, error="insufficient_scope"'
            return Problem(
                status, error.code, str(error), headers={"WWW-Authenticate": challenge}
            ).response()
        if not unknown:
            raise Forbidden(str(error)) from error
        if request.method in ("GET", "HEAD"):
            # A path of our own, never an address: login must not send people to other sites.
            here = request.full_path.rstrip("?")
            return redirect(f"{self._login}?{urlencode({'next': here})}")
        raise Unauthorized(str(error)) from error


def surface_of(rule: Rule) -> Surface:
    """Who an address is for."""
    return Surface.API if rule.rule.startswith(API_PATH) else Surface.CONSOLE


def _methods(rule: Rule) -> set[str]:
    return set(rule.methods or ()) - ({"OPTIONS"} if _answers_options(rule) else set())


def _answers_options(rule: Rule) -> bool:
    # Flask puts it on the rule, and its view is then not called.
    return bool(getattr(rule, "provide_automatic_options", False))
