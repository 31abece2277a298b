"""A word that stops always stops, however it is typed; and nothing else is ever taken for a yes."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from consent.keywords import MAX_TEXT, Meaning, read

STOPS = (
    "STOP",
    "STOPALL",
    "STOP ALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "REVOKE",
    "OPTOUT",
    "OPT-OUT",
    "OPT OUT",
    "REMOVE",
    "ARRET",
    "ARRÊT",
)
"""Those that a regulator or a carrier names."""
STARTS = ("START", "UNSTOP", "YES")
HELPS = ("HELP", "INFO")

NOISE = "".join(
    {
        chr(point)
        for point in range(0x3000)
        if unicodedata.category(chr(point)) in {"Zs", "Cf", "Po", "Pd", "Ps", "Pe", "Pc", "Cc"}
        and not unicodedata.normalize("NFKD", chr(point)).isalnum()
    }
)
noise = st.text(st.sampled_from(NOISE), max_size=3)


@st.composite
def typed(draw: st.DrawFn, words: tuple[str, ...]) -> str:
    """A word in any case, with anything between its letters that is no letter or digit."""
    letters = draw(st.sampled_from(words))
    return draw(noise) + "".join(
        draw(st.sampled_from([letter.upper(), letter.lower()])) + draw(noise) for letter in letters
    )


@given(typed(STOPS))
def test_a_stop_word_stops_in_any_case_with_any_spaces_and_punctuation(text: str) -> None:
    assert read(text).meaning is Meaning.STOP


@given(typed(STOPS), typed(STOPS))
def test_said_twice_it_stops_as_well(one: str, other: str) -> None:
    assert read(f"{one.strip()} {other.strip()}").meaning in {Meaning.STOP, Meaning.UNCLEAR}


@given(st.sampled_from(STARTS + HELPS), noise, noise)
def test_a_word_that_starts_or_asks_may_have_punctuation_around_it(
    word: str, before: str, after: str
) -> None:
    wanted = Meaning.START if word in STARTS else Meaning.HELP
    assert read(before + word.swapcase() + after).meaning is wanted


@given(st.text(max_size=40))
def test_whatever_is_typed_has_a_meaning_and_a_yes_is_one_word(text: str) -> None:
    reading = read(text)
    if reading.meaning is Meaning.START:
        assert len([word for word in text.split() if any(map(str.isalnum, word))]) == 1


@given(st.sampled_from(STARTS), st.sampled_from(("please", "stop", "no", "me", "?no", "2")))
def test_a_yes_with_anything_beside_it_is_no_yes(word: str, other: str) -> None:
    for text in (f"{word} {other}", f"{other} {word}"):
        assert read(text).meaning is not Meaning.START


def test_what_is_too_long_for_a_text_message_is_read_by_somebody() -> None:
    assert read("stop" + " " * MAX_TEXT).meaning is Meaning.UNCLEAR


def test_words_of_other_languages_are_answered_in_theirs() -> None:
    said = {"Arrêt !": "fr", "STOPP": "de", "Abmelden.": "de", "BAJA": "es", "stop": "en"}
    assert {text: read(text).language for text in said} == said
    assert all(read(text).meaning is Meaning.STOP for text in said)


def test_letters_that_only_look_alike_are_read_by_somebody() -> None:
    assert read("ST\u041eP").meaning is Meaning.UNCLEAR  # a Cyrillic O
    assert read("").meaning is Meaning.UNCLEAR
    assert read("please stop sending me these").meaning is Meaning.UNCLEAR
