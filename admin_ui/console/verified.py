"""What verifying the whole ledger came to, as the pages tell it. Nothing computed is not intact."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from admin_ui.console.wording import Tag, Tone
from admin_ui.verification import JOB
from consent.subjects import Reader
from governance.jobs import runs
from governance.jobs.models import RunState
from governance.jobs.runs import Run

_LOOKED_AT: Final = 20
_OPEN: Final = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.PAUSED})


@dataclass(frozen=True, slots=True)
class Verified:
    """The newest verification that finished."""

    at: datetime
    size: int
    found: int
    findings: tuple[str, ...]
    """The first of what was found, as sentences."""

    @property
    def tag(self) -> Tag:
        """Its result in a word."""
        return Tag("Changed", Tone.FAILED) if self.found else Tag("Intact", Tone.ON)


@dataclass(frozen=True, slots=True)
class Verification:
    """Where verification stands."""

    last: Verified | None
    open: Run | None
    """The run that is waiting or under way."""
    failed_at: datetime | None
    """When the newest attempt broke off, if none has finished since."""


def verification(reader: Reader) -> Verification:
    """Where verification of the ledger stands."""
    found = runs.history(reader, JOB, limit=_LOOKED_AT)
    ended = [run for run in found if run.state in {RunState.DONE, RunState.FAILED}]
    done = next((run for run in ended if run.state is RunState.DONE), None)
    failed = ended[0] if ended and ended[0].state is RunState.FAILED else None
    return Verification(
        last=None if done is None else _verified(done, done.result or {}),
        open=next((run for run in found if run.state in _OPEN), None),
        failed_at=None if failed is None else failed.finished_at,
    )


def _verified(run: Run, result: Mapping[str, Any]) -> Verified:
    return Verified(
        at=run.finished_at or run.scheduled_for,
        size=result["entries"],
        found=result["found"],
        findings=tuple(finding["sentence"] for finding in result["findings"]),
    )
