"""Bring the privacy centre's catalogues up to date with the messages that its pages use.

    python tools/messages.py

New messages come in without words, those that no page uses go, the rest stays. A test fails until
every message has its words in every language: they are written by somebody who speaks it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
CENTRE = ROOT / "admin_ui" / "privacy_centre"
TEMPLATES = ROOT / "admin_ui" / "templates" / "privacy_centre"
LANGUAGES = ("de", "fr", "es")

JINJA = "jinja2.ext:babel_extract"
JINJA_OPTIONS = {"trim_blocks": "true", "lstrip_blocks": "true"}


def messages() -> Iterator[tuple[str, str, int]]:
    """Every message that the pages use, with file and line."""
    sources = [(file, "python") for file in sorted(CENTRE.glob("*.py"))]
    sources += [(file, JINJA) for file in sorted(TEMPLATES.glob("*.html"))]
    for file, method in sources:
        options = JINJA_OPTIONS if method == JINJA else {}
        keywords = {"_": None, "N_": None, "said": (1,)}
        for line, message, _, _ in extract_from_file(method, file, keywords, options=options):
            if not isinstance(message, str):
                raise SystemExit(f"{file}:{line}: a message is one sentence")
            yield message, str(file.relative_to(ROOT)), line


def main() -> int:
    """Rewrite the catalogues."""
    wanted = list(messages())
    for tag in LANGUAGES:
        file = CENTRE / "locale" / f"{tag}.po"
        known = Catalog(locale=tag)
        if file.exists():
            with file.open("rb") as stream:
                known = read_po(stream, locale=tag)
        renewed = Catalog(locale=tag, fuzzy=False, charset="utf-8")
        for message, _, _ in wanted:
            old = known.get(message)
            renewed.add(message, old.string if old is not None else "")
        with file.open("wb") as stream:
            write_po(stream, renewed, width=96, sort_output=True, omit_header=True)
        missing = sum(not one.string for one in renewed if one.id)
        print(f"{file.relative_to(ROOT)}: {missing} messages without words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
