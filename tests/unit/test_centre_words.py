"""The words of the privacy centre: complete in every language, plain, and fair.

Rules of fairness that words can break: EDPB guidelines 03/2022 (stirring: emotional steering; left
in the dark: ambiguous wording), California 11 CCR 7004 (double negatives, shaming).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

import policies
from admin_ui.privacy_centre import choices
from admin_ui.privacy_centre.language import FOLDER, TAGS, catalogue_of
from policies.loader import load
from policies.vocabulary import Channel, Reason
from tools.messages import LANGUAGES, messages

PLACES = re.compile(r"%\(([a-z_]+)\)s")
USED = {message for message, _, _ in messages()}

# What pleads, shames, threatens or flatters. Whole words, in any case.
STEERING = {
    "en": (
        r"sorry|sad(ly)?|unfortunately|regret|miss(ing)? out|are you sure|really|lose|losing|"
        r"no thanks|please|exclusive|only for you|better experience|recommended|best|hurry|"
        r"last chance"
    ),
    "de": (
        r"schade|leider|traurig|bedauer\w*|verpass\w*|entgeh\w*|sind sie sicher|wirklich|"
        r"verlier\w*|bitte bleib\w*|exklusiv|nur für sie|empfohlen|am besten|letzte chance"
    ),
    "fr": (
        r"dommage|malheureusement|triste|regrett\w*|manque(r|z) |rate(r|z)|êtes-vous sûr\w*|"
        r"vraiment|perd(re|ez)|s.il vous plaît|exclusi\w*|recommandé|meilleure?|dernière chance"
    ),
    "es": (
        r"lástima|desgraciadamente|lamenta\w*|triste|perder\w*|se pierde|está segur\w*|de verdad|"
        r"por favor|exclusiv\w*|recomendado|mejor|última oportunidad"
    ),
}
# What denies. An answer's name (No, Nein) is none: it is what the sentence is about.
DENYING = {
    "en": r"not|never|nobody|nothing|none|without|cannot",
    "de": r"nicht|nie|niemand|nichts|kein\w*|ohne",
    "fr": r"ne|n(?=\W\w)|jamais|personne|rien|sans",
    "es": r"no|nunca|nadie|nada|ningún|ninguna|sin",
}
OF_CHOICES = sorted(
    {
        *choices.CHANNELS.values(),
        *choices._BASES.values(),
        *(message for _, message in choices._STANDING.values()),
        choices._ALLOWED[1],
        choices._NOT_ALLOWED[1],
        choices._ENDS,
        "Yes",
        "No",
        "Allow all",
        "Stop all optional uses",
        "Undo",
    }
)


def said(tag: str) -> dict[str, str]:
    """Each message in a language."""
    return dict(catalogue_of(tag)) or {message: message for message in USED}


def sentences(text: str) -> Iterator[str]:
    yield from (part for part in re.split(r"(?<=[.?!:])\s+|, ", text) if part)


# --- complete ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", LANGUAGES)
def test_every_message_has_its_words_and_no_words_are_left_over(tag: str) -> None:
    with (FOLDER / f"{tag}.po").open("rb") as stream:
        catalogue = read_po(stream, locale=tag, abort_invalid=True)
    stated = {str(one.id): one for one in catalogue if one.id}
    assert stated.keys() == USED, "run tools/messages.py, and write the words"
    assert [name for name, one in stated.items() if not one.string or one.fuzzy] == []
    assert not catalogue.obsolete


@pytest.mark.parametrize("tag", LANGUAGES)
def test_a_translation_has_the_places_of_its_message(tag: str) -> None:
    for message, words in said(tag).items():
        assert sorted(PLACES.findall(words)) == sorted(PLACES.findall(message)), message
        assert "%%" in words or "%" not in PLACES.sub("", words), words


def test_the_offered_languages_are_those_that_have_words() -> None:
    assert ("en", *LANGUAGES) == TAGS
    assert {file.stem for file in FOLDER.glob("*.po")} == set(LANGUAGES)


@pytest.mark.parametrize("tag", TAGS)
def test_messages_are_text_and_no_markup(tag: str) -> None:
    for words in said(tag).values():
        assert not set(words) & set("<>&\n"), words
        assert "  " not in words


def test_every_channel_and_every_reason_that_stays_has_a_sentence() -> None:
    assert choices.CHANNELS.keys() == set(Channel)
    said_otherwise = {
        Reason.CONTRACT,
        Reason.LEGAL_OBLIGATION,
        Reason.VITAL_INTERESTS,
        Reason.PUBLIC_TASK,
        Reason.LEGITIMATE_INTERESTS,
        Reason.PURPOSE_UNKNOWN,
        Reason.CHANNEL_NOT_COVERED,
        Reason.SUBJECT_UNKNOWN,
        Reason.STATE_UNREADABLE,
        Reason.DNC_LISTED,
        Reason.DNC_STALE,
        Reason.DNC_NUMBER_UNKNOWN,
    }
    assert choices._STANDING.keys() | said_otherwise == set(Reason)


# --- fair --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", TAGS)
def test_no_word_pleads_or_shames(tag: str) -> None:
    steering = re.compile(rf"\b(?:{STEERING[tag]})\b|!", re.IGNORECASE)
    library = load(Path(policies.__file__).parent / "library")
    texts = list(said(tag).values())
    for rule in library.purposes.values():
        words, _ = rule.worded(tag)
        texts += [words.name, words.description]
    assert [text for text in texts if steering.search(text)] == []


@pytest.mark.parametrize("tag", TAGS)
def test_no_sentence_about_a_choice_denies_twice(tag: str) -> None:
    denying = re.compile(rf"\b(?:{DENYING[tag]})\b")
    for message in OF_CHOICES:
        for sentence in sentences(said(tag)[message]):
            assert len(denying.findall(sentence)) <= 1, sentence


@pytest.mark.parametrize("tag", TAGS)
def test_yes_and_no_are_one_word_each(tag: str) -> None:
    for word in ("Yes", "No"):
        assert re.fullmatch(r"\w{2,4}", said(tag)[word])


@pytest.mark.parametrize("tag", TAGS)
def test_an_answer_is_called_the_same_wherever_it_is_spoken_of(tag: str) -> None:
    words = said(tag)
    for answer in ("Yes", "No"):
        name = re.compile(rf"\b{answer}\b")
        own = re.compile(rf"\b{words[answer]}\b")
        for message in USED:
            if name.search(message) and message not in _ABOUT_NOTHING_SAID:
                assert own.search(words[message]), (tag, message)


_ABOUT_NOTHING_SAID = {
    "No message? Look among unwanted mail. If you used another address with us, type that one.",
    "No notice has been published here yet.",
    "Demonstration: a fictional shop with fictional people. No message leaves this machine.",
}
