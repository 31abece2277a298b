"""The words of a notice: plain text with a little structure, and the page it makes. Pure.

The text is a small part of Markdown: `## Heading`, `### Smaller`, lists of lines that begin with
`- ` or `1. `, `**bold**`, `[label](https://…)`, an empty line between paragraphs. All else is
what it looks like: there is no HTML in it, and none comes out but what this module writes.

Guarantees: one text has one spelling (`normalised`), so that its hash means something; no
character that hides or reorders others gets in; a rendering holds no script, style, form or
address but `https:`, `http:`, `mailto:`, `tel:` and paths of the same site.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Final, TypeAlias

from consent.errors import ConsentError
from policies.model import Controller

MAX_TEXT: Final = 40_000
"""Characters in a text."""
MAX_LINE: Final = 200
"""Characters in a title, or in the name of a recipient."""
MAX_RECIPIENTS: Final = 100

_TAG: Final = re.compile(r"[a-z]{2,3}(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?", re.ASCII)
_NO_LANGUAGE: Final = frozenset({"und", "mul", "zxx", "mis"})
_FROM_THE_RIGHT: Final = frozenset(
    {"ar", "ckb", "dv", "fa", "he", "ku", "nqo", "ps", "sd", "syr", "ug", "ur", "yi"}
)
_SCRIPTS_FROM_THE_RIGHT: Final = frozenset({"Arab", "Hebr", "Thaa", "Syrc", "Nkoo", "Adlm"})
_HEADING: Final = re.compile(r"(#{1,3}) +(.+)")
_BULLET: Final = re.compile(r"[-*] +(.+)")
_NUMBERED: Final = re.compile(r"\d{1,3}[.)] +(.+)", re.ASCII)
_INLINE: Final = re.compile(r"\*\*(?=\S)(.{1,500}?)(?<=\S)\*\*|\[([^\[\]]+)\]\(([^()\s]+)\)")
_ADDRESS: Final = re.compile(
    r"https?://[a-z0-9.-]+(?::\d{1,5})?(?:[/?#][\x21-\x7e]*)?"
    r"|mailto:[a-z0-9._+-]+@[a-z0-9.-]+|tel:\+?[0-9-]{3,20}|/(?![/\\])[\x21-\x7e]*",
    re.ASCII | re.IGNORECASE,
)

# What the GDPR itself says in its Article 4(7) and (9), in the language of the notice.
_TERMS: Final = {
    "da": ("Dataansvarlig", "Modtagere"),
    "de": ("Verantwortlicher", "Empfänger"),
    "en": ("Controller", "Recipients"),
    "es": ("Responsable del tratamiento", "Destinatarios"),
    "fr": ("Responsable du traitement", "Destinataires"),
    "it": ("Titolare del trattamento", "Destinatari"),
    "nl": ("Verwerkingsverantwoordelijke", "Ontvangers"),
    "pl": ("Administrator", "Odbiorcy"),
    "pt": ("Responsável pelo tratamento", "Destinatários"),
    "sv": ("Personuppgiftsansvarig", "Mottagare"),
}
_ENGLISH: Final = "en"

_Writer: TypeAlias = Callable[[Sequence[str]], str]


class InvalidNoticeError(ConsentError):
    """A notice cannot be published or saved as it stands. `fields` says what is wrong where."""

    code = "NOTICE_INVALID"

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields: Final = dict(fields or {})


# --- text --------------------------------------------------------------------------------------


def normalised(text: str) -> str:
    """The one spelling of a text: NFC, lines between line feeds, no space at their ends, none empty
    at the text's ends, and no more than one empty between others.

    Raises:
        InvalidNoticeError: a character in it is not text, or reorders others invisibly.
    """
    unified = unicodedata.normalize("NFC", _LINE_ENDS.sub("\n", text))
    if any(_is_refused(character) for character in unified):
        raise InvalidNoticeError(
            "a character in it cannot be shown, or changes the order of others unseen"
        )
    lines = [line.strip().replace("\t", " ") for line in unified.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _is_refused(character: str) -> bool:
    if character in "\n\t":
        return False
    # Controls, surrogates, what has no meaning (yet), the overrides of direction, and tags, which
    # can hide a whole text in another.
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Cn", "Co"}
        or character in _OVERRIDES
        or "\U000e0000" <= character <= "\U000e0fff"
    )


_LINE_ENDS: Final = re.compile("\r\n|[\r\u2028\u2029]")
_OVERRIDES: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def one_line(text: str) -> str:
    """The one spelling of a title or a name: as `normalised`, with single spaces.

    Raises:
        InvalidNoticeError: as `normalised`.
    """
    return " ".join(normalised(text).split())


def fingerprint(text: str) -> str:
    """`sha256:` and the SHA-256 of the text's UTF-8 bytes, all of them and no more."""
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def sections(text: str) -> int:
    """How many headings a text has: as many in every language, or something was left out."""
    return sum(_HEADING.fullmatch(line) is not None for line in text.split("\n"))


# --- languages ---------------------------------------------------------------------------------


def language_tag(tag: str) -> str:
    """A language with, if need be, script and region, in the usual spelling: `pt-BR`, `zh-Hans`.

    Raises:
        InvalidNoticeError: it is no BCP 47 tag of that form, or names no language.
    """
    language, *others = tag.casefold().split("-")
    if _TAG.fullmatch(tag.casefold()) is None or language in _NO_LANGUAGE:
        raise InvalidNoticeError("this is no language tag such as en, de-AT or zh-Hans")
    spelled = [part.title() if len(part) == 4 else part.upper() for part in others]
    return "-".join([language, *spelled])


def direction(language: str) -> str:
    """`rtl` for a language that is written from the right, else `ltr`."""
    own, _, rest = language.partition("-")
    script = rest[:4]
    if script in _SCRIPTS_FROM_THE_RIGHT:
        return "rtl"
    from_the_right = own in _FROM_THE_RIGHT and not (len(script) == 4 and script.isalpha())
    return "rtl" if from_the_right else "ltr"


# --- the page ----------------------------------------------------------------------------------


def render(
    *,
    language: str,
    title: str,
    text: str,
    recipients: Sequence[str],
    controller: Controller,
) -> str:
    """The page that people see: title, text, who is responsible and who receives the data.

    A piece of HTML that stands in a page under a first heading: the title is an `h2`.
    """
    terms = _TERMS.get(language.partition("-")[0])
    mark = "" if terms else f' lang="{_ENGLISH}" dir="ltr"'
    responsible, received_by = terms or _TERMS[_ENGLISH]
    known = [
        one
        for one in (
            controller.name,
            controller.address,
            controller.contact,
            controller.privacy_officer,
            controller.representative,
        )
        if one
    ]
    return "\n".join(
        [
            f'<article class="notice" lang="{escape(language)}" dir="{direction(language)}">',
            f"<h2>{escape(title)}</h2>",
            *_blocks(text),
            "<dl>",
            f"<dt{mark}>{escape(responsible)}</dt>",
            *(f"<dd>{escape(one)}</dd>" for one in known),
            f"<dt{mark}>{escape(received_by)}</dt>",
            *(f"<dd>{escape(one)}</dd>" for one in recipients),
            "</dl>",
            "</article>",
        ]
    )


def _blocks(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        lines = block.split("\n")
        while lines:
            kind, count = _block_at_head(lines)
            taken, lines = lines[:count], lines[count:]
            yield kind(taken)


def _block_at_head(lines: Sequence[str]) -> tuple[_Writer, int]:
    """What begins with the first line, and how many lines belong to it."""
    if _HEADING.fullmatch(lines[0]):
        return _heading, 1
    for form, writer in ((_BULLET, _bullets), (_NUMBERED, _numbers)):
        length = _run(lines, form)
        if length:
            return writer, length
    plain = 1
    while plain < len(lines) and not _begins(lines[plain]):
        plain += 1
    return _paragraph, plain


def _run(lines: Sequence[str], form: re.Pattern[str]) -> int:
    length = 0
    while length < len(lines) and form.fullmatch(lines[length]):
        length += 1
    return length


def _begins(line: str) -> bool:
    return any(form.fullmatch(line) for form in (_HEADING, _BULLET, _NUMBERED))


def _heading(lines: Sequence[str]) -> str:
    found = _HEADING.fullmatch(lines[0])
    marks, words = found.groups() if found else ("#", lines[0])
    level = 4 if len(marks) == 3 else 3
    return f"<h{level}>{_inline(words)}</h{level}>"


def _bullets(lines: Sequence[str]) -> str:
    return _list("ul", lines, _BULLET)


def _numbers(lines: Sequence[str]) -> str:
    first = int(lines[0].partition(" ")[0].rstrip(".)"))
    return _list("ol" if first == 1 else f'ol start="{first}"', lines, _NUMBERED)


def _list(element: str, lines: Sequence[str], form: re.Pattern[str]) -> str:
    items = [_inline(form.sub(r"\1", line)) for line in lines]
    end = element.partition(" ")[0]
    return f"<{element}>{''.join(f'<li>{item}</li>' for item in items)}</{end}>"


def _paragraph(lines: Sequence[str]) -> str:
    return f"<p>{'<br>'.join(_inline(line) for line in lines)}</p>"


def _inline(text: str) -> str:
    """Bold words and links; everything else as text."""
    parts, at = [], 0
    for found in _INLINE.finditer(text):
        bold, label, address = found.groups()
        parts.append(escape(text[at : found.start()]))
        if bold is not None:
            parts.append(f"<strong>{escape(bold)}</strong>")
        elif _ADDRESS.fullmatch(address):
            parts.append(f'<a href="{escape(address)}" rel="noreferrer">{escape(label)}</a>')
        else:
            parts.append(escape(found.group()))
        at = found.end()
    return "".join([*parts, escape(text[at:])])
