"""What imports need from the layer that holds keys: to seal what is kept of a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.orm import Session

from consent.subjects import Reader


class Sealer(Protocol):
    """Seals JSON documents under the key of a person, or of a thing that is nobody's."""

    def seal(
        self, session: Session, owner: str, row: str, document: dict[str, Any], now: datetime
    ) -> bytes:
        """Seal a document in a row, under the owner's key, which is made if there is none."""

    def open(self, reader: Reader, owner: str, row: str, sealed: bytes) -> dict[str, Any] | None:
        """The document; None if the key was destroyed."""

    def destroy(self, session: Session, thing: str) -> None:
        """Destroy the key that was made for one thing alone."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A row as it is kept sealed."""

    cells: list[str] = field(repr=False)
    damage: str | None = None
    shared: bool = False
    """Whether the file says of it that it is about several people."""
    supplied: dict[str, Any] = field(default_factory=dict, repr=False)
    """What officers have added so far."""

    def document(self) -> dict[str, Any]:
        """The form in which it is sealed. Bytes that are no text survive in JSON's escapes."""
        return {
            "cells": texts(self.cells),
            "damage": self.damage,
            "shared": self.shared,
            "supplied": self.supplied,
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> "SealedRow":
        """The row of a sealed document."""
        return cls(
            texts_of(document["cells"]),
            document["damage"],
            document["shared"],
            document["supplied"],
        )


def texts(values: Sequence[str]) -> str:
    """Texts as one that is ASCII, so that lone surrogates, too, can be sealed."""
    return json.dumps(list(values))


def texts_of(packed: str) -> list[str]:
    """The texts again."""
    values: list[str] = json.loads(packed)
    return values
