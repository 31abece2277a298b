"""What people read in a proof bundle: the PDF, the pages of notices, the README. Pure.

The PDF is tagged (PDF/UA-1) and made of the same document that `proof.json` holds, so that the two
cannot differ. All text in it comes as data, never as markup. Its fonts are Typst's own; a text that
they cannot show is replaced by a sentence that says where to read it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import typst

from consent.notice_text import direction
from consent.notices import Words

_LAYOUT: Final = Path(__file__).with_name("proof_bundle.typ")
_UNREADABLE: Final = "(in letters that this document has no font for: see proof.json)"
_SHOWN_FOR_CERTAIN: Final = 0x250
"""The fonts have all letters of Latin scripts, below this code point."""


def pdf(proof: Mapping[str, Any], digest: str, made_at: datetime) -> bytes:
    """The proof as a document to read and print.

    Args:
        proof: what `proof.json` says.
        digest: the SHA-256 of `proof.json`, in hex.
        made_at: the document's date.
    """
    told = {**proof, "digest": digest}
    try:
        return _compiled(told, made_at)
    except typst.TypstError:
        return _compiled(_readable(told), made_at)


def _compiled(told: Any, made_at: datetime) -> bytes:
    made: bytes = typst.compile(
        _LAYOUT.read_bytes(),
        format="pdf",
        pdf_standards=["ua-1"],
        ignore_system_fonts=True,
        sys_inputs={"proof": json.dumps(told)},
        timestamp=int(made_at.timestamp()),
    )
    return made


def _readable(value: Any) -> Any:
    """The value, with each text that some letter might be missing for replaced."""
    if isinstance(value, str):
        return value if all(map(_is_shown, value)) else _UNREADABLE
    if isinstance(value, Mapping):
        return {_readable(name): _readable(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [_readable(inner) for inner in value]
    return value


def _is_shown(letter: str) -> bool:
    return letter in "\n\t" or (letter.isprintable() and ord(letter) < _SHOWN_FOR_CERTAIN)


def notice_page(words: Words) -> str:
    """The page that people were shown, as it was made when it was published, in one file."""
    return _PAGE.substitute(
        language=escape(words.language),
        direction=direction(words.language),
        title=escape(words.title),
        rendering=words.rendering,
    )


def readme(proof: Mapping[str, Any], vkey: str) -> str:
    """What the bundle is and how to check it."""
    return _README.substitute(
        purpose=proof["purpose"]["name"],
        channel=proof["channel"],
        ref=proof["subject"]["ref"],
        made_at=proof["made_at"],
        vkey=vkey,
        events=len(proof["events"]),
    )


_PAGE: Final = Template(
    """\
<!doctype html>
<html lang="$language" dir="$direction">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<meta name="color-scheme" content="light dark">
<title>$title</title>
</head>
<body>
<main>
$rendering
</main>
</body>
</html>
"""
)

_README: Final = Template(
    """\
PROOF OF ONE CONSENT

Person    $ref
Purpose   $purpose
Channel   $channel
Made      $made_at
Events    $events
Key       $vkey

What is here
    proof.pdf              to read and to print
    proof.json             the same for programs, with what each event disclosed
    notices/               the pages that the person was shown, as they were
    events/                for each event, its proof to be in the signed log
    vkey                   the public key of the log
    manifest.json          the SHA-256 of each file, signed with that key
    verify.py              checks all of this

How to check it
    1. Get the key from somewhere else: a contract, an audit, the organisation's
       own pages. Compare it with the one above. Whoever forges a bundle can put
       a key of their own into it.
    2. Copy verify.py to a machine that you trust, with Python 3.9 or later. It
       needs nothing else, and no network. Read it first: it is one file. Then:

           python3 -I verify.py --key KEY BUNDLE.zip

       It says OK, or names the file that is wrong.
    Other programs can check it, too: the formats are C2SP tlog-proof, RFC 9901
    digests, and a detached JWS (RFC 7515, Ed25519) over RFC 8785 JSON.

What it proves
    That these events were recorded in this order, as they stand here, and have
    not been changed since; which words were published under the name that each
    event gives; and that whoever holds the key says so.

What it does not prove
    That the person was who they said they were: look at the evidence for that.
    That no other event was left out: the log holds no names, so that a bundle
    cannot show it. The whole log can be verified by an auditor.
    What was not disclosed to you, such as evidence that names somebody, is
    there as a digest alone.

Whom it is for
    It is about one person. Hand it on only to those who need it, and delete it
    when they no longer do. If the person is erased later, this copy is not.
"""
)
