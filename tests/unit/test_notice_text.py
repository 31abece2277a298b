"""The words of a notice: one spelling, and a page that holds nothing but words."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.notice_text import (
    InvalidNoticeError,
    direction,
    fingerprint,
    language_tag,
    normalised,
    one_line,
    render,
    sections,
)
from policies.model import Controller

SHOP = Controller("shop", "Shop & Sons", "Way 1", "DE", "mail@shop.example", "The officer")
ALLOWED = {
    *("article", "h2", "h3", "h4", "p", "br", "ul", "ol", "li", "strong", "a", "dl", "dt", "dd")
}


def page(text: str, **more: Any) -> str:
    stated: dict[str, Any] = {
        "language": "en",
        "title": "Privacy",
        "recipients": ["The post"],
        "controller": SHOP,
    }
    return render(text=normalised(text), **(stated | more))


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the page ----------------------------------------------------------------------------------


def test_structure_becomes_elements() -> None:
    made = page(
        "First **bold** line\nsecond line\n\n## Heading\n- one\n- [two](https://a.example/?b=1&c)\n"
        "\n### Smaller\n3. three\n4. four\nafter"
    )
    assert made == (
        '<article class="notice" lang="en" dir="ltr">\n'
        "<h2>Privacy</h2>\n"
        "<p>First <strong>bold</strong> line<br>second line</p>\n"
        "<h3>Heading</h3>\n"
        '<ul><li>one</li><li><a href="https://a.example/?b=1&amp;c" rel="noreferrer">two</a></li>'
        "</ul>\n"
        "<h4>Smaller</h4>\n"
        '<ol start="3"><li>three</li><li>four</li></ol>\n'
        "<p>after</p>\n"
        "<dl>\n"
        "<dt>Controller</dt>\n"
        "<dd>Shop &amp; Sons</dd>\n"
        "<dd>Way 1</dd>\n"
        "<dd>mail@shop.example</dd>\n"
        "<dd>The officer</dd>\n"
        "<dt>Recipients</dt>\n"
        "<dd>The post</dd>\n"
        "</dl>\n"
        "</article>"
    )


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert`1`)",
        "[x](data:text/html,<script>)",
        "[x](//evil.example/)",
        "[x](/\\evil.example/)",
        '[x](https://a.example/"onmouseover="alert1)',
        "[<b>x</b>](https://a.example/)",
        "**<i>x</i>**",
        "## <h1>x</h1>",
        "- <li>x",
        "</article><form action=https://evil.example>",
        "&lt;script&gt;",
        "<!-- x --><![CDATA[x]]>",
        "[x](https://user:secret@evil.example/)",
    ],
)
def test_nothing_typed_becomes_an_element_of_its_own(text: str) -> None:
    for made in (page(text), page("x", title=text), page("x", recipients=[text])):
        found = Elements(made)
        assert found.names <= ALLOWED
        for tag, name, value in found.attributes:
            assert (tag, name) in {
                ("article", "class"),
                ("article", "lang"),
                ("article", "dir"),
                ("a", "href"),
                ("a", "rel"),
            }
            if name == "href":
                assert value is not None
                assert re.match(r"https://a\.example/", value)


@given(text=st.text(alphabet="ab <>&\"'*_#-1.)([]/:\n\\!\u05d0\u202e", max_size=200))
def test_any_text_makes_a_page_of_these_elements_that_says_all_of_it(text: str) -> None:
    try:
        spelled = normalised(text)
    except InvalidNoticeError:
        assert "\u202e" in text
        return
    found = Elements(page(text))
    assert found.names <= ALLOWED
    assert found.open == []
    # No letter is lost, and none is added but in what the page says itself.
    letters = [letter for letter in found.text if letter in "ab\u05d0"]
    own = [letter for letter in Elements(page("")).text if letter in "ab\u05d0"]
    linked = sum(
        sum(letter in "ab\u05d0" for letter in value or "")
        for _, name, value in found.attributes
        if name == "href"
    )
    typed = [letter for letter in spelled if letter in "ab\u05d0"]
    assert len(letters) - len(own) + linked == len(typed)


def test_a_page_is_written_in_its_direction_and_marks_words_of_another_language() -> None:
    arabic = page("نص", language="ar", title="إشعار")
    assert arabic.startswith('<article class="notice" lang="ar" dir="rtl">')
    assert '<dt lang="en" dir="ltr">Controller</dt>' in arabic
    assert "<dt>Verantwortlicher</dt>" in page("x", language="de-AT")


def test_headings_are_counted_the_same_in_every_language() -> None:
    assert sections("## A\ntext\n### B\n# C\n#none\n####none") == 3


# --- one spelling ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a\n\nb",
        "a\r\n\r\nb",
        "a\r\rb",
        "a\n\nb\n",
        "\n\na\n\n\n\nb\r\n\r\n",
        "a  \n \t \n  b\u00a0",
        "a\u2029\u2029b",
    ],
)
def test_one_text_has_one_hash_however_its_lines_end(text: str) -> None:
    assert normalised(text) == "a\n\nb"
    assert fingerprint(normalised(text)) == fingerprint("a\n\nb")


def test_the_hash_is_of_exactly_the_bytes() -> None:
    assert fingerprint("a") == (
        "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    )
    assert fingerprint("a") != fingerprint("a\n")
    assert normalised("e\u0301") == "\u00e9"
    assert one_line(" a \n b\t c ") == "a b c"


@given(text=st.text(max_size=200))
def test_spelling_again_changes_nothing(text: str) -> None:
    try:
        spelled = normalised(text)
    except InvalidNoticeError:
        return
    assert normalised(spelled) == spelled
    assert spelled.encode().decode() == spelled


@pytest.mark.parametrize(
    "character",
    ["\0", "\x1b", "\x7f", "\x85", "\u202e", "\u2066", "\ufeff", "\ud800", "\U000e0041", "\ue000"],
)
def test_characters_that_hide_or_reorder_are_refused(character: str) -> None:
    with pytest.raises(InvalidNoticeError):
        normalised(f"a{character}b")


def test_joiners_and_marks_of_direction_that_languages_need_stay() -> None:
    assert normalised("\u0645\u06cc\u200c\u062e \u200f!") == "\u0645\u06cc\u200c\u062e \u200f!"


# --- languages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("en", "en"),
        ("DE-at", "de-AT"),
        ("zh-hANS-cn", "zh-Hans-CN"),
        ("es-419", "es-419"),
        ("gsw", "gsw"),
    ],
)
def test_a_language_has_one_spelling(typed: str, spelled: str) -> None:
    assert language_tag(typed) == spelled


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "",
            "e",
            "english",
            "en_US",
            "en-",
            "-en",
            "en\n",
            " en",
            "und",
            "mul",
            "zxx",
            "x-pirate",
        ),
        *("en-x-twain", "de-1996", "i-klingon", "en-US-posix", "\uff45\uff4e", "\u0130t"),
    ],
)
def test_what_is_no_language_is_refused(typed: str) -> None:
    with pytest.raises(InvalidNoticeError):
        language_tag(typed)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        *(("en", "ltr"), ("ar", "rtl"), ("he-IL", "rtl"), ("az-Arab", "rtl"), ("ku-Latn", "ltr")),
        *(("fa-AF", "rtl"), ("de-AT", "ltr")),
    ],
)
def test_direction_follows_script_and_language(language: str, expected: str) -> None:
    assert direction(language) == expected
