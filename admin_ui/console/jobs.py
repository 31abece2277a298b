"""Scheduled jobs: what ran, how it went, and what comes next."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from admin_ui import jobs as scheduled
from admin_ui.console import wording
from admin_ui.console.wording import Tag, Tone
from admin_ui.services import Services
from admin_ui.verification import JOB as VERIFY
from consent.subjects import Reader
from governance.jobs import runs
from governance.jobs.models import RunState
from governance.jobs.runs import Run
from governance.jobs.schedule import next_tick

PAGE: Final = 50

_NAMES: Final = {
    VERIFY: "Verify the ledger",
    scheduled.HOUSEKEEPING: "Remove what has expired",
}
_STATES: Final = {
    RunState.QUEUED: Tag("Waiting", Tone.HELD),
    RunState.RUNNING: Tag("Running", Tone.OPEN),
    RunState.PAUSED: Tag("Paused", Tone.HELD),
    RunState.DONE: Tag("Done", Tone.ON),
    RunState.FAILED: Tag("Failed", Tone.FAILED),
    RunState.MISSED: Tag("Missed", Tone.SOON),
    RunState.CANCELLED: Tag("Cancelled", Tone.NO),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One run, as the page shows it."""

    id: str
    name: str
    tag: Tag
    due: datetime
    started: datetime | None
    took: str
    done: int
    total: int | None
    running: bool
    outcome: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Jobs:
    """What the page shows."""

    coming: list[tuple[str, datetime]]
    """Each job with its next tick."""
    lines: list[Line]
    older: datetime | None
    """The cursor of what is older; None at the end."""


def look(services: Services, reader: Reader, before: datetime | None) -> Jobs:
    """The newest runs due before an instant, and the next tick of every job."""
    now = services.clock()
    found = runs.history(reader, before=before, limit=PAGE + 1)
    coming = [
        (name(job.name), tick)
        for job in scheduled.jobs(services)
        if (tick := next_tick(job.schedule, now)) is not None
    ]
    return Jobs(
        coming=sorted(coming, key=lambda one: one[1]),
        lines=[_line(run) for run in found[:PAGE]],
        older=found[PAGE - 1].scheduled_for if len(found) > PAGE else None,
    )


def name(job: str) -> str:
    """A job as people call it."""
    return _NAMES.get(job, wording.spaced(job.replace(".", " ")))


def _line(run: Run) -> Line:
    ended = run.finished_at
    took = "" if ended is None or run.started_at is None else _length(ended - run.started_at)
    return Line(
        id=run.id,
        name=name(run.job),
        tag=_STATES[run.state],
        due=run.scheduled_for,
        started=run.started_at,
        took=took,
        done=run.progress.done,
        total=run.progress.total,
        running=run.state in {RunState.RUNNING, RunState.PAUSED},
        outcome=_outcome(run),
        attempts=run.attempts,
    )


def _outcome(run: Run) -> str:
    """What the run came to, in a line."""
    if run.error is not None:
        return wording.spaced(run.error.lower())
    plain = [
        f"{wording.spaced(key)}: {value}"
        for key, value in (run.result or {}).items()
        if isinstance(value, int)
    ]
    return ", ".join(plain) or run.progress.message or run.progress.phase or ""


def _length(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds < 1:
        return "under 1 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
