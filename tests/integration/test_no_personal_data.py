"""After a journey through every call and page, a person's identifiers are nowhere in clear.

Searched: what the server wrote, every URL and header that was seen, every file of the
installation, every row of the database.
"""

import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text

from admin_ui import demo_notices
from admin_ui.imports import Imports
from admin_ui.services import Services, build, migrate
from admin_ui.settings import Settings
from consent.importer.plan import Kind
from governance.audit.trail import SYSTEM
from policies.permissions import API_SCOPES
from tools.servers import service

CANARIES = ("canarygoldwing", "4915199887766", "C-canary-778899", "192.0.2.77", "canarywords")
SUBJECTS: tuple[dict[str, Any], ...] = (
    {"email": "CanaryGoldwing@example.com"},
    {"phone": "+49 151 99887766"},
    {"external_id": {"system": "shop", "id": "C-canary-778899"}},
)
LINK = re.compile(r'(?:href|action|src|hx-get|hx-post)="([^"]+)"')
FORM_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


@dataclass
class Visitor:
    """A browser without a screen: cookies, forms, and a note of every URL and header."""

    base: str
    seen: list[str] = field(default_factory=list)
    opener: urllib.request.OpenerDirector = field(init=False)

    def __post_init__(self) -> None:
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)

    def get(self, path: str) -> str:
        """A page, whatever its status."""
        return self._open(path)

    def submit(self, page: str, path: str, **values: str) -> str:
        """Post a form of a page."""
        token = FORM_TOKEN.search(page)
        assert token is not None, "the page has no form"
        data = urllib.parse.urlencode({"csrf_token": token.group(1), **values}).encode()
        return self._open(path, data)

    def call(self, path: str, key: str, body: Any = None) -> Any:
        """A call of the API."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        answer = self._open(path, None if body is None else json.dumps(body).encode(), headers)
        return json.loads(answer) if answer.startswith(("{", "[")) else answer

    def _open(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> str:
        request = urllib.request.Request(self.base + path, data, headers or {})  # noqa: S310 - ours
        try:
            answer = self.opener.open(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.seen += [answer.geturl(), str(answer.headers)]
            return str(answer.read().decode("utf-8", "replace"))


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[Services]:
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    migrate(settings)
    services = build(settings, fast_passwords=True)
    demo_notices.publish(services)
    yield services
    services.close()


def test_identifiers_are_nowhere_in_clear_after_a_journey_through_everything(
    services: Services, database_url: str, tmp_path: Path
) -> None:
    key = services.api_keys.create(name="test", scopes=API_SCOPES, actor=SYSTEM).key
    bring_in(services, tmp_path)
    with service(
        database_url, tmp_path, workers=1, threads=4, role="all", log_level="DEBUG"
    ) as server:
        visitor = Visitor(f"http://127.0.0.1:{server.port}")
        provoke_the_api(visitor, key)
        link = re.search(rb"http\S+(/setup/\S+)", server.log.read_bytes())
        assert link is not None
        walk_the_console(visitor, link.group(1).decode())
        written = server.log.read_bytes()
        assert_absent(written, "what the server wrote")
        assert_absent("\n".join(visitor.seen).encode(), "URLs and headers")
        assert_absent(rows_of(database_url), "the database's rows")
    services.close()
    for file in sorted(tmp_path.rglob("*")):
        if file.is_file() and file.suffix != ".csv":
            assert_absent(file.read_bytes(), f"the file {file.name}")


def bring_in(services: Services, folder: Path) -> None:
    """Import a row that holds the e-mail address and telling words."""
    export = folder / "export.csv"
    export.write_text(
        "Record ID,Email,Unsubscribed from all email,Notes\n"
        "4711,canarygoldwing@example.com,true,canarywords wants no more e-mails\n"
        "4712,canarygoldwing at example.com,maybe,canarywords\n",
        encoding="utf-8",
    )
    report = folder / "report.txt"
    Imports(services).import_file(
        export,
        Kind.HUBSPOT,
        None,
        encoding=None,
        dry_run=False,
        report=report,
        progress=lambda *_: None,
        actor=SYSTEM,
    )


def provoke_the_api(visitor: Visitor, key: str) -> None:
    """Every call with every kind of identifier, good and bad."""
    for subject in SUBJECTS:
        asked = {"subject": subject, "purpose": "marketing_information", "channel": "email"}
        choice = {
            "purpose": "marketing_information",
            "channel": "email",
            "state": "granted",
            "method": "web_form",
            "notice": {"id": "privacy", "version": "3", "language": "en"},
            "evidence": {"ip": "192.0.2.77", "words": "canarywords"},
        }
        recorded = visitor.call(
            "/v1/consent/choices", key, {"subject": subject, "choices": [choice]}
        )
        event = recorded["events"][0]["id"]
        visitor.call("/v1/consent/check", key, asked)
        visitor.call("/v1/consent/check", key, asked | {"as_of": "2020-01-01T00:00:00Z"})
        visitor.call("/v1/consent/check", "tutela_wrong", asked)
        batch = {"subjects": [subject], "purpose": "newsletter", "channel": "email"}
        visitor.call("/v1/consent/check/batch", key, batch)
        visitor.call("/v1/consent/subjects/lookup", key, {"subject": subject})
        for form in ("ts27560", "kantara", "tlog-proof"):
            visitor.call(f"/v1/consent/events/{event}/receipt?format={form}", key)
        visitor.call("/v1/consent/check", key, asked | {"purpose": 7, "extra": "canarywords"})
        visitor.call("/v1/consent/choices", key, {"subject": subject, "choices": "canarywords"})
    visitor.call("/v1/consent/check", key, {"subject": {"email": "canarygoldwing at x"}})
    visitor.call("/v1/consent/changes?limit=5", key)
    for path in ("/log/checkpoint", "/log/tile/entries/000.p/3", "/openapi.json", "/docs"):
        visitor.get(path)


def walk_the_console(visitor: Visitor, setup: str) -> None:
    """Set up, log in, search for the person in every way, and follow every link."""
    page = visitor.get(setup)
    account = {"login": "officer", "display_name": "Officer", "time_zone": "UTC"}
    words = "correct horse battery staple"
    visitor.submit(page, setup, **account, password=words, repeated=words)
    page = visitor.get("/admin/consent")
    assert "Officer" in page
    for wanted in ("canarygoldwing@example.com", "+4915199887766", "shop:C-canary-778899"):
        found = visitor.submit(page, "/admin/consent/people", who=wanted)
        assert "What was said" in found
    todo, done = ["/admin"], set[str]()
    while todo and len(done) < 120:
        path = todo.pop()
        if path in done or not path.startswith("/") or "logout" in path:
            continue
        done.add(path)
        todo += [link.replace("&amp;", "&") for link in LINK.findall(visitor.get(path))]
    assert any("/people/" in path for path in done)


def rows_of(url: str) -> bytes:
    """Everything that the database answers, bytes as they are."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    parts: list[bytes] = []
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                parts += [
                    value if isinstance(value, bytes) else str(value).encode() for value in row
                ]
    engine.dispose()
    return b"\n".join(parts)


def assert_absent(data: bytes, where: str) -> None:
    """None of the canaries is there, in whatever case."""
    found = [canary for canary in CANARIES if canary.lower().encode() in data.lower()]
    assert not found, f"{found} in {where}"
