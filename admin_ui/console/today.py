"""The first page: where things stand, and what to do next. What was not computed is not zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select

from admin_ui.console import outbound
from admin_ui.console.verified import Verification, verification
from admin_ui.console.wording import Tone
from admin_ui.services import Services
from consent.subjects import Reader
from governance.access.api_keys import ApiKey
from governance.vault.models import vault_person
from policies.permissions import Permission

ENDS_SOON: Final = timedelta(days=14)
"""How long before its end a key is told of."""

COUNTED: Final = 100_000
"""People are counted so far; beyond that the page says "over"."""


@dataclass(frozen=True, slots=True)
class People:
    """How many people are known."""

    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do before the service is of use."""

    title: str
    how: str
    done: bool
    endpoint: str | None = None
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """Something that somebody has to look at now."""

    title: str
    how: str
    endpoint: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Today:
    """What the page shows."""

    people: People
    size: int
    signed: int | None
    verification: Verification
    needs: list[Need]
    steps: list[Step]

    @property
    def behind(self) -> int:
        """Entries that no signed checkpoint covers yet."""
        return self.size - (self.signed or 0)

    @property
    def steps_left(self) -> int:
        """How many steps are open."""
        return sum(not step.done for step in self.steps)


def look(services: Services, reader: Reader, held: frozenset[Permission]) -> Today:
    """Where things stand now, for a caller who holds these permissions."""
    now = services.clock()
    size = services.log.frontier(reader).size
    signed = services.checkpoints.last(services.notary.origin)
    verified = verification(reader)
    keys = [key for key in services.api_keys.all(reader) if key.in_force(now)]
    manages_keys = Permission.API_KEYS_MANAGE in held
    needs = _needs_of_ledger(verified, now - 2 * services.settings.verify_every)
    return Today(
        people=_people(reader),
        size=size,
        signed=signed.size if signed else None,
        verification=verified,
        needs=[
            *(needs if Permission.LEDGER_READ in held else []),
            *(_needs_of_keys(keys, now) if manages_keys else []),
            *(_needs_of_outbound(services, reader) if Permission.OUTBOUND_READ in held else []),
        ],
        steps=[
            Step("Make the first account", "", done=True),
            Step(
                "Make an API key",
                "Each service that asks or records has its own.",
                done=bool(keys),
                endpoint="console.api_keys" if manages_keys else None,
            ),
            Step(
                "Record what people chose",
                "From your forms through the API, or from a CRM's export. "
                "A dry run changes nothing.",
                done=size > 0,
                command="tutela import hubspot FILE --dry-run",
            ),
            Step(
                "Verify the ledger",
                "Recomputes everything, and compares it with all that was signed.",
                done=verified.last is not None,
                command="tutela ledger verify",
            ),
        ],
    )


def _needs_of_ledger(state: Verification, stale_before: datetime) -> list[Need]:
    page = "console.ledger"
    needs = []
    if state.last is not None and state.last.found:
        needs.append(
            Need(
                "The ledger does not verify",
                "History was changed or the database is damaged. Find out before anything else.",
                page,
                Tone.FAILED,
            )
        )
    if state.failed_at is not None:
        needs.append(
            Need(
                "The last verification broke off",
                "Nothing is known of the ledger since. Run it again.",
                page,
                Tone.FAILED,
            )
        )
    elif state.last is not None and state.last.at < stale_before:
        needs.append(
            Need(
                "The ledger was not verified for long",
                "Is a worker running? Verification is due regularly.",
                page,
                Tone.SOON,
            )
        )
    return needs


def _needs_of_keys(keys: Sequence[ApiKey], now: datetime) -> list[Need]:
    return [
        Need(
            f"The API key of {key.name} ends soon",
            "Make a new one and change over, or its service gets no answer.",
            "console.api_keys",
            Tone.SOON,
        )
        for key in keys
        if key.expires_at is not None and key.expires_at - now < ENDS_SOON
    ]


def _needs_of_outbound(services: Services, reader: Reader) -> list[Need]:
    return [
        Need(one.title, one.how, one.endpoint, one.tone)
        for one in outbound.troubles(services, reader)
    ]


def _people(reader: Reader) -> People:
    some = select(vault_person.c.ref).limit(COUNTED + 1).subquery()
    count = reader.execute(select(func.count()).select_from(some)).scalar_one()
    return People(min(count, COUNTED), more=count > COUNTED)
