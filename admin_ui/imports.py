"""Runs an import for the command line: fingerprints, progress, an outcome for every row."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from consent.importer.outcomes import RowReport, RowResult, Summary
from consent.importer.run import HubSpotImport
from governance.audit.trail import CLI
from governance.keys.blind_index import BlindIndex

if TYPE_CHECKING:
    from admin_ui.services import Services


def import_hubspot(
    services: "Services",
    file: Path,
    *,
    dry_run: bool,
    report: Path | None,
    progress: Callable[[int, int], None],
) -> Summary:
    """Import a HubSpot export; see `consent.importer.run` for what it promises and raises."""
    # The oldest root, so that a fact keeps its id when newer ones are made.
    root = min(services.keyring.index_roots, key=lambda one: one.version)
    index = BlindIndex(root, "consent_event", "id", "import")
    run = HubSpotImport(
        services.writer,
        services.directory,
        services.policies,
        lambda content: index.token(content.hex()),
        services.clock,
        services.database.begin,
        services.database.read,
    )
    with ExitStack() as stack:
        told: dict[str, Callable[[RowResult], None]] = {}
        if report is not None:
            written = stack.enter_context(report.open("w", encoding="utf-8", newline=""))
            told["report"] = RowReport(written)
        return run.run(file, dry_run=dry_run, progress=progress, actor=str(CLI), **told)
