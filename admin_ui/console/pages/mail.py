"""Mail: what left and what did not; and, where there is no mail server, the mails themselves."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from uuid import UUID

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from admin_ui import mails as kinds
from admin_ui.console import frame, outbound, times
from admin_ui.services import services
from consent.errors import InvalidSubjectError
from consent.subjects import email
from governance.vault.identify import mask
from policies.permissions import Permission, requires


@requires(Permission.OUTBOUND_READ)
def mails() -> ResponseReturnValue:
    """The newest mails, without address or content."""
    before = times.cursor(request.args.get("before", ""))
    with services().database.read() as reader:
        shown = outbound.mails(
            services(), reader, before, opens=frame.may(Permission.PEOPLE_UNMASK)
        )
    return frame.page(
        "mails.html",
        mails=shown,
        before=before,
        folder=outbound.folder_of(services()),
        queued="queued" in request.args,
    )


@requires(Permission.OUTBOUND_READ, Permission.PEOPLE_UNMASK)
def mail(mail_id: UUID) -> ResponseReturnValue:
    """A mail in the folder, as its reader sees it: for trying the service without a mail server."""
    folder = outbound.folder_of(services())
    if folder is None:
        raise NotFound
    message = _read(folder / f"{mail_id}.eml")
    body = message.get_body(("plain",))
    lines = body.get_content().splitlines() if body is not None else []
    return frame.page(
        "mail.html",
        subject=str(message["Subject"]),
        sender=str(message["From"]),
        to=_masked(message),
        sent=message["Date"].datetime,
        paragraphs=[line for line in lines if line],
        unsubscribe=message["List-Unsubscribe"],
    )


@requires(Permission.OUTBOUND_READ, Permission.OUTBOUND_MANAGE)
def test_mail() -> ResponseReturnValue:
    """Send a test mail to an address of one's own."""
    errors: dict[str, str] = {}
    to = request.form.get("to", "")
    if request.method == "POST":
        try:
            address = email(to)
        except InvalidSubjectError as error:
            errors["to"] = frame.sentence(error)
        else:
            own, now = services(), services().clock()
            with own.database.begin() as session:
                mail_id = own.mails.put(
                    session,
                    address,
                    kinds.TEST.name,
                    "en",
                    {"organisation": own.settings.organisation},
                    now,
                )
                own.trail.record(
                    session,
                    actor=frame.principal().actor,
                    action="mail.tested",
                    object=f"mail:{mail_id}",
                    now=now,
                )
            return redirect(url_for("console.mails", queued=1), 303)
    return frame.page("mail_test.html", 422 if errors else 200, to=to, errors=errors)


def _read(file: Path) -> EmailMessage:
    try:
        return message_from_bytes(file.read_bytes(), policy=default)
    except FileNotFoundError as error:
        raise NotFound from error


def _masked(message: EmailMessage) -> str:
    try:
        return mask(email(message["To"].addresses[0].addr_spec))
    except (InvalidSubjectError, IndexError):
        return ""
