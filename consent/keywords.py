"""What a text message means: stop, start, help, or something that a person has to read. Pure.

Sources: 47 CFR 64.1200(a)(10) and (12), in force since 2025-04-11: any reasonable means revokes
consent, and the words stop, quit, end, revoke, opt out, cancel and unsubscribe always do; CTIA
Messaging Principles (2023) for START, UNSTOP, YES and HELP; French, German and Spanish words are
those that carriers there prescribe (ARRET, STOP, BAJA) and those that people use beside them.

Guarantees: a word that stops does so in any case, with any spaces, punctuation, accents or
invisible characters in and around it. Words that start count only alone: what says anything more
is not taken for a yes. Whatever is neither is unclear, and never ignored.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

MAX_TEXT: Final = 4096
"""Characters. Ten concatenated segments of a text message have 1,530; more is not one."""


@unique
class Meaning(StrEnum):
    """What a text message asks for."""

    STOP = "stop"
    START = "start"
    HELP = "help"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Reading:
    """A message's meaning, and the language of its word, for the answer."""

    meaning: Meaning
    language: str


_STOP: Final = {
    "en": (
        "stop stopall unsubscribe cancel end quit revoke optout remove stopsms stoptexting "
        "stopmessages stopit stopplease pleasestop unsubscribeme removeme unsub"
    ),
    "fr": "arret arreter arretez stoppez desabonner desabonnement desinscription desinscrire",
    "de": "stopp abmelden abmeldung abbestellen austragen",
    "es": "baja parar alto cancelar detener",
}
_START: Final = {"en": "start unstop yes", "fr": "oui", "de": "ja", "es": "si alta"}
_HELP: Final = {"en": "help info", "fr": "aide", "de": "hilfe", "es": "ayuda"}


def _by_word(words: dict[str, str]) -> dict[str, str]:
    return {word: language for language, listed in words.items() for word in listed.split()}


_STOPS: Final = _by_word(_STOP)
_STARTS: Final = _by_word(_START)
_HELPS: Final = _by_word(_HELP)
_UNFOLDED: Final = str.maketrans({"ı": "i", "ø": "o", "ł": "l"})  # noqa: RUF001 - those letters


def read(text: str) -> Reading:
    """What a message means.

    Messages that are longer than any text message are unclear, whatever stands in them.
    """
    if len(text) > MAX_TEXT:
        return Reading(Meaning.UNCLEAR, "en")
    words = _words(text)
    # As if it were one word, so that neither `S.T.O.P` nor `opt - out` is missed.
    run_together = "".join(words)
    if run_together in _STOPS:
        return Reading(Meaning.STOP, _STOPS[run_together])
    if words and all(word in _STOPS for word in words):
        return Reading(Meaning.STOP, _STOPS[words[0]])
    if len(words) == 1:
        (word,) = words
        if word in _STARTS:
            return Reading(Meaning.START, _STARTS[word])
        if word in _HELPS:
            return Reading(Meaning.HELP, _HELPS[word])
    return Reading(Meaning.UNCLEAR, "en")


def _words(text: str) -> list[str]:
    """The words of a text: letters and digits, without case, accents or what cannot be seen."""
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_UNFOLDED)
    seen = (
        character
        for character in unicodedata.normalize("NFKD", folded)
        # Marks (accents, the dot of a Turkish i) and format characters (zero width, direction).
        if unicodedata.category(character)[0] != "M" and unicodedata.category(character) != "Cf"
    )
    return _NOT_A_WORD.sub(" ", "".join(seen)).split()


_NOT_A_WORD: Final = re.compile(r"[\W_]+")
