"""What the API's views need, put on the app by whoever composes it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from threading import BoundedSemaphore
from typing import cast

from flask import Flask, current_app
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from consent.checks import Checker
from consent.do_not_call import DoNotCallLists, Replaced
from consent.ledger.log import MerkleLog
from consent.ledger.notary import Notary
from consent.mirrors import Mirrors
from consent.notices import Notices
from consent.proof_bundle import ProofBundle
from consent.receipts import Receipts
from consent.signals import Signals
from consent.subjects import SubjectDirectory
from consent.writer import ConsentWriter
from policies.model import PolicySet

_EXTENSION = "tutela.consent"


@dataclass(frozen=True, slots=True)
class ConsentApi:
    """The collaborators of the views."""

    read: Callable[[], AbstractContextManager[Connection]]
    snapshot: Callable[[], AbstractContextManager[Connection]]
    clock: Callable[[], datetime]
    policies: Callable[[], PolicySet]
    directory: SubjectDirectory
    checker: Checker
    mirrors: Mirrors
    writer: ConsentWriter
    receipts: Receipts
    export_proof: Callable[
        [str, frozenset[str], tuple[str, str] | None, datetime | None], ProofBundle
    ]
    """Of an event's id, the claims to disclose, purpose and channel, and a past instant: a bundle.
    Records in the operator log who took it before it returns."""
    notices: Notices
    log: MerkleLog
    notary: Notary
    actor: Callable[[], str]
    """Who is calling, as an opaque reference for the ledger."""
    may: Callable[[str], bool]
    """Whether the caller has a permission beyond the one that the view required."""
    signals: Signals
    lists: DoNotCallLists
    list_replaced: Callable[[Session, Replaced], None]
    """Records in the operator log that a do-not-call list was replaced."""
    long_polls: BoundedSemaphore
    """How many requests may wait for news at once, so that they cannot hold every thread."""

    def put_on(self, app: Flask) -> None:
        """Make these the collaborators of the app's views."""
        app.extensions[_EXTENSION] = self


def consent_api() -> ConsentApi:
    """The collaborators of the running app."""
    return cast(ConsentApi, current_app.extensions[_EXTENSION])
