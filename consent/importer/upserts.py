"""Inserting where the same row may be there already, on either engine."""

from typing import TypeAlias

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

Insertion: TypeAlias = postgresql.Insert | sqlite.Insert


def insertion(session: Session, table: Table) -> Insertion:
    """An INSERT of the engine's own, which knows ON CONFLICT."""
    dialect = session.get_bind().dialect.name
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
