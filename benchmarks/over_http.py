"""Checks and records over HTTP against a Flask view with one statement; start and memory."""

from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from admin_ui import demo_notices
from admin_ui.services import Services, build, migrate
from admin_ui.settings import Settings
from benchmarks import baseline
from benchmarks.client import Measured, encode, measure
from benchmarks.engines import Databases, for_sqlalchemy
from consent.choices import NoticeRef, Record, choice
from consent.states import read_registers, write_registers
from consent.subjects import email
from governance.audit.trail import SYSTEM
from policies.permissions import API_SCOPES
from policies.vocabulary import ChoiceState
from tools import servers

PURPOSE = "marketing_information"
ASKED = 2_000
"""How many different people are asked about, however many there are."""


def compare(
    databases: Databases, folder: Path, *, seconds: float, people: int, threads: int, workers: int
) -> dict[str, Any]:
    """One server of each kind, measured in turns under the same load."""
    url = databases.new()
    services, key = prepare(url, folder, people)
    services.close()
    plain = for_sqlalchemy(url)
    baseline.fill(plain, ASKED)
    rounds = 3
    seen: dict[str, list[Measured]] = {}
    with (
        baseline.serve(plain, workers=workers, threads=threads) as flask,
        servers.service(url, folder, workers=workers, threads=threads) as ours,
    ):
        for _ in range(rounds):
            for name, port, requests in (
                ("bare", flask.port, [encode("/bare", None)]),
                ("select", flask.port, _selects()),
                ("check", ours.port, _checks(key)),
                ("insert", flask.port, [encode("/insert", {"state": "granted"})]),
                ("record", ours.port, _records(key)),
                ("batch", ours.port, _batches(key)),
            ):
                seen.setdefault(name, []).append(measure(port, requests, seconds=seconds))
    best = {name: sorted(runs, key=_rate)[rounds // 2] for name, runs in seen.items()}
    per_second = {name: round(run.requests_per_second, 1) for name, run in best.items()}
    return {
        "people": people,
        "workers": workers,
        "threads": threads,
        "per_second": per_second,
        "p99_ms": {name: round(run.p99_ms, 1) for name, run in best.items()},
        "failures": sum(run.failures for runs in seen.values() for run in runs),
        "check_to_select": round(per_second["check"] / per_second["select"], 3),
        "check_to_bare": round(per_second["check"] / per_second["bare"], 3),
        "record_to_insert": round(per_second["record"] / per_second["insert"], 3),
        "batch_items_per_second": round(per_second["batch"] * _BATCH),
        "start_seconds": round(ours.seconds_to_first_answer, 2),
        "worker_megabytes": round(ours.worker_megabytes, 1),
    }


def flatness(databases: Databases, folder: Path, *, seconds: float, many: int) -> dict[str, Any]:
    """The same check at 2,000 people and at many, in turns."""
    rates: dict[int, list[float]] = {ASKED: [], many: []}
    started = []
    for people in rates:
        url, own = databases.new(), folder / f"people_{people}"
        services, key = prepare(url, own, people)
        services.close()
        started.append((people, url, own, key))
    for _ in range(3):
        for people, url, own, key in started:
            with servers.service(url, own, workers=1, threads=8) as ours:
                run = measure(ours.port, _checks(key), seconds=seconds)
                rates[people].append(run.requests_per_second)
    medians = {people: sorted(seen)[1] for people, seen in rates.items()}
    return {
        "per_second": {str(people): round(rate, 1) for people, rate in medians.items()},
        "many_to_few": round(medians[many] / medians[ASKED], 3),
    }


def prepare(url: str, folder: Path, people: int) -> tuple[Services, str]:
    """An installation in which `people` have granted marketing by e-mail; and an API key.

    The first 2,000 are recorded in the ledger. The others get their person, identifier, key and
    register alone: a check reads nothing else, and a million proofs would take an hour.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(data_dir=folder, database_url=url)
    migrate(settings)
    services = build(settings)
    demo_notices.publish(services)
    issued = services.api_keys.create(name="bench", scopes=API_SCOPES, actor=SYSTEM)
    commands = (_grant(services, n) for n in range(min(people, ASKED)))
    while group := list(islice(commands, 500)):
        services.writer.write(group)
    _multiply(services, people)
    if services.database.dialect == "postgresql":
        with services.database.begin() as session:
            session.connection().exec_driver_sql("ANALYZE")
    return services, issued.key


def _multiply(services: Services, people: int) -> None:
    with services.database.read() as reader:
        (first,) = services.directory.find(reader, [email(_address(0))])
        if first is None:
            raise RuntimeError("the first person is missing")
        ((_, key), register) = next(iter(read_registers(reader, [first]).items()))
    for start in range(ASKED, people, 5_000):
        numbers = range(start, min(start + 5_000, people))
        with services.database.begin() as session:
            refs = services.directory.ensure(
                session, [email(_address(n)) for n in numbers], services.clock()
            )
            write_registers(session, ((ref, key, register) for ref in refs))


def _grant(services: Services, number: int) -> Record:
    return Record(
        email(_address(number)),
        (
            choice(
                services.policies(),
                purpose=PURPOSE,
                channel="email",
                state=ChoiceState.GRANTED,
                method="bench",
                notice=NoticeRef("privacy", "3", "en"),
                occurred_at=services.clock() - timedelta(days=1),
            ),
        ),
        "system:bench",
    )


def _address(number: int) -> str:
    return f"person{number}@example.com"


_BATCH = 5_000


def _selects() -> list[bytes]:
    return [encode("/select", {"id": f"p{n}"}) for n in range(ASKED)]


def _checks(key: str) -> list[bytes]:
    return [
        encode(
            "/v1/consent/check",
            {"subject": {"email": _address(n)}, "purpose": PURPOSE, "channel": "email"},
            key,
        )
        for n in range(ASKED)
    ]


def _records(key: str) -> list[bytes]:
    return [
        encode(
            "/v1/consent/choices",
            {
                "subject": {"email": _address(n)},
                "choices": [
                    {
                        "purpose": PURPOSE,
                        "channel": "email",
                        "state": "granted",
                        "method": "bench",
                        "notice": {"id": "privacy", "version": "3", "language": "en"},
                    }
                ],
            },
            key,
        )
        for n in range(ASKED)
    ]


def _batches(key: str) -> list[bytes]:
    subjects = [{"email": _address(n % ASKED)} for n in range(_BATCH)]
    body = {"subjects": subjects, "purpose": PURPOSE, "channel": "email"}
    return [encode("/v1/consent/check/batch", body, key)]


def _rate(run: Measured) -> float:
    return run.requests_per_second
