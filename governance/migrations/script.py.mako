"""${message}."""

import sqlalchemy as sa
from alembic import op

from consent.columns import Bytes, Ref, UtcDateTime

revision = "${up_revision}"
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Take the step."""
    ${upgrades}
