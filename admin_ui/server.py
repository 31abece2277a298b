"""Start the service: make ready, then serve from worker processes.

The parent makes everything ready (folder, schema, keys, demo, set-up link) and serves nothing;
each worker process opens its own connections after the fork and runs the scheduler beside the web
threads, unless the roles are deployed apart. Ticks and deliveries are claimed in the
database, so that any number of processes may schedule and deliver.
"""

import gc
import signal
import sys
import threading
from typing import Any, Final

from flask import Flask

from admin_ui import demo, logging
from admin_ui.app import create_app
from admin_ui.jobs import couriers, job_runner
from admin_ui.services import build, migrate
from admin_ui.settings import Role, Settings

BACKLOG: Final = 2048
_KILL_AFTER: Final = 10
"""Seconds that a worker gets to finish its requests when the service stops."""


def serve(settings: Settings) -> None:
    """Serve until stopped. Says where, and how to set up an empty installation."""
    from granian.constants import Interfaces
    from granian.log import LogLevels
    from granian.server import Server

    link = _prepare(settings)
    _say(f"Tutela serves on {settings.url}/admin")
    if link is not None:
        _say(f"Set up the first account, once, within 24 hours: {link}")
    Server(
        "admin_ui.server:worker_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        blocking_threads=settings.threads,
        backlog=BACKLOG,
        websockets=False,
        factory=True,
        log_level=LogLevels.error,
        workers_kill_timeout=_KILL_AFTER,
        respawn_failed_workers=True,
    ).serve()


def worker_app() -> Flask:
    """The app of one worker process, with the scheduler beside it where the role says so."""
    settings = Settings.from_environment()
    logging.configure(settings.log_level)
    services = build(settings)
    if settings.role is Role.ALL:
        job_runner(services).start()
        couriers(services).start()
    app = create_app(services)
    # What stays for good is not looked through again by each collection of garbage.
    gc.collect()
    gc.freeze()
    return app


def work(settings: Settings) -> None:
    """Run the scheduler alone until stopped."""
    migrate(settings)
    logging.configure(settings.log_level)
    services = build(settings)
    runner, deliveries = job_runner(services), couriers(services)
    stop = threading.Event()

    def on_signal(*_: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    runner.start()
    deliveries.start()
    stop.wait()
    deliveries.stop()
    runner.stop()


def _prepare(settings: Settings) -> str | None:
    """Make the tables, the keys and the demo; the set-up link where there is no account yet.

    Raises:
        GovernanceError: the database cannot be used, or is newer than this program.
        LedgerRolledBackError: the ledger does not extend what was signed last.
    """
    migrate(settings)
    services = build(settings)
    try:
        if settings.demo:
            demo.fill(services)
        return services.setup_link()
    finally:
        services.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
