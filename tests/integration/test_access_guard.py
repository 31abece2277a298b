from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest
from flask import Flask, Response, g
from flask.testing import FlaskClient
from flask.views import MethodView

from governance.access.errors import AccessError, UnlabelledEndpointError
from governance.access.guard import Guard, SessionCookie, Surface
from governance.audit.trail import CLI
from governance.database import Database
from policies.permissions import Permission, Role, public, requires
from tests.fakes.access import AccessKit
from tests.fakes.clock import FrozenClock

CHECK, WRITE = Permission.CONSENT_CHECK, Permission.CONSENT_WRITE


@dataclass
class Site:
    """An app with two surfaces behind a guard."""

    app: Flask
    kit: AccessKit
    client: FlaskClient
    guard: Guard

    def key(self, *scopes: Permission) -> dict[str, str]:
        issued = self.kit.api_keys.create(name="shop", scopes=scopes or (CHECK,), actor=CLI)
        return {"Authorization": f"Bearer {issued.key}"}

    def log_in(self, *roles: Role) -> None:
        account = self.kit.account(f"staff-{len(self.kit.actions())}", *roles)
        self.client.set_cookie("tutela_session", self.kit.sessions.open(account.id).token)


def doubled(view: Callable[[], str]) -> Callable[[], str]:
    @wraps(view)
    def twice() -> str:
        return view() * 2

    return twice


class Things(MethodView):
    @requires(Permission.CONSENT_READ)
    def get(self) -> str:
        return "read"

    @requires(Permission.CONSENT_READ, WRITE)
    def post(self) -> str:
        return "written"


def make_app() -> Flask:
    app = Flask(__name__, static_folder=None)

    @app.post("/v1/check")
    @requires(CHECK)
    def check() -> str:
        return str(g.principal.kind)

    @app.get("/v1/wrapped")
    @doubled
    @requires(CHECK)
    def wrapped() -> str:
        return "ab"

    @app.get("/people")
    @requires(Permission.PEOPLE_READ)
    def people() -> str:
        return str(g.principal.kind)

    @app.post("/import")
    @requires(Permission.IMPORT_RUN)
    def run_import() -> str:
        return "done"

    @app.get("/log/checkpoint")
    @public("an auditor needs no account")
    def checkpoint() -> str:
        return str(g.principal)

    app.add_url_rule("/v1/things", view_func=Things.as_view("api_things"))
    app.add_url_rule("/things", view_func=Things.as_view("things"))
    return app


@pytest.fixture
def kit(database_url: str, clock: FrozenClock) -> Iterator[AccessKit]:
    database = Database.open(database_url)
    kit = AccessKit(database, clock)
    kit.make_tables()
    yield kit
    database.dispose()


@pytest.fixture
def site(kit: AccessKit) -> Site:
    app = make_app()
    guard = Guard(app, kit.api_keys, kit.sessions)
    guard.check_labels(app)
    return Site(app, kit, app.test_client(), guard)


# --- the API -----------------------------------------------------------------------------------


def test_key_with_the_scope_passes(site: Site) -> None:
    answer = site.client.post("/v1/check", headers=site.key())
    assert (answer.status_code, answer.text) == (200, "api_key")


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic YTpi"}]
)
def test_api_without_a_key_answers_401_and_how_to_authenticate(
    site: Site, headers: dict[str, str]
) -> None:
    answer = site.client.post("/v1/check", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tutela"'
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["reason"] == "NOT_AUTHENTICATED"


def test_key_without_the_scope_answers_403_and_names_it(site: Site) -> None:
    answer = site.client.post("/v1/check", headers=site.key(WRITE))
    assert answer.status_code == 403
    assert "insufficient_scope" in answer.headers["WWW-Authenticate"]
    problem = answer.get_json()
    assert (problem["reason"], problem["status"]) == ("PERMISSION_DENIED", 403)
    assert problem["detail"] == "this needs consent.check"


def test_label_needs_all_its_permissions(site: Site) -> None:
    read = site.key(Permission.CONSENT_READ)
    assert site.client.get("/v1/things", headers=read).text == "read"
    assert site.client.head("/v1/things", headers=read).status_code == 200
    assert site.client.post("/v1/things", headers=read).status_code == 403
    both = site.key(Permission.CONSENT_READ, WRITE)
    assert site.client.post("/v1/things", headers=both).text == "written"


def test_label_survives_a_well_made_decorator(site: Site) -> None:
    assert site.client.get("/v1/wrapped").status_code == 401
    assert site.client.get("/v1/wrapped", headers=site.key()).text == "abab"


def test_session_does_not_open_the_api(site: Site) -> None:
    site.log_in(*Role)
    assert site.client.post("/v1/check").status_code == 401


def test_revoked_key_is_refused(site: Site) -> None:
    headers = site.key()
    assert site.client.post("/v1/check", headers=headers).status_code == 200
    key_id = headers["Authorization"][len("Bearer tutela_") :][:8]
    site.kit.api_keys.revoke(key_id, actor=CLI)
    assert site.client.post("/v1/check", headers=headers).status_code == 401


# --- the console -------------------------------------------------------------------------------


def test_session_with_the_permission_passes(site: Site) -> None:
    site.log_in(Role.OFFICER)
    assert site.client.get("/people").text == "account"


def test_page_without_a_session_leads_to_login_and_back(site: Site) -> None:
    answer = site.client.get("/people?status=given")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=%2Fpeople%3Fstatus%3Dgiven"
    assert site.client.get("/people").headers["Location"] == "/login?next=%2Fpeople"


def test_form_without_a_session_answers_401(site: Site) -> None:
    assert site.client.post("/import").status_code == 401


def test_session_without_the_permission_answers_403(site: Site) -> None:
    site.log_in(Role.ADMIN)
    assert site.client.get("/people").status_code == 403
    assert site.client.post("/import").status_code == 403


def test_key_does_not_open_the_console(site: Site) -> None:
    assert site.client.get("/things", headers=site.key(Permission.CONSENT_READ)).status_code == 302


def test_session_that_is_over_does_not_pass(site: Site, clock: FrozenClock) -> None:
    site.log_in(Role.OFFICER)
    clock.advance(timedelta(minutes=30))
    assert site.client.get("/people").status_code == 302


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site) -> None:
    alice = site.kit.account("alice")

    @site.app.post("/login")
    @public("whoever logs in is not logged in")
    def login() -> Response:
        response = Response("in")
        site.guard.cookie.put(response, site.kit.sessions.open(alice.id))
        return response

    @site.app.post("/logout")
    @public("whoever logs out may be logged out already")
    def logout() -> Response:
        response = Response("out")
        site.guard.cookie.clear(response)
        return response

    https: Any = {"base_url": "https://localhost"}
    set_cookie = site.client.post("/login", **https).headers["Set-Cookie"]
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in set_cookie
    assert "Expires" not in set_cookie
    assert site.client.get("/people", **https).status_code == 200
    site.client.post("/logout", **https)
    assert site.client.get("/people", **https).status_code == 302


# --- labels ------------------------------------------------------------------------------------


def test_public_endpoint_has_no_principal_whatever_comes_along(site: Site) -> None:
    site.log_in(Role.OFFICER)
    assert site.client.get("/log/checkpoint", headers=site.key()).text == "None"


def test_public_page_can_show_who_is_logged_in(site: Site) -> None:
    @site.app.get("/docs")
    @public("documentation")
    def docs() -> str:
        visitor = site.guard.visitor()
        return visitor.role if visitor else "nobody"

    assert site.client.get("/docs").text == "nobody"
    site.log_in(Role.AGENT)
    assert site.client.get("/docs").text == "agent"


def test_address_that_does_not_exist_is_not_found(site: Site) -> None:
    assert site.client.get("/v1/nothing").status_code == 404
    assert site.client.get("/v1/check").status_code == 405


def test_options_tells_methods_and_nothing_else(site: Site) -> None:
    answer = site.client.options("/v1/check")
    assert (answer.status_code, answer.text) == (200, "")
    assert "POST" in answer.headers["Allow"]


def test_start_is_refused_with_the_name_of_every_unlabelled_endpoint(kit: AccessKit) -> None:
    app = Flask(__name__)

    class Half(MethodView):
        @requires(CHECK)
        def get(self) -> str:
            return ""

        def post(self) -> str:
            return ""

    app.add_url_rule("/v1/half", view_func=Half.as_view("half"))
    app.add_url_rule("/forgotten", "forgotten", lambda: "")
    guard = Guard(app, kit.api_keys, kit.sessions)
    with pytest.raises(UnlabelledEndpointError) as caught:
        guard.check_labels(app)
    message = str(caught.value)
    for name in (
        "forgotten (GET /forgotten)",
        "half (POST /v1/half)",
        "static (GET /static/<path:filename>)",
    ):
        assert name in message
    assert "half (GET" not in message


def test_unlabelled_endpoint_is_refused_even_to_those_who_may_all(kit: AccessKit) -> None:
    app = make_app()
    site = Site(app, kit, app.test_client(), Guard(app, kit.api_keys, kit.sessions))
    app.add_url_rule("/v1/late", "late", lambda: "")
    app.add_url_rule("/late", "late_page", lambda: "")
    site.log_in(*Role)
    assert site.client.get("/late").status_code == 403
    answer = site.client.get("/v1/late", headers=site.key(CHECK, WRITE))
    assert (answer.status_code, answer.get_json()["reason"]) == (403, "ENDPOINT_UNLABELLED")


def test_other_peoples_endpoints_are_declared_public_with_a_reason(kit: AccessKit) -> None:
    app = Flask(__name__)
    app.add_url_rule("/theirs", "theirs", lambda: "hello")
    reasons = {"static": "the same for everyone", "theirs": "it greets"}
    guard = Guard(app, kit.api_keys, kit.sessions, public=reasons)
    guard.check_labels(app)
    assert app.test_client().get("/theirs").text == "hello"


def test_app_may_answer_refusals_itself(kit: AccessKit) -> None:
    app = make_app()
    seen: list[tuple[Surface, str]] = []

    def refuse(surface: Surface, error: AccessError) -> Response:
        seen.append((surface, error.code))
        return Response("no", 418)

    cookie = SessionCookie(name="__Host-tutela")
    Guard(app, kit.api_keys, kit.sessions, refuse=refuse, cookie=cookie)
    client = app.test_client()
    assert client.post("/v1/check").status_code == 418
    assert client.get("/people").status_code == 418
    assert seen == [
        (Surface.API, "NOT_AUTHENTICATED"),
        (Surface.CONSOLE, "NOT_AUTHENTICATED"),
    ]
