"""What a file says as a whole: how many rows, who is who, who denies what. Pure."""

import hashlib
from dataclasses import dataclass, field

from consent.importer.people import Identities
from consent.importer.rows import Row
from consent.importer.statements import OptIn, Statement
from consent.subjects import Identifier
from policies.vocabulary import ANY


@dataclass(slots=True)
class Survey:
    """What the file says as a whole."""

    rows: int = 0
    digest: int = 0
    """Of the rows as a set: their order does not change it."""
    identities: Identities = field(default_factory=Identities)
    _denied: dict[Identifier, frozenset[tuple[str, str]]] = field(default_factory=dict)
    _kept: dict[frozenset[tuple[str, str]], frozenset[tuple[str, str]]] = field(
        default_factory=dict
    )
    """One object for all people who deny the same."""

    def learn(self, row: Row, statement: Statement) -> None:
        """Take in one row."""
        self.rows += 1
        content = "\x1f".join(row.cells).encode(errors="surrogateescape")
        self.digest += int.from_bytes(hashlib.sha256(content).digest(), "big")
        self.identities.learn(statement)
        places = frozenset(
            (denial.purpose, denial.channel) for denial in statement.denials if denial.at is None
        )
        if places:
            for identifier in statement.identifiers:
                denied = places | self._denied.get(identifier, frozenset())
                self._denied[identifier] = self._kept.setdefault(denied, denied)

    def export(self) -> bytes:
        """The digest as bytes."""
        return (self.digest % 2**256).to_bytes(32, "big")

    def contradicts(self, statement: Statement, opt_in: OptIn) -> bool:
        """Whether any row about the same person denies, from now on, what this one grants."""
        names = {*statement.identifiers}
        for one in statement.identifiers:
            names.update(self.identities.own_records(one))
        places = {
            (purpose, channel)
            for purpose in (opt_in.purpose, ANY)
            for channel in (opt_in.channel, ANY)
        }
        return any(not self._denied.get(name, frozenset()).isdisjoint(places) for name in names)
