"""Today, the ledger, and jobs."""

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.console import frame, jobs, ledger, times, today
from admin_ui.console.explorer import Filters
from admin_ui.console.pages.consent import explorer_of
from admin_ui.services import services
from admin_ui.verification import JOB
from governance.jobs.control import JobControl
from policies.permissions import Permission, requires

_NEWEST = 8


@requires(Permission.POLICY_READ)
def home() -> ResponseReturnValue:
    """Where things stand, and what to do next."""
    with services().database.snapshot() as reader:
        shown = today.look(services(), reader, frame.principal().permissions)
        lines = None
        if frame.may(Permission.CONSENT_READ):
            names = frame.may(Permission.PEOPLE_READ)
            lines = explorer_of().page(reader, Filters(), names=names).lines[:_NEWEST]
    return frame.page("today.html", today=shown, lines=lines)


@requires(Permission.LEDGER_READ)
def ledger_head() -> ResponseReturnValue:
    """How tall the ledger is, what was signed, and how to check it."""
    with services().database.snapshot() as reader:
        shown = ledger.look(services(), reader)
    queued = "queued" in request.args and shown.verification.open is not None
    return frame.page("ledger.html", ledger=shown, queued=queued)


@requires(Permission.LEDGER_READ, Permission.LEDGER_VERIFY)
def verify_ledger() -> ResponseReturnValue:
    """Have the whole ledger verified in the background, beside its schedule."""
    own = services()
    JobControl(own.database, own.trail, own.clock, [JOB]).run_now(
        JOB, actor=frame.principal().actor
    )
    return redirect(url_for("console.ledger", queued=1), 303)


@requires(Permission.JOBS_READ)
def job_runs() -> ResponseReturnValue:
    """What the service did by itself, and what it will do."""
    before = times.cursor(request.args.get("before", ""))
    with services().database.read() as reader:
        shown = jobs.look(services(), reader, before)
    return frame.page("jobs.html", jobs=shown, before=before)
