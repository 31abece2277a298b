"""The ledger's page: height, root, what was signed last, and what verifying it came to."""

from base64 import b64encode
from dataclasses import dataclass

from admin_ui.console.verified import Verification, verification
from admin_ui.services import Services
from consent.errors import LedgerError
from consent.ledger.notary import Signed
from consent.ledger.proofs import root_at
from consent.subjects import Reader


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the page shows."""

    origin: str
    size: int
    root: str
    """Base64, as a checkpoint has it."""
    signed: Signed | None
    verifier_key: str
    verification: Verification
    trouble: str | None
    """Why the log does not extend what was signed last, if so."""


def look(services: Services, reader: Reader) -> Ledger:
    """The ledger as it stands."""
    head = services.log.frontier(reader)
    signed = services.checkpoints.last(services.notary.origin)
    return Ledger(
        origin=services.notary.origin,
        size=head.size,
        root=b64encode(head.root).decode(),
        signed=signed,
        verifier_key=services.verifier_key,
        verification=verification(reader),
        trouble=None if signed is None else _trouble(services, reader, head.size, signed),
    )


def _trouble(services: Services, reader: Reader, size: int, signed: Signed) -> str | None:
    if size < signed.size:
        return f"the database has {size} entries, and {signed.size} were signed"
    try:
        same = root_at(signed.size, services.log.hash_reader(reader)) == signed.root
    except LedgerError as error:
        return str(error)
    return None if same else f"the first {signed.size} entries are not those that were signed"
