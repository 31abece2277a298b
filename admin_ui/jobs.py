"""The service's own scheduled jobs: the ledger verifies itself, and what has expired is removed."""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete

from admin_ui.imports import Imports
from admin_ui.verification import verification_job
from consent import confirmations, subject_changes
from consent.choices import IDEMPOTENCY_KEPT
from consent.models import idempotency
from governance.access import throttle
from governance.jobs import runs
from governance.jobs.courier import Couriers, Round
from governance.jobs.job import Job, JobContext, Result
from governance.jobs.runner import JobRunner
from governance.jobs.schedule import Every
from governance.outbound import mail
from governance.outbound.webhooks import endpoints

if TYPE_CHECKING:
    from admin_ui.services import Services

HOUSEKEEPING: Final = "service.housekeeping"
RUNS_KEPT: Final = timedelta(days=400)
"""So that a year's verifications can be shown."""
TRACES_KEPT: Final = timedelta(days=400)
"""How long it can be told that a mail was sent."""


def job_runner(services: "Services") -> JobRunner:
    """A runner of all jobs, not yet started."""
    return JobRunner(services.database, services.clock, jobs(services))


def jobs(services: "Services") -> list[Job]:
    """What runs on a schedule, the same on every node."""
    return [
        verification_job(services),
        Job(
            HOUSEKEEPING, Every(timedelta(hours=1), timedelta(minutes=17)), _Housekeeping(services)
        ),
    ]


def couriers(services: "Services") -> Couriers:
    """What delivers mails and webhooks, not yet started."""
    return Couriers(
        [
            Round("mail", services.mail_delivery, threads=2),
            Round("webhooks", services.webhook_delivery, threads=4),
        ]
    )


class _Housekeeping:
    """Removes what is kept for a time: idempotency keys, ended sessions, old failed logins, codes
    for contacts, the history of jobs, traces of mails and webhooks, requests to confirm, replaced
    do-not-call lists. Makes the keys of the coming month, signs what operators did.
    """

    def __init__(self, services: "Services") -> None:
        self._services = services

    def __call__(self, context: JobContext) -> Result:
        now = context.clock()
        self._services.keyring.prepare(context.database, now)
        self._services.operator_notary.certify()
        with context.database.begin() as session:
            gone = session.execute(
                delete(idempotency)
                .where(idempotency.c.used_at < now - IDEMPOTENCY_KEPT)
                .returning(idempotency.c.key)
            ).all()
            attempts = throttle.remove_old(session, now)
            quarantined = Imports(self._services).expire(session)
            codes = self._services.contact_codes.remove_old(session, now)
            finished = runs.remove_finished(session, now - RUNS_KEPT)
            traces = mail.remove_traces(session, now - TRACES_KEPT)
            deliveries = endpoints.remove_old(session, now)
            requests = confirmations.forget(session, now)
            sessions = self._services.sessions.remove_expired(session, now)
            changes = subject_changes.remove_old(session, now)
        return {
            "confirmation_requests": requests,
            "contact_codes": codes,
            "do_not_call_numbers": self._services.lists.clean(),
            "idempotency_keys": len(gone),
            "login_attempts": attempts,
            "mail_traces": traces,
            "quarantined_rows": quarantined,
            "runs": finished,
            "sessions": sessions,
            "subject_changes": changes,
            "webhook_deliveries": deliveries,
        }
