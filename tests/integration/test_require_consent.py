"""Views that nobody reaches without consent: the example shops for real, and every kind of no."""

import asyncio
import http.cookiejar
import json
import logging
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from flask import Flask, abort, g

from admin_ui import demo_notices
from admin_ui.services import build, migrate
from admin_ui.settings import Settings
from consent.client import django as for_django
from consent.client import fastapi as for_fastapi
from consent.client import flask as for_flask
from consent.client.decisions import Decision, denied
from consent.client.errors import LocalReason, NotAnsweredError
from consent.client.gate import Gate, status_of
from consent.client.http import Client
from consent.client.mirror import Mirror
from consent.client.subjects import Subject, email
from governance.audit.trail import SYSTEM
from policies.permissions import Permission
from tests.fakes.services import MARKETING, Api, person, said
from tests.fakes.serving import serve
from tools.servers import ROOT, Running, free_port, running, service

KEY = "tutela_abcdefgh_secretsecretsecret"
ADA = email("ada@example.com")
YES = Decision(True, "given", "GRANTED", "e", datetime(2026, 3, 1, tzinfo=UTC), None, None, None)
NO = Decision(
    False, "withdrawn", "WITHDRAWN", "e", datetime(2026, 3, 1, tzinfo=UTC), None, None, None
)
OFFERS = (MARKETING, "email")

if not django_settings.configured:
    django_settings.configure()


# --- the shops ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_loop_of_a_browser() -> Iterator[None]:
    """Once a browser was used, Playwright has a loop in this thread; these tests have their own."""
    theirs = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(theirs)


def command(shop: str, port: int) -> list[str]:
    """As examples/README.md starts it, on another port."""
    text = (ROOT / "examples" / "README.md").read_text()
    (line,) = [one for one in text.splitlines() if f"{shop}_shop" in one and ".venv" in one]
    program, *arguments = re.sub(r"\b500\d\b", str(port), line).split()
    beside = Path(sys.executable).with_name(Path(program).name)
    return [str(beside), *arguments]


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> Iterator[tuple[Running, str]]:
    """A service of ours, and the key of a shop."""
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    migrate(settings)
    services = build(settings)
    demo_notices.publish(services)
    scopes = [Permission.CONSENT_CHECK, Permission.CONSENT_WRITE]
    key = services.api_keys.create(name="shop", scopes=scopes, actor=SYSTEM).key
    services.close()
    with service(database_url, tmp_path, workers=1, threads=4) as server:
        yield server, key


class Visitor:
    """A browser: keeps cookies, follows redirects, sends forms with what is hidden in them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str, Any]:
        """Status, text and headers."""
        body = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            with self.opener.open(self.url + path, body, timeout=30) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers

    def press(self, path: str) -> tuple[int, str, Any]:
        """Send the form of the page that goes there."""
        page = self.ask("/")[1]
        (form,) = re.findall(rf'<form method="post" action="{path}">(.*?)</form>', page, re.DOTALL)
        return self.ask(path, dict(re.findall(r'name="([^"]+)" value="([^"]+)"', form)))


@pytest.mark.parametrize("shop", ["flask", "django", "fastapi"])
def test_a_shop_sends_to_those_who_allow_it(shop: str, installation: tuple[Running, str]) -> None:
    server, key = installation
    port = free_port()
    told = {"TUTELA_URL": f"http://127.0.0.1:{server.port}", "TUTELA_KEY": key}

    def refused(visitor: Visitor, status: int, reason: str) -> None:
        got, text, headers = visitor.press("/offers")
        assert (got, headers["Cache-Control"]) == (status, "no-store"), text
        body = json.loads(text)
        body = body.get("detail") if shop == "fastapi" else body
        assert (body["status"], body["reason"]) == (status, reason)
        assert shop == "fastapi" or headers["Content-Type"] == "application/problem+json"
        assert "example.com" not in text

    with running(command(shop, port), told, port, "/") as started:
        visitor, other = Visitor(f"http://127.0.0.1:{port}"), Visitor(f"http://127.0.0.1:{port}")
        assert visitor.press("/login/1")[0] == 200
        assert other.press("/login/2")[0] == 200
        refused(visitor, 403, "SUBJECT_UNKNOWN")
        assert visitor.press("/allow")[0] == 200
        status, text, _ = visitor.press("/offers")
        assert (status, "Sent: GRANTED" in text) == (200, True), text
        refused(other, 403, "SUBJECT_UNKNOWN")
        assert visitor.press("/stop")[0] == 200
        refused(visitor, 403, "WITHDRAWN")
        assert visitor.press("/allow")[0] == 200
        assert visitor.press("/offers")[0] == 200
        server.kill()
        refused(visitor, 503, "SERVICE_UNREACHABLE")
        status, text, _ = visitor.press("/stop")
        assert (status, "could not note" in text) == (503, True), text
        assert "example.com" not in started.log.read_text()


# --- every kind of no --------------------------------------------------------------------------


class Says:
    """Answers every check with the same: a decision, or an error that it raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Subject, str, str]] = []

    def check(self, subject: Subject, purpose: str, channel: str) -> Any:
        """The same."""
        self.asked.append((subject, purpose, channel))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def visit_flask(using: Any, whom: Any, *, asynchronous: bool) -> tuple[int, str | None, bool]:
    app = Flask("shop")
    reached: list[Decision] = []
    guard = for_flask.require_consent(*OFFERS, subject=lambda: whom, using=using)
    if asynchronous:

        @app.get("/")
        @guard
        async def later() -> str:
            reached.append(g.consent)
            return "{}"

    else:

        @app.get("/")
        @guard
        def now() -> str:
            reached.append(g.consent)
            return "{}"

    answer = app.test_client().get("/")
    assert [one.reason for one in reached] in ([], ["GRANTED"])
    return answer.status_code, json.loads(answer.text).get("reason"), bool(reached)


def visit_django(using: Any, whom: Any, *, asynchronous: bool) -> tuple[int, str | None, bool]:
    reached: list[Decision] = []
    guard = for_django.require_consent(*OFFERS, subject=lambda _: whom, using=using)
    request = RequestFactory().get("/")
    if asynchronous:

        @guard
        async def later(request: HttpRequest) -> HttpResponse:
            reached.append(request.consent)
            return HttpResponse("{}")

        answer = asyncio.run(later(request))
    else:

        @guard
        def now(request: HttpRequest) -> HttpResponse:
            reached.append(request.consent)
            return HttpResponse("{}")

        answer = now(request)
    assert [one.reason for one in reached] in ([], ["GRANTED"])
    return answer.status_code, json.loads(answer.content).get("reason"), bool(reached)


def visit_fastapi(using: Any, whom: Any, *, asynchronous: bool) -> tuple[int, str | None, bool]:
    assert asynchronous
    guard: Any = for_fastapi.require_consent(*OFFERS, subject=lambda: whom, using=using)
    try:
        assert asyncio.run(guard(whom)).reason == "GRANTED"
    except for_fastapi.ConsentDeniedError as error:
        said: Any = error.detail
        return error.status_code, said["reason"], False
    return 200, None, True


KINDS = pytest.mark.parametrize(
    ("visit", "asynchronous"),
    [
        (visit_flask, False),
        (visit_flask, True),
        (visit_django, False),
        (visit_django, True),
        (visit_fastapi, True),
    ],
)
Visit = Callable[..., tuple[int, str | None, bool]]


@KINDS
def test_only_a_yes_reaches_the_view(visit: Visit, asynchronous: bool) -> None:
    says = Says(YES)
    assert visit(says, ADA, asynchronous=asynchronous) == (200, None, True)
    assert says.asked == [(ADA, *OFFERS)]
    assert visit(lambda: says, ADA, asynchronous=asynchronous)[2], "given when it is needed"
    assert visit(Says(NO), ADA, asynchronous=asynchronous) == (403, "WITHDRAWN", False)


@KINDS
@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (NotAnsweredError("no answer"), 503, "SERVICE_UNREACHABLE"),
        (RuntimeError("ada@example.com"), 503, "SERVICE_FAILED"),
        (None, 503, "ANSWER_UNREADABLE"),
        (True, 503, "ANSWER_UNREADABLE"),
    ],
)
def test_a_check_that_fails_is_a_no(
    visit: Visit,
    asynchronous: bool,
    answer: Any,
    status: int,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "tutela")
    assert visit(Says(answer), ADA, asynchronous=asynchronous) == (status, reason, False)
    assert reason in caplog.text
    assert "example.com" not in caplog.text


@KINDS
@pytest.mark.parametrize(
    ("whom", "reason"),
    [
        (None, "NOBODY"),
        ("ada@example.com", "SUBJECT_INVALID"),
        (email(None), "SUBJECT_INVALID"),  # type: ignore[arg-type] # a program without types
    ],
)
def test_without_a_person_nobody_is_asked(
    visit: Visit, asynchronous: bool, whom: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    says = Says(YES)
    assert visit(says, whom, asynchronous=asynchronous) == (403, reason, False)
    assert says.asked == []
    assert "example.com" not in caplog.text


@KINDS
def test_what_cannot_be_configured_is_a_no(visit: Visit, asynchronous: bool) -> None:
    def using() -> Client:
        raise KeyError("TUTELA_URL")

    assert visit(using, ADA, asynchronous=asynchronous) == (503, "SERVICE_FAILED", False)


def test_503_is_for_what_could_not_be_answered() -> None:
    answered = {"QUESTION_REFUSED", "SUBJECT_INVALID", "NOBODY"}
    for reason in LocalReason:
        assert status_of(denied(reason, "")) == (403 if reason in answered else 503), reason


def test_a_mirror_that_has_read_nothing_lets_nobody_in() -> None:
    with Client("http://127.0.0.1:1", KEY) as client:
        mirror = Mirror(client, [OFFERS])
        for visit in (visit_flask, visit_django, visit_fastapi):
            told = visit(mirror, ADA, asynchronous=True)
            assert told == (503, "MIRROR_NOT_READY", False)


@KINDS
def test_a_mirror_guards_as_the_service_decides(
    visit: Visit, asynchronous: bool, shared_api: Api
) -> None:
    someone = person()
    whom = email(someone["email"])
    shared_api.record(someone, said("granted"))
    key = shared_api.key([Permission.CONSENT_MIRROR])["Authorization"][7:]
    with (
        serve(shared_api.app) as url,
        Client(url, key) as client,
        Mirror(client, [OFFERS], max_staleness=6) as mirror,
    ):
        assert mirror.wait_until_ready(20), mirror.status
        assert visit(mirror, whom, asynchronous=asynchronous) == (200, None, True)
        shared_api.record(someone, said("withdrawn", notice=None))
        ends = time.monotonic() + 20
        while mirror.check(whom, *OFFERS) and time.monotonic() < ends:
            time.sleep(0.01)
        assert visit(mirror, whom, asynchronous=asynchronous) == (403, "WITHDRAWN", False)
    assert visit(mirror, whom, asynchronous=asynchronous) == (503, "MIRROR_NOT_READY", False)


# --- the event loop ----------------------------------------------------------------------------


class Held:
    """A client whose answer comes when something else on the event loop has had its turn."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def check(self, *_: Any) -> Decision:
        """Yes, if the loop went on."""
        return YES if self.go.wait(5) else NO


async def guarded_by(framework: str, using: Any) -> Any:
    """What somebody is told in an asynchronous view."""
    if framework == "fastapi":
        guard: Any = for_fastapi.require_consent(*OFFERS, subject=lambda: ADA, using=using)
        return await guard(ADA)

    @for_django.require_consent(*OFFERS, subject=lambda _: ADA, using=using)
    async def view(request: HttpRequest) -> Any:
        return request.consent

    return await view(RequestFactory().get("/"))


@pytest.mark.parametrize("framework", ["django", "fastapi"])
def test_the_event_loop_goes_on_while_a_client_asks(framework: str) -> None:
    held = Held()

    async def both() -> Any:
        asking = asyncio.create_task(guarded_by(framework, held))
        await asyncio.sleep(0.05)
        held.go.set()
        return await asking

    assert asyncio.run(both()) == YES


@pytest.mark.parametrize("framework", ["django", "fastapi"])
def test_a_mirror_is_asked_without_a_thread(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def check(*_: Any) -> Decision:
        seen.append(threading.get_ident())
        return YES

    monkeypatch.setattr(Mirror, "check", check)
    with Client("http://127.0.0.1:1", KEY) as client:
        assert asyncio.run(guarded_by(framework, Mirror(client, [OFFERS]))) == YES
        assert Gate(*OFFERS, client).waits
    assert seen == [threading.get_ident()]


# --- what the framework does with it -----------------------------------------------------------


def test_flask_answers_with_a_page_of_the_program() -> None:
    app = Flask("shop")

    @app.errorhandler(for_flask.ConsentDeniedError)
    def page(error: for_flask.ConsentDeniedError) -> tuple[str, int]:
        assert error.code is not None
        return f"own page: {error.decision.reason}", error.code

    @app.get("/")
    @for_flask.require_consent(*OFFERS, subject=lambda: ADA, using=Says(NO))
    def view() -> str:
        return "reached"

    @app.get("/login")
    @for_flask.require_consent(*OFFERS, subject=lambda: abort(401), using=Says(YES))
    def other() -> str:
        return "reached"

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (403, "own page: WITHDRAWN")
    assert app.test_client().get("/login").status_code == 401, "whom it is about comes first"


def test_django_answers_with_a_page_of_the_program() -> None:
    def page(_: HttpRequest, decision: Decision) -> HttpResponse:
        return HttpResponse(f"own page: {decision.reason}", status=451)

    guard = for_django.require_consent(*OFFERS, subject=lambda _: ADA, using=Says(NO), denied=page)
    answer = guard(lambda _: HttpResponse("reached"))(RequestFactory().get("/"))
    assert (answer.status_code, answer.content) == (451, b"own page: WITHDRAWN")


def test_django_guards_a_class_of_views() -> None:
    says = Says(YES)
    guard = for_django.require_consent(*OFFERS, subject=lambda _: ADA, using=says)

    @method_decorator(guard, name="dispatch")
    class Offers(View):  # type: ignore[misc] # Django has no types
        def post(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(request.consent.reason)

    assert Offers.as_view()(RequestFactory().post("/")).content == b"GRANTED"
    says.answer = NO
    assert Offers.as_view()(RequestFactory().post("/")).status_code == 403


def test_a_subject_that_must_be_waited_for_needs_a_view_that_waits() -> None:
    async def subject(_: HttpRequest) -> Subject:
        return ADA

    guard = for_django.require_consent(*OFFERS, subject=subject, using=Says(YES))
    with pytest.raises(TypeError, match="not asynchronous"):
        guard(lambda _: HttpResponse())

    @guard
    async def view(request: HttpRequest) -> Any:
        return request.consent

    assert asyncio.run(view(RequestFactory().get("/"))) == YES
