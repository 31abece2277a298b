"""The officer's how-to is held to the code."""

import re
from pathlib import Path

from consent.importer.outcomes import ImportReason, Outcome

TEXT = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")


def test_every_reason_and_outcome_is_explained_and_no_other() -> None:
    table = TEXT.partition("## Reasons")[2]
    assert set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table)) == set(ImportReason)
    assert set(re.findall(r"\*\*(\w+)\*\*", table)) == set(Outcome)
