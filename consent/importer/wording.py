"""What people wrote into free text: where a consent comes from, who wants no more mail. Pure.

Asymmetric on purpose. What would allow something must be stated in full and without doubt; what
denies need only be recognisable. A phrase that is misread as a denial costs a message, and is
flagged for review; one that is overlooked costs a person's right.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from consent.choices import NoticeRef
from policies.vocabulary import ANY, Channel

_EARLIEST: Final = date(1990, 1, 1)
"""Before it lie the zero days of spreadsheets and computers (1899, 1900, 1904, 1970)."""

_QUOTED: Final = re.compile(r'"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»|»([^«]*)«')
_DATE: Final = re.compile(
    r"(?<![\w./-])(?:(?P<y>\d{4})(?P<isep>[-/])(?P<m>\d{1,2})(?P=isep)(?P<d>\d{1,2})"
    r"|(?P<a>\d{1,2})(?P<sep>[./])(?P<b>\d{1,2})(?P=sep)(?P<y2>\d{4}))"
    r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?![\w/-])",
    re.ASCII,
)
_VERSIONED: Final = re.compile(
    r"(?P<name>.*\w)[\s,_-]+v(?:ersion)?[.\s]*(?P<version>\d{1,9}(?:\.\d{1,9}){0,3})",
    re.IGNORECASE | re.ASCII,
)
_NO_NAME: Final = re.compile(r"[\W_]+")
_WORD: Final = re.compile(r"[^\W\d_]+")
# fmt: off
_SAYS_NO_SOURCE: Final = frozenset({
    "a", "agreed", "am", "an", "at", "auf", "aus", "by", "consent", "consented", "crm", "csv",
    "da", "date", "dated", "datum", "de", "default", "del", "den", "der", "di", "die", "du",
    "einwilligung", "el", "est", "excel", "export", "from", "fue", "given", "hubspot", "il",
    "import", "imported", "importiert", "in", "la", "le", "legacy", "los", "migration", "no",
    "none", "on", "opt", "opted", "optin", "par", "per", "por", "the", "unbekannt", "unknown",
    "via", "vom", "von", "was", "yes",
})
# fmt: on
_CONFIRMED: Final = re.compile(
    r"double[ -]opt[ -]?in ok (?P<day>\d{4}-\d{2}-\d{2})[T ](?P<time>\d{2}:\d{2}(?::\d{2})?)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a legal basis explanation states: when, where and under which words."""

    given_on: date | None
    source: str | None = field(repr=False)
    words: str | None = field(repr=False)


def read_explanation(text: str, today: date) -> Explanation:
    """The date, source and words in an explanation such as `web form 2021-04-02 "Newsletter v2"`.

    Words are what stands in quotation marks. The date stands outside of them, and is the only one
    there; `2021-04-02`, `02.04.2021` and `04/22/2021` are dates, `03/04/2022` may be two days and
    is none, nor is one to come. The source is what is left, if it says anything.
    """
    quoted = ["".join(groups).strip() for groups in _QUOTED.findall(text)]
    words = " … ".join(one for one in quoted if _WORD.search(one))
    outside = _QUOTED.sub(" ", text)
    days = [_day(match) for match in _DATE.finditer(outside)]
    given_on = days[0] if len(set(days)) == 1 else None
    if given_on is not None and not _EARLIEST <= given_on <= today:
        given_on = None
    source = " ".join(_DATE.sub(" ", outside).split()).strip(" ,;:.()-")
    return Explanation(given_on, source if tells(source) else None, words or None)


def notice_of(words: str) -> NoticeRef:
    """The notice that quoted words name: `Privacy notice v2` is version `2` of `privacy-notice`.

    In the form in which policies name notices, so that a material change reaches imported grants.
    Other words name no notice, and are kept as evidence. The language is not known (`und`).
    """
    match = _VERSIONED.fullmatch(words)
    name = _NO_NAME.sub("-", match["name"].casefold()).strip("-") if match else ""
    if match is None or not 0 < len(name) <= 64:
        return NoticeRef("quoted_words", "unversioned", "und")
    return NoticeRef(name, match["version"], "und")


def confirmed_at(note: str) -> datetime | None:
    """When a note says that a double opt-in was completed, read as UTC."""
    match = _CONFIRMED.search(note)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(f"{match['day']}T{match['time']}").replace(tzinfo=UTC)
    except ValueError:
        return None


def objection_in(note: str) -> tuple[str, str] | None:
    """The channel that a note says is unwanted, `*` for all, and the phrase that says so."""
    text = _plain(note)
    for channel, phrases in _UNWANTED:
        match = phrases.search(text)
        if match is not None:
            return channel, match[0]
    return None


def _day(match: re.Match[str]) -> date | None:
    """The day that a match means; None if there is none, or two readings of it."""
    if match["y"]:
        year, month, day = int(match["y"]), int(match["m"]), int(match["d"])
    else:
        year, day, month = int(match["y2"]), int(match["a"]), int(match["b"])
        # Dots are the German form, day first. Slashes are American or European: one must not fit.
        if match["sep"] == "/" and day != month:
            if day <= 12 and month <= 12:
                return None
            if month > 12:
                day, month = month, day
    try:
        return date(year, month, day)
    except ValueError:
        return None


def tells(source: str) -> bool:
    """Whether anything is left of a source without the words that point at none."""
    words = [word for word in _WORD.findall(source.casefold()) if word not in _SAYS_NO_SOURCE]
    return len("".join(words)) >= 2


def _plain(text: str) -> str:
    """Case, accents, dashes, apostrophes and spaces made alike; `|` where a clause ends."""
    text = text.casefold()
    if not text.isascii():
        letters = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(_BETWEEN.sub(" ", _CLAUSE_END.sub(" | ", text)).split())


_CLAUSE_END: Final = re.compile(r"[.,;:!?()\n]+")
_BETWEEN: Final = re.compile(r"[^\w|]+|_+")


def _phrases(*forms: str) -> re.Pattern[str]:
    """Any of the forms, as whole words. `~` stands for up to three words in between."""
    mail = (
        r"(?:(?:e ?)?mail(?:s|ings?)?|news ?letters?|correos?(?: electronicos?)?|courriels?"
        r"|nieuwsbrie(?:f|ven))"
        # To have no address is no objection.
        r"(?! (?:ad+ress?\w*|adres|direccion|indirizzo|endereco|on file|known|given))"
    )
    alternatives = (form.replace("MAIL", mail).replace("~ ", r"(?:\w+ ){0,3}") for form in forms)
    return re.compile("|".join(rf"\b{form}\b" for form in alternatives))


# In the form that `_plain` gives: no accents, dashes or apostrophes.
_UNWANTED: Final = (
    (
        ANY,
        _phrases(
            r"(?:do not|don t|never) (?:be )?contact(?:ed)?",
            r"no (?:more |further )?contact",
            r"(?:no|stop|against) (?:more |any |direct )?(?:marketing|advertising)(?! MAIL)",
            r"nicht (?:mehr )?kontaktieren",
            r"kein(?:e[nr]?)? (?:weitere[nr]? )?(?:kontakt|werbung)",
            r"werbewiderspruch",
            r"(?:plus|pas) (?:\w+ )?contacter",
            r"(?:plus|pas) de (?:publicite|prospection|demarchage)",
            r"no (?:volver a )?contactar",
            r"no quiere (?:mas )?publicidad",
            r"non contattare",
            r"nao contatar",
            r"niet (?:meer )?(?:contacteren|benaderen)",
        ),
    ),
    (
        Channel.EMAIL.value,
        _phrases(
            r"no (?:more |longer |further |any |marketing |promotional |such )*MAIL",
            r"(?:not|t|never|longer) (?:want|wish|like|accept|send|be sent|receive)s? ~ MAIL",
            r"(?:do not|don t|never|not to) (?:e ?)?mail",
            r"(?:stop|against|refuse[sd]?|decline[sd]?) ~ (?:MAIL|e ?mailing)",
            r"opt(?:s|ed|ing)? ?out",
            r"unsubscri(?:be[sd]?|bing|ption)",
            r"remove[sd]? ~ (?:mailing|distribution|e ?mail) list",
            r"kein(?:e[nr]?)? (?:weiteren? |mehr )?MAIL",
            r"MAIL (?:abbestell\w*|abgemeldet|unerwunscht|nicht (?:mehr )?(?:erwunscht|gewunscht))",
            r"(?:abbestell|abgemeldet|ausgetragen)\w*",
            r"widerspr(?:uch|ochen|icht)",
            r"nicht (?:mehr )?(?:anschreiben|anmailen)",
            r"(?:plus|pas|aucun) (?:de |d )?(?:recevoir ~ )?MAIL",
            r"des(?:abonn|inscri)\w*",
            r"no (?:mas|quiere|desea|enviar|mandar|recibir) ~ MAIL",
            r"(?:dar|darse|dado|dada|dio) de baja",
            r"(?:niente|nessuna) MAIL",
            r"non vuole ~ MAIL",
            r"disiscri\w*",
            r"(?:nao quer|chega de) ~ MAIL",
            r"descadastr\w*",
            r"geen (?:\w+ )?MAIL",
            r"afgemeld|uitgeschreven",
        ),
    ),
)
