"""A process that imports a file and may be killed: `python -m tests.fakes.import_node URL …`."""

import sys
from pathlib import Path

from admin_ui.imports import Imports
from admin_ui.services import build
from admin_ui.settings import Settings
from consent.importer.plan import Kind
from governance.audit.trail import CLI
from tests.fakes.clock import FrozenClock


def main(url: str, folder: str, file: str) -> None:
    """Import in small batches; a line of output for each that is committed."""
    settings = Settings(data_dir=Path(folder), database_url=url, log_origin="example.com/log")
    services = build(settings, FrozenClock(), fast_passwords=True)

    def tell(done: int, total: int) -> None:
        sys.stdout.write(f"{done} of {total}\n")
        sys.stdout.flush()

    Imports(services, batch=5).import_file(
        Path(file),
        Kind.SALESFORCE,
        None,
        encoding=None,
        dry_run=False,
        report=None,
        progress=tell,
        actor=CLI,
    )
    services.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
