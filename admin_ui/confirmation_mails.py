"""Writes the mails that ask for a confirmation: consent's `ConfirmationMails`."""

import re
from datetime import datetime
from typing import Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from admin_ui.mails import CONFIRMATION
from consent.confirmations import Asking
from consent.subjects import Identifier, SubjectRef
from governance.errors import DecryptionError
from governance.outbound.mail import LIFE, MailQueue
from governance.outbound.templates import DEFAULT_LANGUAGE
from governance.vault.identify import Directory

_TAG: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class ConfirmationPost:
    """Queues mails that ask. Shared by threads."""

    def __init__(self, mails: MailQueue, directory: Directory, url: str, zone: ZoneInfo) -> None:
        """Take the queue, who is known, the service's public address, and the zone of the dates."""
        self._mails = mails
        self._directory = directory
        self._url = url
        self._zone = zone

    def address_of(self, session: Session, subject: SubjectRef) -> Identifier | None:
        """See `consent.confirmations.ConfirmationMails`."""
        try:
            held = self._directory.identifiers_of(session, [subject])[subject]
        except DecryptionError:
            return None
        return next((one for one in held if one.kind == "email"), None)

    def ask(self, session: Session, asking: Asking, now: datetime) -> None:
        """See `consent.confirmations.ConfirmationMails`."""
        notice = asking.notice
        language = notice.language if _TAG.fullmatch(notice.language) else DEFAULT_LANGUAGE
        words, _ = asking.purpose.worded(language)
        shown = "/".join(quote(part, safe="") for part in (notice.id, notice.version, language))
        facts = {
            "purpose": words.name,
            "description": words.description,
            "controller": asking.controller.name,
            "contact": asking.controller.contact,
            "date": self._moment(asking.signed_up_at),
            # A short name of the caller's choosing, such as web_form; nothing that anybody typed.
            "source": asking.method.replace("_", " "),
            "until": self._moment(asking.signed_up_at + asking.offer),
            "words": f"{self._url}/privacy/notices/{shown}",
            "link": f"{self._url}/privacy/confirm/{asking.token}",
        }
        life = min(LIFE, asking.offer)
        self._mails.put(session, asking.to, CONFIRMATION.name, language, facts, now, life=life)

    def _moment(self, instant: datetime) -> str:
        return f"{instant.astimezone(self._zone):%Y-%m-%d %H:%M} ({self._zone.key})"
