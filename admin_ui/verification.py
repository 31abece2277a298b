"""Both logs verify themselves: as a scheduled job, and at once on the command line.

Either way it is a run of the same job, so that the console shows whichever came last.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from consent.ledger.checkpoint import parse_vkey
from consent.ledger.findings import Report
from consent.ledger.verify import Progress, verify_log
from consent.verification import verify_ledger
from governance.audit.trail import Actor
from governance.jobs import runs
from governance.jobs.control import JobControl
from governance.jobs.job import Job, JobContext, Result
from governance.jobs.runner import JobRunner
from governance.jobs.runs import Run
from governance.jobs.schedule import Every

if TYPE_CHECKING:
    from admin_ui.services import Services

JOB: Final = "ledger.verify"
_SHOWN: Final = 20
"""Findings of each log that a run keeps with its result."""


def verification_job(services: "Services") -> Job:
    """The job that recomputes the whole ledger, and the log of what operators did."""
    return Job(JOB, Every(services.settings.verify_every), _Verification(services))


def verify_now(services: "Services", actor: Actor) -> Run:
    """Verify at once, in this process; returns the finished run.

    If another node takes the run up first, that node's result is waited for.
    """
    control = JobControl(services.database, services.trail, services.clock, [JOB])
    run_id = control.run_now(JOB, actor=actor)
    runner = JobRunner(services.database, services.clock, [verification_job(services)])
    try:
        runner.run_due()
    finally:
        runner.stop()
    with services.database.read() as reader:
        return runs.get(reader, run_id)


class _Verification:
    def __init__(self, services: "Services") -> None:
        self._services = services

    def __call__(self, context: JobContext) -> Result:
        services = self._services

        def tell(progress: Progress) -> None:
            context.progress(progress.done, progress.total, progress.phase.value)
            context.checkpoint(progress.cursor())

        report = verify_ledger(
            services.log,
            parse_vkey(services.verifier_key),
            services.checkpoints,
            services.cipher,
            services.database.snapshot,
            context.clock,
            progress=tell,
            resume=context.last_checkpoint,
        )
        operators = verify_log(
            services.trail.log,
            parse_vkey(services.operator_verifier_key),
            services.checkpoints,
            services.database.snapshot,
            context.clock,
        )
        return _result(report, operators)


def _result(ledger: Report, operators: Report) -> dict[str, Any]:
    """What a run keeps of its reports: plain values, nothing about a person."""
    findings = [*ledger.findings, *operators.findings]
    return {
        "entries": ledger.size,
        "events": ledger.events_checked,
        "erased": ledger.erased,
        "root": ledger.root.hex(),
        "operator_entries": operators.size,
        "found": len(findings) + ledger.omitted + operators.omitted,
        "findings": [
            {"log": report.origin, **asdict(finding)}
            for report in (ledger, operators)
            for finding in report.findings[:_SHOWN]
        ],
    }
