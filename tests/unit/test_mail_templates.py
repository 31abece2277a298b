"""The words of mails: the same in text and HTML, and facts that cannot become anything else."""

import pytest

from governance.outbound.errors import InvalidMailError
from governance.outbound.templates import MailKind, MailKinds, Words

KIND = MailKind(
    "test.link",
    {
        "en": Words(
            "Hello {name}",
            """
            Dear {name}, you asked for a link & a code.

            {link}

            {code}
            """,
        ),
        "ar": Words("مرحبا {name}", "{name}\n\n{link}\n\n{code}"),
        "pt-BR": Words("Olá {name}", "{name}\n\n{link}\n\n{code}"),
    },
)
KINDS = MailKinds([KIND])
FACTS = {"name": "Ada", "link": "https://example.com/p/1?a=b&c=d", "code": "12 34"}


def write(language: str = "en", **facts: str) -> tuple[str, str, str]:
    written = KINDS.write("test.link", language, FACTS | facts)
    return written.subject, written.text, written.html


def test_text_and_html_say_the_same() -> None:
    subject, text, html = write()
    assert subject == "Hello Ada"
    assert text == (
        "Dear Ada, you asked for a link & a code.\n\nhttps://example.com/p/1?a=b&c=d\n\n12 34\n"
    )
    address = "https://example.com/p/1?a=b&amp;c=d"
    assert f'<a href="{address}">{address}</a>' in html
    assert "<p>Dear Ada, you asked for a link &amp; a code.</p>" in html
    assert '<strong dir="auto">12 34</strong>' in html
    assert '<html lang="en" dir="ltr">' in html


def test_opening_a_mail_loads_nothing_from_anywhere() -> None:
    _, _, html = write()
    without_links = html.replace("https://example.com/p/1?a=b&amp;c=d", "")
    assert "http" not in without_links
    for word in ("<img", "<link", "<script", "src=", "url(", "style"):
        assert word not in html


@pytest.mark.parametrize(
    "fact",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{link}",
        "{0}",
        "{name.__class__}",
        "&lt;b&gt;",
    ],
)
def test_a_fact_is_text_and_nothing_else(fact: str) -> None:
    subject, text, html = write(name=fact, code=fact)
    assert subject == f"Hello {fact}"
    assert f"Dear {fact}, you" in text
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("<a ") == 1


def test_a_fact_cannot_begin_a_line_of_its_own() -> None:
    subject, text, html = write(
        name="Ada\r\nBcc: eve@example.org\n\nSee https://evil.example", code="1\u2028\u202e2"
    )
    assert "\r" not in subject + text
    assert "\n" not in subject
    assert text.count("\n\n") == 2
    assert html.count("<p") == 3
    assert "\u202e" not in text + html
    assert "\u2028" not in text + html


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "//evil.example"])
def test_only_an_address_on_the_web_becomes_a_link(link: str) -> None:
    assert "<a " not in write(link=link)[2]


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        ("en", "Hello Ada"),
        ("ar", "مرحبا Ada"),
        ("ar-EG", "مرحبا Ada"),
        ("pt-BR", "Olá Ada"),
        ("pt", "Hello Ada"),
        ("xx", "Hello Ada"),
    ],
)
def test_the_nearest_language_is_taken(asked: str, subject: str) -> None:
    assert write(asked)[0] == subject


def test_a_right_to_left_language_is_marked_as_one() -> None:
    assert '<html lang="ar" dir="rtl">' in write("ar-EG")[2]


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("", "text"),
        ("two\nlines", "text"),
        ("subject", " \n "),
        ("{", "text"),
        ("subject", "{name!r}"),
        ("subject", "{name:>9}"),
        ("subject", "{name.upper}"),
        ("subject", "{0}"),
        ("subject", "{}"),
    ],
)
def test_words_that_cannot_be_filled_in_are_refused_at_once(subject: str, body: str) -> None:
    with pytest.raises(InvalidMailError):
        Words(subject, body)


def test_a_kind_has_english_words_and_the_same_facts_in_each_language() -> None:
    words = Words("Hello", "{name}")
    for name, languages in (
        ("test.other", {"de": words}),
        ("test.other", {"en": words, "de": Words("Hallo", "{vorname}")}),
        ("Test", {"en": words}),
    ):
        with pytest.raises(InvalidMailError):
            MailKind(name, languages)
    with pytest.raises(InvalidMailError, match="same name"):
        MailKinds([KIND, KIND])


def test_every_kind_of_this_installation_can_be_written() -> None:
    from admin_ui.mails import KINDS as ALL

    kinds = MailKinds(ALL)
    for kind in ALL:
        for language in kind.words:
            written = kinds.write(kind.name, language, dict.fromkeys(kind.facts, "something"))
            assert "{" not in written.subject + written.text
