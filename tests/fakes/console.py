"""The console over a real database, and visitors who open its pages without a browser."""

import html
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from admin_ui.app import create_app
from admin_ui.services import Services, build
from admin_ui.settings import Settings
from consent.choices import NoticeRef, Record, choice
from consent.subjects import SubjectRef, email, phone
from governance.access.accounts import Account
from governance.audit.trail import CLI
from policies.permissions import Role
from policies.vocabulary import ChoiceState
from tests.fakes.clock import FrozenClock
from tests.fakes.notices import publish_privacy

PASSWORD = "plum-orbit-candle-9"
NOTICE = NoticeRef("privacy", "3", "en")
ALICE = "alice@example.com"
ALICE_PHONE = "+4930901820"
BOB = "bob@example.com"
ADDRESS = "203.0.113.77"

_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_ONCE = re.compile(r'name="once" value="([^"]+)"')


@dataclass
class Visitor:
    """Somebody who opens pages and sends forms, with the cookies of one browser."""

    client: FlaskClient
    last: str = ""
    """The text of the page that was opened last."""

    def get(self, path: str, status: int = 200) -> str:
        """Open a page; it must answer so."""
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:2000])
        self.last = answer.text
        return answer.text

    def send(self, path: str, status: int = 303, **fields: Any) -> TestResponse:
        """Send a form with the token of the page that was opened last."""
        token = _TOKEN.search(self.last)
        assert token is not None, "the page has no form"
        data = {"csrf_token": html.unescape(token[1]), **fields}
        once = _ONCE.search(self.last)
        if once is not None:
            data.setdefault("once", once[1])
        answer = self.client.post(path, data=data)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:3000])
        if status != 303 and answer.mimetype == "text/html":
            self.last = answer.text
        return answer

    def log_in(self, login: str, password: str = PASSWORD) -> "Visitor":
        """Log in."""
        self.get("/login")
        self.send("/login", login=login, password=password)
        return self


@dataclass
class Console:
    """A running service, with staff and a few people."""

    services: Services
    app: Flask
    clock: FrozenClock
    people: dict[str, SubjectRef] = field(default_factory=dict)

    def account(self, login: str, roles: Collection[Role]) -> Account:
        """A member of staff."""
        return self.services.accounts.create(
            login=login,
            display_name=login.title(),
            roles=roles,
            password=PASSWORD,
            actor=CLI,
        )

    def visitor(self) -> Visitor:
        """Somebody with a new browser."""
        return Visitor(self.app.test_client())

    def staff(self, *roles: Role) -> Visitor:
        """A member of staff with these roles, logged in."""
        login = "-".join(sorted(roles))
        with self.services.database.read() as reader:
            if self.services.accounts.find(reader, login) is None:
                self.account(login, roles)
        return self.visitor().log_in(login)

    def say(self, who: str, state: ChoiceState, **more: Any) -> str:
        """Record what a person said; returns the event's id."""
        stated: dict[str, Any] = {
            "purpose": "marketing_information",
            "channel": "email",
            "method": "web_form",
            "notice": NOTICE,
            **more,
        }
        event = choice(self.services.policies(), state=state, **stated)
        committed = self.services.writer.submit(Record(email(who), (event,), "system:test"))
        self.people[who] = committed.recorded.subject
        return committed.recorded.events[0].id

    def page_of(self, who: str) -> str:
        """The address of a person's page."""
        return f"/admin/consent/people/{self.people[who]}"


def seed(console: Console) -> None:
    """Alice said yes twice and took one back; Bob said no. All before the clock's time."""
    now = console.clock()
    console.say(
        ALICE,
        ChoiceState.GRANTED,
        occurred_at=now - timedelta(days=60),
        evidence={"page": "https://shop.example/news", "ip": ADDRESS, "form": "footer"},
    )
    console.say(
        ALICE,
        ChoiceState.GRANTED,
        purpose="product_updates",
        occurred_at=now - timedelta(days=40),
    )
    console.say(
        ALICE,
        ChoiceState.WITHDRAWN,
        purpose="product_updates",
        occurred_at=now - timedelta(days=10),
        method="preference_page",
    )
    console.say(BOB, ChoiceState.REFUSED, occurred_at=now - timedelta(days=5))
    with console.services.database.begin() as session:
        console.services.directory.link(session, console.people[ALICE], phone(ALICE_PHONE), now)


@contextmanager
def open_console(url: str, folder: Path, clock: FrozenClock, **settings: Any) -> Iterator[Console]:
    """The console of one process over a migrated database."""
    services = build(
        Settings(
            data_dir=folder,
            database_url=url,
            log_origin="example.com/log",
            organisation="Example Shop",
            time_zone="Europe/Berlin",
            **settings,
        ),
        clock,
        fast_passwords=True,
    )
    publish_privacy(services.database, services.policies())
    try:
        yield Console(services, create_app(services), clock)
    finally:
        services.close()


@contextmanager
def serving(console: Console) -> Iterator[str]:
    """The address at which a browser reaches the console."""
    server = make_server("127.0.0.1", 0, console.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def utc(text: str) -> datetime:
    """An instant written without its zone, which is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
