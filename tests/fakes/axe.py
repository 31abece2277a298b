"""What axe finds on a page against WCAG 2.2 A and AA."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playwright.sync_api import Page

_AXE: Final = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: "Page") -> list[str]:
    """Each fault, with the element and what would mend it."""
    # After a press, the old page goes first and the style sheets of the new one come later.
    page.wait_for_load_state()
    page.wait_for_function(
        "[...document.querySelectorAll('link[rel=stylesheet]')].every(one => one.sheet)"
    )
    page.evaluate(_AXE.read_text(encoding="utf-8") + ";0")
    found = page.evaluate(
        """() => axe.run(document, {
            runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
            resultTypes: ["violations"],
            preload: false,
        })"""
    )
    return [
        f"{one['id']}: {node['html'][:150]}: {node['failureSummary'][:200]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
