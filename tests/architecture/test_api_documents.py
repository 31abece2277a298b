"""Every setting and every call is documented, and nothing else is."""

import re
from collections.abc import Iterator
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from admin_ui.app import create_app
from admin_ui.services import build, migrate
from admin_ui.settings import PREFIX, Settings
from tests.architecture.sources import ROOT

METHODS = {"get", "put", "post", "delete", "patch"}
Call = tuple[str, str]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    settings = Settings(data_dir=tmp_path / "var")
    migrate(settings)
    services = build(settings, fast_passwords=True)
    yield create_app(services)
    services.close()


@pytest.fixture
def described(app: Flask) -> dict[Call, dict[str, Any]]:
    """The operations of /openapi.json."""
    document = app.test_client().get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_every_setting_is_documented() -> None:
    document = (ROOT / "docs" / "settings.md").read_text()
    documented = {
        name
        for name in re.findall(rf"`({PREFIX}[A-Z_]+)`", document)
        if not name.endswith("_FILE") and not name.startswith(f"{PREFIX}TEST_")
    }
    assert documented == {PREFIX + one.name.upper() for one in fields(Settings)}


def test_every_call_is_described(app: Flask, described: dict[Call, dict[str, Any]]) -> None:
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/v1/", "/log/"))
        for method in (rule.methods or set()) & {name.upper() for name in METHODS}
    }
    assert served == described.keys()


def test_every_description_is_complete(described: dict[Call, dict[str, Any]]) -> None:
    for call, operation in described.items():
        assert operation["summary"], call
        assert operation["description"], call
        assert "security" in operation, call
        for status, answer in operation["responses"].items():
            assert answer["description"], (call, status)
            if int(status) >= HTTPStatus.BAD_REQUEST:
                assert list(answer["content"]) == ["application/problem+json"], (call, status)


def test_documents_for_people_show_every_call(
    app: Flask, described: dict[Call, dict[str, Any]]
) -> None:
    page = app.test_client().get("/docs").get_data(as_text=True)
    assert [path for _, path in described if path not in page] == []
