"""Real servers, killed and raced: what was acknowledged stays, what was withdrawn is denied."""

import http.client
import json
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from admin_ui import demo_notices
from admin_ui.services import Services, build, migrate
from admin_ui.settings import Settings
from admin_ui.verification import verify_now
from governance.audit.trail import CLI, SYSTEM
from policies.permissions import API_SCOPES
from tools.servers import Running, service

PURPOSE = "marketing_information"
WRITERS = 6


@dataclass
class Installation:
    """A database and a data folder that servers are started on."""

    url: str
    folder: Path
    key: str

    def server(self, stack: ExitStack, threads: int = 8) -> Running:
        """A server of one worker process, stopped with the stack."""
        return stack.enter_context(
            service(self.url, self.folder, workers=1, threads=threads, role="web")
        )

    def client(self, server: Running) -> "Client":
        """A program that talks to one of the servers."""
        return Client(server.port, self.key)

    def services(self) -> Services:
        """The installation from the inside."""
        return build(Settings(data_dir=self.folder, database_url=self.url))


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> Installation:
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    migrate(settings)
    services = build(settings)
    demo_notices.publish(services)
    key = services.api_keys.create(name="test", scopes=API_SCOPES, actor=SYSTEM).key
    services.close()
    return Installation(database_url, tmp_path, key)


@dataclass
class Client:
    """One connection of a program that uses the API."""

    port: int
    key: str
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and parsed body."""
        self.connection.request(
            "POST",
            path,
            json.dumps(body),
            {
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def say(self, person: str, state: str, **headers: str) -> tuple[int, Any]:
        """Record a choice about marketing by e-mail."""
        choice: dict[str, Any] = {"purpose": PURPOSE, "channel": "email", "state": state}
        if state == "granted":
            choice |= {
                "method": "test",
                "notice": {"id": "privacy", "version": "3", "language": "en"},
            }
        body = {"subject": {"email": person}, "choices": [choice]}
        return self.post("/v1/consent/choices", body, **headers)

    def may(self, person: str) -> bool:
        """Ask whether this person may be written to."""
        body = {"subject": {"email": person}, "purpose": PURPOSE, "channel": "email"}
        status, decision = self.post("/v1/consent/check", body)
        assert status == 200
        return bool(decision["allow"])


def write_until_killed(installation: Installation, acknowledged: int) -> list[dict[str, Any]]:
    """Write from several threads, kill the server in the middle; what it had acknowledged."""
    answers: list[dict[str, Any]] = []
    enough = threading.Event()

    def write(writer: int, server: Running) -> None:
        dice = random.Random(writer)
        try:
            with installation.client(server) as client:
                while True:
                    person = f"person{dice.randrange(40)}@example.com"
                    status, answer = client.say(person, dice.choice(["granted", "withdrawn"]))
                    assert status == 201
                    answers.append(answer)
                    if len(answers) >= acknowledged:
                        enough.set()
        except (OSError, http.client.HTTPException):
            return

    with ExitStack() as stack:
        server = installation.server(stack)
        threads = [
            threading.Thread(target=write, args=(writer, server)) for writer in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        enough.wait(timeout=30)
        server.kill()
        for thread in threads:
            thread.join()
    return answers


def kills(times: int) -> Callable[[Installation], None]:
    def run(installation: Installation) -> None:
        acknowledged: dict[str, int] = {}
        for round_number in range(times):
            for answer in write_until_killed(installation, 5 + 9 * (round_number % 5)):
                (event,) = answer["events"]
                assert event["id"] not in acknowledged
                acknowledged[event["id"]] = event["index"]
            services = installation.services()
            try:
                with services.database.read() as reader:
                    size = services.log.frontier(reader).size
                    kept = {entry.id: entry.idx for entry in services.log.entries(reader, 0, size)}
                run = verify_now(services, CLI)
            finally:
                services.close()
            assert acknowledged.items() <= kept.items()
            assert len(kept) == size
            assert run.result is not None
            assert run.result["entries"] == size
            assert run.result["found"] == 0

    return run


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(
    installation: Installation,
) -> None:
    kills(3)(installation)


@pytest.mark.soak
def test_kill_9_twenty_five_times(installation: Installation) -> None:
    kills(25)(installation)


def race(installation: Installation, *, people: int, checks: int) -> None:
    """Withdraw through one of two servers while both are asked: no allow after the answer."""
    with ExitStack() as stack:
        servers = [installation.server(stack), installation.server(stack)]
        wrong: list[str] = []
        asked = 0
        for n in range(people):
            person = f"racer{n}@example.com"
            withdrawn = threading.Event()

            def ask(server: Running, person: str, withdrawn: threading.Event) -> None:
                with installation.client(server) as client:
                    for _ in range(checks):
                        after = withdrawn.is_set()
                        if client.may(person) and after:
                            wrong.append(person)

            askers = [
                threading.Thread(target=ask, args=(server, person, withdrawn))
                for server in servers * 2
            ]
            with installation.client(servers[n % 2]) as client:
                assert client.say(person, "granted")[0] == 201
                for asker in askers:
                    asker.start()
                assert client.say(person, "withdrawn")[0] == 201
            withdrawn.set()
            for asker in askers:
                asker.join()
            asked += checks * len(askers)
        assert not wrong
        assert asked >= people * checks


def test_after_a_withdrawal_is_acknowledged_no_server_answers_allow(
    installation: Installation,
) -> None:
    race(installation, people=3, checks=100)


@pytest.mark.soak
def test_ten_thousand_checks_after_withdrawals_answer_no(installation: Installation) -> None:
    race(installation, people=10, checks=250)
