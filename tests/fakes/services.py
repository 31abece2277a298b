"""A whole service over a real database, and a small client of its API."""

import itertools
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from admin_ui.app import create_app
from admin_ui.services import Services, build
from admin_ui.settings import Settings
from consent.models import metadata as consent_metadata
from governance.audit.trail import CLI
from governance.database import metadata as governance_metadata
from policies.permissions import API_SCOPES, Permission
from tests.fakes.clock import FrozenClock
from tests.fakes.notices import publish_privacy

JSON = "application/json"
NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"
MARKETING = "marketing_information"
NOTICE = {"id": "privacy", "version": "3", "language": "en"}

_numbers = itertools.count(1)


@contextmanager
def open_services(url: str, folder: Path, clock: FrozenClock) -> Iterator[Services]:
    """The services of one process over a migrated database; a second one is a second process."""
    settings = Settings(data_dir=folder, database_url=url, log_origin="example.com/log")
    services = build(settings, clock, fast_passwords=True)
    publish_privacy(services.database, services.policies())
    try:
        yield services
    finally:
        services.close()


def person() -> dict[str, str]:
    """A subject whom no other test knows."""
    return {"email": f"person-{next(_numbers)}@example.com"}


def said(state: str, purpose: str = MARKETING, channel: str = "email", **more: Any) -> Any:
    """One choice as a body has it; what is None is left out."""
    stated = {"purpose": purpose, "channel": channel, "state": state, "notice": NOTICE, **more}
    return {name: value for name, value in stated.items() if value is not None}


@dataclass
class Api:
    """Calls the API of an app as a program with a key does."""

    services: Services
    app: Flask
    _keys: dict[frozenset[Permission], str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, services: Services) -> "Api":
        """The API of a new app. Its key is made at once, before a test counts rows or races."""
        api = cls(services, create_app(services))
        api.key()
        return api

    @property
    def clock(self) -> FrozenClock:
        """The clock of the service."""
        assert isinstance(self.services.clock, FrozenClock)
        return self.services.clock

    def key(self, scopes: Collection[Permission] = API_SCOPES) -> dict[str, str]:
        """The header of a key with exactly these scopes."""
        wanted = frozenset(scopes)
        if wanted not in self._keys:
            issued = self.services.api_keys.create(name="test", scopes=wanted, actor=CLI)
            self._keys[wanted] = issued.key
        return {"Authorization": f"Bearer {self._keys[wanted]}"}

    def client(self) -> FlaskClient:
        """A client without a key."""
        return self.app.test_client()

    def get(self, path: str, **options: Any) -> TestResponse:
        """GET with a key of all scopes, unless `headers` say otherwise."""
        return self.client().get(path, **{"headers": self.key(), "buffered": True, **options})

    def post(self, path: str, body: Any, **options: Any) -> TestResponse:
        """POST a body: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = self.key() | options.pop("headers", {})
        return self.client().post(
            path,
            data=data,
            headers=headers,
            **{"content_type": JSON, "buffered": True, **options},
        )

    def record(self, subject: Any, *choices: Any, **options: Any) -> Any:
        """Record choices; the answer's body."""
        answer = self.post(
            "/v1/consent/choices", {"subject": subject, "choices": list(choices)}, **options
        )
        assert answer.status_code == 201, answer.text
        return answer.json

    def check(self, subject: Any, **more: Any) -> Any:
        """May we e-mail this person our news? The decision."""
        body = {"subject": subject, "purpose": MARKETING, "channel": "email", **more}
        answer = self.post("/v1/consent/check", body)
        assert answer.status_code == 200, answer.text
        return answer.json

    def contents(self) -> dict[str, int]:
        """How many rows each table has: equal before and after what must change nothing."""
        tables = [
            table
            for metadata in (consent_metadata, governance_metadata)
            for table in metadata.sorted_tables
        ]
        with self.services.database.read() as reader:
            return {
                table.name: reader.execute(select(func.count()).select_from(table)).scalar_one()
                for table in tables
            }


def problem(answer: TestResponse, status: int, reason: str) -> Any:
    """The body of an answer that must be this problem, in the form that every problem has."""
    assert (answer.status_code, answer.mimetype) == (status, PROBLEM), answer.text[:500]
    body = answer.json
    assert isinstance(body, dict)
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "reason"}
    assert (body["status"], body["reason"]) == (status, reason), body
    return body
