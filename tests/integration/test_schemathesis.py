"""The API held to its own OpenAPI document by a program that knows nothing else of it.

What the document cannot know is told here: which purposes the active policy has, what has happened
by now, and where the feed ends. Long waits are left out; lists as NDJSON and the tiles, whose
address is a path of several segments, have properties of their own below.
"""

import copy
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi import format as string_format
from sqlalchemy import text
from werkzeug.serving import WSGIRequestHandler, make_server

from consent.api.log import TILE_PATH
from consent.ledger.tiles import TilePath, TilePathError
from policies.permissions import API_SCOPES, ROLE_PERMISSIONS, Role
from tests.fakes.services import MARKETING, NDJSON, NOTICE, PROBLEM, Api, said

SEED = 2718
NOBODY = "nobody"
EVERYTHING = "every scope"
ALL_PHASES = ("examples", "coverage", "fuzzing", "stateful")
CALLERS = (EVERYTHING, NOBODY, *Role)
LIST = f"/v1/consent/check/batch?purpose={MARKETING}&channel=email"
ROWS = text(
    "SELECT (SELECT count(*) FROM ledger_entry), (SELECT count(*) FROM consent_event), "
    "(SELECT count(*) FROM consent_state), (SELECT count(*) FROM vault_person), "
    "(SELECT count(*) FROM consent_idempotency)"
)

string_format("printable", st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
INSTANTS = ["0001-01-01T00:00:00Z", "2026-02-28T23:59:59.999999+01:00", "2026-03-01t08:00:00z"]


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what only the running service knows."""
    told = copy.deepcopy(document)
    schemas, paths = told["components"]["schemas"], told["paths"]
    for name in ("CheckRequest", "BatchCheckRequest", "Choice"):
        schemas[name]["properties"]["purpose"] = {"type": "string", "enum": [MARKETING]}
    schemas["CheckRequest"]["properties"]["as_of"]["enum"] = INSTANTS
    about = schemas["ProofRequest"]["properties"]
    about["purpose"] = {"type": "string", "enum": [MARKETING]}
    about["as_of"]["enum"] = INSTANTS
    schemas["ProofRequest"]["dependentRequired"] = {
        "purpose": ["channel"],
        "channel": ["purpose"],
    }
    choice = schemas["Choice"]["properties"]
    choice["occurred_at"]["enum"] = INSTANTS[:2]
    choice["evidence"]["properties"]["confirmed_at"]["enum"] = [INSTANTS[2], None]
    del schemas["Notice"]["properties"]["hash"]
    of_grants = schemas["ChoicesRequest"]["properties"]["choices"]["items"]["anyOf"][1]
    of_grants["properties"]["notice"] = {
        "properties": {name: {"enum": [published]} for name, published in NOTICE.items()}
    }
    feed = paths["/v1/consent/changes"]["get"]["parameters"]
    feed[:] = [one for one in feed if one["name"] not in ("cursor", "wait")]
    batch = paths["/v1/consent/check/batch"]["post"]
    del batch["requestBody"]["content"][NDJSON]
    del paths["/log/tile/{path}"]
    # A list is taken as a whole: what its lines must be hangs on the registry and the day.
    del paths["/v1/consent/do-not-call/{registry}"]
    return told


class Watched:
    """The app, and what it did that no document can forbid: a failure, a trace of a refusal."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.answers: dict[int, int] = {}
        self.found: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        before = self._rows()
        answered: list[tuple[int, dict[str, str]]] = []

        def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[..., Any]:
            answered.append((int(status[:3]), {name.lower(): value for name, value in headers}))
            return start(status, headers, *rest)

        try:
            body = b"".join(self._api.app(environ, note))
        finally:
            status, headers = answered[-1]
            self.answers[status] = self.answers.get(status, 0) + 1
        if status >= 400 and environ["PATH_INFO"].startswith(("/v1/", "/log/")):
            called = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}: {status}"
            if self._rows() != before:
                self.found.append(f"{called} left a trace")
            if headers["content-type"] != PROBLEM:
                self.found.append(f"{called} is no problem document")
            if status >= 500:
                self.found.append(f"{called} {body.decode()}")
        return [body]

    def _rows(self) -> Any:
        with self._api.services.database.read() as reader:
            return reader.execute(ROWS).one()


def run(api: Api, caller: str, *, examples: int, phases: tuple[str, ...]) -> Watched:
    """Let Schemathesis loose on the API with the scopes of a caller; everything it finds fails."""
    scopes = {EVERYTHING: API_SCOPES, NOBODY: frozenset()}.get(caller)
    if scopes is None:
        scopes = ROLE_PERMISSIONS[Role(caller)] & API_SCOPES
    document = api.client().get("/openapi.json").json
    assert document is not None
    watched = Watched(api)
    with served(watched) as address:
        config = schemathesis.Config.from_dict(
            {
                "seed": SEED,
                "base-url": address,
                "headers": api.key(scopes) if scopes else {},
                "generation": {
                    "max-examples": examples,
                    "database": "none",
                    "allow-x00": False,  # no schema can say that strings have no NUL
                },
                "phases": {name: {"enabled": name in phases} for name in ALL_PHASES},
            }
        )
        schema = schemathesis.openapi.from_dict(narrowed(document), config=config)
        wrong = [one for event in from_schema(schema).execute() for one in wrong_in(event)]
    assert not wrong + watched.found, "\n\n".join(wrong + watched.found)
    return watched


def wrong_in(event: events.EngineEvent) -> list[str]:
    """What is wrong, according to an event of a run."""
    if isinstance(event, events.FatalError):
        return [repr(event.exception)]
    if isinstance(event, events.NonFatalError):
        return [f"{event.label}: {event.value!r}"]
    if not isinstance(event, events.ScenarioFinished):
        return []
    return [
        f"{event.recorder.label}: {check.failure_info.failure}\n"
        f"{event.recorder.cases[case].value.as_curl_command()}"
        for case, checks in event.recorder.checks.items()
        for check in checks
        if check.status is Status.FAILURE and check.failure_info is not None
    ]


@contextmanager
def served(app: Watched) -> Iterator[str]:
    """The address of the app, on a port of this machine."""
    server = make_server("127.0.0.1", 0, app, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, *_: Any) -> None:
        """Nothing."""


def test_every_answer_is_one_that_the_document_promises(shared_api: Api) -> None:
    watched = run(shared_api, EVERYTHING, examples=10, phases=("examples", "coverage", "fuzzing"))
    # Otherwise all would be well because nothing was understood.
    assert {200, 201, 400, 401, 404, 405, 409, 415, 422} <= watched.answers.keys()


@pytest.mark.parametrize("caller", CALLERS[1:])
def test_every_role_meets_only_what_the_document_promises(shared_api: Api, caller: str) -> None:
    watched = run(shared_api, caller, examples=5, phases=("fuzzing",))
    assert (401 if caller == NOBODY else 403) in watched.answers


@pytest.mark.soak
@pytest.mark.parametrize("caller", CALLERS)
def test_what_the_document_promises_holds_for_long(shared_api: Api, caller: str) -> None:
    run(shared_api, caller, examples=200 if caller == EVERYTHING else 40, phases=ALL_PHASES)


SUBJECTS = st.one_of(
    st.just({"email": "known@example.com"}),
    st.builds(lambda n: {"email": f"n{n}@example.com"}, st.integers(0, 9)),
    st.builds(lambda n: {"phone": f"+49309018{n}"}, st.integers(0, 999)),
)
LINES = st.one_of(
    SUBJECTS.map(lambda who: json.dumps(who).encode()),
    st.binary(max_size=40).filter(lambda line: b"\n" not in line),
    st.integers(4000, 9000).map(lambda size: b" " * size + b'{"email":"known@example.com"}'),
)


@settings(max_examples=40)
@given(lines=st.lists(LINES, max_size=12), ended=st.booleans())
def test_every_line_of_any_list_has_one_answer_in_its_place(
    shared_api: Api, lines: list[bytes], ended: bool
) -> None:
    if not shared_api.check({"email": "known@example.com"})["allow"]:
        shared_api.record({"email": "known@example.com"}, said("granted"))
    body = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    answer = shared_api.post(LIST, body, content_type=NDJSON)
    assert answer.status_code == 200
    decisions = [json.loads(line) for line in answer.data.splitlines()]
    # A last line that is empty and not ended is none.
    expected = lines if ended or not lines or lines[-1] else lines[:-1]
    assert len(decisions) == len(expected)
    for line, decision in zip(expected, decisions, strict=True):
        alone = shared_api.post(LIST, line + b"\n", content_type=NDJSON)
        assert decision == json.loads(alone.data)
        assert decision["allow"] == (b"known" in line and len(line) <= 4096)


@settings(max_examples=200)
@given(path=st.one_of(st.from_regex(TILE_PATH), st.text(max_size=60)))
def test_any_address_below_the_tiles_is_a_tile_or_not_found(shared_api: Api, path: str) -> None:
    answer = shared_api.client().get(f"/log/tile/{quote(path)}", buffered=True)
    try:
        tile = TilePath.parse(f"tile/{path}")
    except TilePathError:
        tile = None
    if answer.status_code == 200:
        assert tile is not None
    else:
        assert (answer.status_code, answer.mimetype) == (404, PROBLEM)
