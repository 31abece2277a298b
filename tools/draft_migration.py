"""Draft the next step of the tables from what the models have and the last step has not.

    python tools/draft_migration.py "What it does"

Read and correct what it writes: Alembic sees tables, columns and indexes, and neither data, nor
check constraints, nor that a column was renamed. `tests/migrations` says what is missing.
"""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main(message: str) -> None:
    """Write `governance/migrations/versions/vNNNN_….py`."""
    from alembic import command
    from alembic.config import Config

    import consent
    import governance
    from consent.models import metadata as consent_tables
    from governance.database import Database
    from governance.database import metadata as governance_tables
    from governance.migrations import runner

    for package in (consent, governance):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] == "models":
                import_module(module.name)
    known = (runner.FOLDER / "versions").glob("v[0-9]*_*.py")
    number = f"{len(list(known)) + 1:04}"
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/draft.db")
        if number != "0001":
            runner.upgrade(database)
        with database.begin() as session:
            config = Config(
                attributes={
                    "connection": session.connection(),
                    "metadata": [consent_tables, governance_tables],
                }
            )
            config.set_main_option("script_location", str(runner.FOLDER))
            config.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
            command.revision(config, message, autogenerate=True, rev_id=number)
        database.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
