"""Identifiers that must not be written to again, remembered when the people are gone.

Guarantees: a token is made under a key of its own, so that it cannot be matched with the vault's;
looking one up tells since when it is there, and makes nobody. To put it there again moves that
instant forward.

What a match means the callers decide: an import sets the row aside, and a person who is made under
such an identifier is recorded as objecting to everything since then (`consent.choices`): what they
say later themselves outweighs that, and no older grant does.

Retained personal data, said to be so: see `governance.vault.models` and docs/signals.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from consent import bulk
from consent.bulk import select_by_keys
from consent.choices import Followed
from consent.subjects import Identifier, Reader
from governance.errors import DecryptionError
from governance.keys.keyring import Keyring
from governance.vault.identify import Directory
from governance.vault.models import vault_suppression
from governance.vault.tokens import Tokens
from policies.periods import Period
from policies.vocabulary import ANY, ChoiceState, MarkState

REVIEW_AFTER: Final = Period.parse("P3Y")
"""How long a token stays before somebody has to find that it is still needed."""

_c = vault_suppression.c


class SuppressionCause(StrEnum):
    """Why somebody must not be written to again."""

    ERASURE = "erasure"
    """The person had their data erased; without this they would come back with the next list."""
    OBJECTION = "objection"
    """The person objected to everything, or is suppressed altogether."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How much is kept, for whoever has to account for it."""

    tokens: int
    due: int
    """How many are past the day on which somebody should have reviewed them."""


class Suppressions:
    """The list of those who must not be written to again. Shared by threads."""

    def __init__(self, keyring: Keyring) -> None:
        self._tokens = Tokens(keyring, "vault_suppression", "token")

    def suppressed(
        self, reader: Reader, identifiers: Sequence[Identifier]
    ) -> list[datetime | None]:
        """Since when each identifier is on the list, in their order; None where it is not."""
        tokens = [
            [] if identifier.kind == "ref" else self._tokens.of(identifier)
            for identifier in identifiers
        ]
        everyone = list({token for candidates in tokens for token in candidates})
        rows = select_by_keys(reader, _SELECT, everyone)
        instants = {token: _instant(stored) for token, stored in rows}
        return [
            max((instants[token] for token in candidates if token in instants), default=None)
            for candidates in tokens
        ]

    def register(
        self,
        session: Session,
        identifiers: Iterable[Identifier],
        cause: SuppressionCause,
        now: datetime,
    ) -> None:
        """Put identifiers on the list from now on. Those of kind `ref` are left out."""
        rows = {}
        for identifier in identifiers:
            if identifier.kind != "ref":
                index = self._tokens.indexes(identifier.kind)[0]
                token = self._tokens.of(identifier)[0]
                review = REVIEW_AFTER.after(now)
                rows[token] = (token, identifier.kind, index.version, cause.value, now, review)
        bulk.upsert(
            session, vault_suppression, [rows[token] for token in sorted(rows)], key=("token",)
        )

    def release(self, session: Session, identifiers: Iterable[Identifier]) -> None:
        """Take identifiers off the list again, because the person said so."""
        tokens = {
            token
            for identifier in identifiers
            if identifier.kind != "ref"
            for token in self._tokens.of(identifier)
        }
        select_by_keys(session, _DELETE, sorted(tokens))

    def kept(self, reader: Reader, now: datetime) -> Kept:
        """How much is kept, and how much of it is to be reviewed."""
        count = select(func.count()).select_from(vault_suppression)
        return Kept(
            reader.execute(count).scalar_one(),
            reader.execute(count.where(_c.review_at <= now)).scalar_one(),
        )


class ObjectionsRemembered:
    """Puts whoever objects to everything on the list, at once: a `Follower` of the recorder."""

    def __init__(self, suppressions: Suppressions, directory: Directory) -> None:
        self._suppressions = suppressions
        self._directory = directory

    def follow(self, session: Session, recorded: Sequence[Followed], now: datetime) -> None:
        """See `consent.choices.Follower`."""
        for one in recorded:
            event = one.event
            if event.channel != ANY or event.purpose != ANY:
                continue
            if event.state in {ChoiceState.OBJECTED, MarkState.SET}:
                named = self._named(session, one)
                self._suppressions.register(session, named, SuppressionCause.OBJECTION, now)
            elif event.state == MarkState.LIFTED:
                self._suppressions.release(session, self._named(session, one))

    def _named(self, session: Session, one: Followed) -> list[Identifier]:
        """All that we call the person; nothing may stand in the way of an objection."""
        try:
            known = self._directory.identifiers_of(session, [one.subject])[one.subject]
        except DecryptionError:
            known = []
        return [*known, one.command.subject]


def _instant(stored: datetime | str) -> datetime:
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored


_SELECT: Final = "SELECT token, since FROM vault_suppression WHERE token {keys}"
_DELETE: Final = "DELETE FROM vault_suppression WHERE token {keys} RETURNING token, since"
