"""docs/api.md is held to the running service: every call, scope, reason and example in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from consent.errors import ConsentError, LedgerRolledBackError
from policies.permissions import API_SCOPES
from tests.fakes import curl
from tests.fakes.services import Api

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "api.md"
HELD = "cells=marketing_information:email&by=email"


@pytest.fixture(scope="module")
def described(shared_api: Api) -> dict[str, Any]:
    """/openapi.json."""
    document = shared_api.client().get("/openapi.json").json
    assert isinstance(document, dict)
    return document


def test_every_example_does_what_it_says(shared_api: Api) -> None:
    variables = {"TUTELA": "http://127.0.0.1:8080", "KEY": shared_api.key()["Authorization"][7:]}
    called = []
    for command in curl.commands_in(DOCUMENT):
        recorded = shared_api.get("/v1/consent/changes").json or {}
        variables["CURSOR"] = recorded["cursor"]
        variables["EVENT"] = recorded["changes"][0]["id"] if recorded["changes"] else ""
        snapshot = shared_api.get(f"/v1/consent/snapshot?{HELD}").text.splitlines()[0]
        variables["EPOCH"] = json.loads(snapshot)["epoch"]
        variables["PLACE"] = json.loads(snapshot)["cursor"]
        if "lookup" in command or "entries" in command or "$EVENT" in command:
            assert recorded["changes"], "something must have been recorded by then"
        answer = curl.run(command, shared_api.client(), variables)
        assert answer.status_code in (200, 201), (command, answer.text)
        called.append(command)
    assert len(called) >= 12


def test_the_first_steps_of_the_readme_work(api: Api) -> None:
    variables = {"TUTELA": "http://127.0.0.1:8080", "KEY": api.key()["Authorization"][7:]}
    recorded, asked, withdrawn = (
        curl.run(command, api.client(), variables)
        for command in curl.commands_in(ROOT / "README.md")
    )
    assert (recorded.status_code, withdrawn.status_code) == (201, 201)
    assert (asked.json or {})["allow"]
    assert api.check({"email": "ada@example.com"})["reason"] == "WITHDRAWN"


def test_examples_come_in_an_order_in_which_they_work() -> None:
    commands = "\n".join(curl.commands_in(DOCUMENT))
    assert commands.index("/v1/consent/choices") < commands.index("/v1/consent/subjects/lookup")
    assert commands.index("/v1/consent/choices") < commands.index("/receipt")


def test_every_call_is_explained_with_an_example(described: dict[str, Any]) -> None:
    text = DOCUMENT.read_text()
    examples = "\n".join(curl.commands_in(DOCUMENT))
    for path, methods in described["paths"].items():
        for method in methods.keys() - {"parameters"}:
            assert f"`{method.upper()} {path}`" in text, path
        # What stands in braces is a variable in the example.
        pattern = re.sub(r"\\\{(\w+)\\\}", r"\\S+?", re.escape(path))
        assert re.search(rf"\$TUTELA{pattern}[\"?]", examples), path


def test_every_scope_is_explained(described: dict[str, Any]) -> None:
    text = DOCUMENT.read_text()
    used = {
        scope
        for methods in described["paths"].values()
        for name, operation in methods.items()
        if name != "parameters"
        for security in operation["security"]
        for scope in security["api_key"]
    }
    assert used <= API_SCOPES
    assert [scope for scope in used if f"`{scope}`" not in text] == []


def test_every_status_is_in_the_table(described: dict[str, Any]) -> None:
    rows = set(re.findall(r"^\| (\d{3}) \|", DOCUMENT.read_text(), re.MULTILINE))
    documented = {
        status
        for methods in described["paths"].values()
        for name, operation in methods.items()
        if name != "parameters"
        for status in operation["responses"]
        if status >= "400"
    }
    # These two may come from any address and are in no operation.
    assert documented == rows - {"405", "500"}


def test_every_reason_of_an_error_is_in_the_table() -> None:
    table = "\n".join(re.findall(r"^\| \d{3} \|.*$", DOCUMENT.read_text(), re.MULTILINE))
    raised_inside = {"CONSENT_ERROR", "LEDGER_ERROR", "SUBJECT_INVALID"}
    errors: list[type[ConsentError]] = [*ConsentError.__subclasses__(), LedgerRolledBackError]
    codes = {error.code for error in errors if error.__module__ == "consent.errors"}
    assert [code for code in sorted(codes - raised_inside) if f"`{code}`" not in table] == []
