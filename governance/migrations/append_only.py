"""Tables that can be added to and never changed. Used by steps: its SQL must stay as it is."""

from typing import Final

from alembic import op

_REFUSE: Final = """
    CREATE OR REPLACE FUNCTION tutela_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END $$
"""


def protect(table: str) -> None:
    """Make the database refuse UPDATE, DELETE and, where it exists, TRUNCATE on a table."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(_REFUSE)
    for verb, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {table}_refuses_{verb.split()[0].lower()} BEFORE {verb} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION tutela_refuse_change()"
        )
