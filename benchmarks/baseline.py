"""What the service is measured against: a Flask app that does one thing a call, and proves nothing.

Same server, workers, threads and database. `/select` and `/insert` are what a developer writes
first: an engine, a connection, one statement.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

from flask import Flask, Response, jsonify, request
from sqlalchemy import Column, DateTime, MetaData, String, Table, create_engine, select

from tools.servers import Running, free_port, running

metadata = MetaData()
choice = Table(
    "baseline_choice",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("evidence", String(600), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
EVIDENCE = "x" * 475
"""As many bytes as a leaf of the ledger has."""


def app() -> Flask:
    """The baseline app over `BASELINE_URL`."""
    flask = Flask("baseline")
    engine = create_engine(os.environ["BASELINE_URL"], pool_size=16)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    @flask.get("/bare")
    def bare() -> Response:
        return jsonify(ok=True)

    @flask.post("/select")
    def one_select() -> Response:
        with engine.connect() as connection:
            row = connection.execute(
                select(choice).where(choice.c.id == request.get_json()["id"])
            ).one()
        return jsonify(state=row.state, at=row.at.isoformat())

    @flask.post("/insert")
    def one_insert() -> Response:
        body = request.get_json()
        new = str(uuid4())
        with engine.begin() as connection:
            connection.execute(
                choice.insert().values(
                    id=new, state=body["state"], evidence=EVIDENCE, at=datetime.now(UTC)
                )
            )
        return jsonify(id=new)

    return flask


@contextmanager
def serve(url: str, *, workers: int, threads: int) -> Iterator[Running]:
    """The baseline app on the server that the service uses, in the same shape."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-ws", "--log-level", "error"),
        *("--workers", str(workers), "--blocking-threads", str(threads), "--backlog", "2048"),
        "benchmarks.baseline:app",
    ]
    with running(command, {"BASELINE_URL": url}, port, "/bare") as server:
        yield server


def fill(url: str, people: int) -> None:
    """Make the baseline's table with one row a person."""
    engine = create_engine(url)
    metadata.create_all(engine)
    now = datetime.now(UTC)
    with engine.begin() as connection:
        for start in range(0, people, 10_000):
            connection.execute(
                choice.insert(),
                [
                    {"id": f"p{n}", "state": "granted", "evidence": EVIDENCE, "at": now}
                    for n in range(start, min(start + 10_000, people))
                ],
            )
    engine.dispose()
