"""Hands out proof bundles, to the console and to the API: none leaves without a record of it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from admin_ui.services import Services
from consent.errors import LedgerError
from consent.proof_bundle import ProofBundle
from consent.subjects import Reader, SubjectRef
from governance.audit.trail import Actor
from governance.errors import DecryptionError


def export_proof(
    services: Services,
    event_id: str,
    actor: Actor,
    *,
    may_see: Callable[[Mapping[str, Any]], frozenset[str]],
    about: tuple[str, str] | None = None,
    as_of: datetime | None = None,
    identifiers: Callable[[Reader, SubjectRef], Sequence[tuple[str, str]]] = lambda *_: (),
) -> ProofBundle:
    """Make a bundle, and write into the operator log who took it before anybody has it.

    The record holds the bundle's hash, so that a bundle that turns up can be told from others.

    Args:
        services: the services of the running app.
        event_id: one event that bears on the consent.
        actor: who takes the bundle away.
        may_see: of the claims of one event, the names of those to disclose.
        about: purpose and channel; None for those of the event.
        as_of: an instant whose status is told besides that of now.
        identifiers: kind and masked value of those of the person's that go along.

    Raises:
        ConsentError: as `ProofBundles.make`; a sealed value that does not open is a `LedgerError`.
    """
    bundles = services.proof_bundles
    note = bundles.newest_note()
    try:
        with services.database.snapshot() as reader:
            bundle = bundles.make(
                reader,
                event_id,
                note,
                now=services.clock(),
                may_see=may_see,
                about=about,
                as_of=as_of,
                identifiers=lambda ref: identifiers(reader, ref),
            )
    except DecryptionError as error:
        raise LedgerError("what is stored of an event cannot be opened") from error
    with services.database.begin() as session:
        services.trail.record(
            session,
            actor=actor,
            action="proof.exported",
            object=f"event:{event_id}",
            details={
                "purpose": bundle.purpose,
                "channel": bundle.channel,
                "events": bundle.events,
                "sha256": bundle.sha256,
            },
            now=services.clock(),
        )
    return bundle
