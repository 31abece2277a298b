"""The tables of the operator log, in the form of `consent.models.log_tables`."""

from typing import Final

from consent.models import LogTables, log_tables
from governance.database import metadata

audit_log: Final[LogTables] = log_tables("audit", metadata)
"""Trusted for nothing: verification recomputes it, and compares it with what was signed."""
