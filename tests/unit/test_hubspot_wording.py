"""What free text states: consent only in full, a denial as soon as it can be recognised."""

from datetime import UTC, date, datetime

import pytest

from consent.choices import NoticeRef
from consent.importer.wording import confirmed_at, notice_of, objection_in, read_explanation

TODAY = date(2026, 3, 1)


def test_a_full_explanation_has_a_date_a_source_and_words() -> None:
    said = read_explanation('web form 2021-04-02 "Newsletter v2"', TODAY)
    assert (said.given_on, said.source, said.words) == (
        date(2021, 4, 2),
        "web form",
        "Newsletter v2",
    )
    assert "web form" not in repr(said)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("fair 2021-04-02", date(2021, 4, 2)),
        ("fair 2021-4-2", date(2021, 4, 2)),
        ("fair 2021/04/02", date(2021, 4, 2)),
        ("fair 2021-04-02T09:15:00Z", date(2021, 4, 2)),
        ("fair 2021-04-02 09:15", date(2021, 4, 2)),
        ("fair, 2021-04-02.", date(2021, 4, 2)),
        ("fair (2.4.2021)", date(2021, 4, 2)),
        ("fair 03.04.2022", date(2022, 4, 3)),
        ("fair 04/22/2021", date(2021, 4, 22)),
        ("fair 22/04/2021", date(2021, 4, 22)),
        ("fair 05/05/2021", date(2021, 5, 5)),
        ("fair 2021-04-02, again 2021-04-02", date(2021, 4, 2)),
        ("fair 2026-03-01", TODAY),
        # Two readings, or none.
        ("fair 03/04/2022", None),
        ("fair 2021-04-02 or 03/04/2022", None),
        ("fair 2021-04-02, web 2021-05-02", None),
        ("fair 2021-02-30", None),
        ("fair 22.22.2021", None),
        ("fair 04.22.2021", None),
        ("fair 2.4.21", None),
        ("fair 20210402", None),
        ("fair 1617321600", None),
        ("fair last spring", None),
        ("fair 192.2021-04-02", None),
        ("fair 2021-04-02/2021-05-02", None),
        ("fair ٢٠٢١-٠٤-٠٢", None),
        # Not a day on which anybody said anything.
        ("fair 2026-03-02", None),
        ("fair 1899-12-30", None),
        ("fair 01/01/1970", None),
        ("fair 0000-00-00", None),
        # What stands in quotes are words.
        ('fair "Newsletter of 2021-04-02"', None),
    ],
)
def test_only_a_day_without_doubt_is_a_date(text: str, day: date | None) -> None:
    assert read_explanation(text, TODAY).given_on == day


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ('web form 2021-04-02 "x y"', "web form"),
        ('2021-04-02 "x y", Messe Köln', "Messe Köln"),
        ('2021-04-02 網站 "x y"', "網站"),
        ('2021-04-02 "web form"', None),
        ('on 2021-04-02 "x y"', None),
        ('opt-in via import 2021-04-02 "x y"', None),
        ('? - 2021-04-02 (1) "x y"', None),
        ('n/a 2021-04-02 "x y"', None),
        ('HubSpot default 2021-04-02 "x y"', None),
    ],
)
def test_a_source_says_where(text: str, source: str | None) -> None:
    assert read_explanation(text, TODAY).source == source


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('fair "Yes, write to me"', "Yes, write to me"),
        ("fair “Yes”", "Yes"),
        ("fair „Ja, gerne“", "Ja, gerne"),
        ("fair « Oui »", "Oui"),
        ("fair »Ja«", "Ja"),
        ('fair "A" and "B"', "A … B"),
        ('fair "Yes\nplease"', "Yes\nplease"),
        ("fair Newsletter v2", None),
        ("fair 'Yes'", None),
        ('fair ""', None),
        ('fair "?"', None),
        ('fair "12"', None),
        ('fair "Newsletter v2', None),
    ],
)
def test_words_stand_in_quotation_marks(text: str, words: str | None) -> None:
    assert read_explanation(text, TODAY).words == words


@pytest.mark.parametrize(
    ("words", "notice"),
    [
        ("Newsletter v2", NoticeRef("newsletter", "2", "und")),
        ("Privacy Notice, version 3.1", NoticeRef("privacy-notice", "3.1", "und")),
        ("NEWSLETTER V10", NoticeRef("newsletter", "10", "und")),
        ("Yes, write to me", NoticeRef("quoted_words", "unversioned", "und")),
        ("v2", NoticeRef("quoted_words", "unversioned", "und")),
        ("x" * 65 + " v2", NoticeRef("quoted_words", "unversioned", "und")),
        ("Newsletter v" + "9" * 40, NoticeRef("quoted_words", "unversioned", "und")),
    ],
)
def test_words_may_name_a_notice(words: str, notice: NoticeRef) -> None:
    assert notice_of(words) == notice


@pytest.mark.parametrize(
    ("note", "instant"),
    [
        ("double opt-in ok 2023-05-04 10:11", datetime(2023, 5, 4, 10, 11, tzinfo=UTC)),
        ("x; Double Opt-In OK 2023-05-04T10:11:12", datetime(2023, 5, 4, 10, 11, 12, tzinfo=UTC)),
        ("double opt-in ok 2023-02-30 10:11", None),
        ("double opt-in ok 2023-05-04 25:11", None),
        ("double opt-in sent 2023-05-04 10:11", None),
        ("double opt-in ok", None),
    ],
)
def test_a_note_may_confirm(note: str, instant: datetime | None) -> None:
    assert confirmed_at(note) == instant


@pytest.mark.parametrize(
    "note",
    [
        "called, wants no more e-mails",
        "Does NOT want any emails!",
        "doesn't want to receive e\u2011mails",
        "no newsletter please",
        "please do not e-mail",
        "Don't email her",
        "asked us to stop sending him mailings",
        "opted out by phone",
        "opt-out 2024",
        "Unsubscribed at the fair",
        "remove from our mailing list",
        "möchte keine E-Mails mehr",
        "kein Newsletter",
        "hat den Newsletter abbestellt",
        "Widerspruch eingegangen",
        "bitte nicht mehr anschreiben",
        "ne veut plus d'e-mails",
        "ne souhaite plus recevoir de courriels",
        "désinscrite",
        "no quiere más correos electrónicos",
        "darse de baja",
        "non vuole email",
        "não quer mais e-mails",
        "wil geen nieuwsbrief",
        "=no more e-mails",
    ],
)
def test_a_note_that_wants_no_mail_is_heard(note: str) -> None:
    found = objection_in(note)
    assert found is not None
    assert found[0] == "email"


@pytest.mark.parametrize(
    "note",
    [
        "DO NOT CONTACT",
        "no contact",
        "against marketing",
        "keine Werbung",
        "nicht kontaktieren",
        "ne plus contacter",
        "no contactar",
        "non contattare",
    ],
)
def test_a_note_that_wants_nothing_at_all_is_heard(note: str) -> None:
    found = objection_in(note)
    assert found is not None
    assert found[0] == "*"


@pytest.mark.parametrize(
    "note",
    [
        "",
        '"VIP", see Jürgen',
        '=HYPERLINK("http://example.test","x")',
        "met at fair; GDPR form on paper 12.03.2022",
        "double opt-in ok 2023-05-04 10:11",
        "no answer, sent e-mail",
        "no e-mail address known",
        "keine E-Mail-Adresse",
        "no tiene correo",
        "wants more e-mails",
        "prefers e-mail, no calls",
        "contact person for marketing",
    ],
)
def test_other_notes_say_nothing(note: str) -> None:
    assert objection_in(note) is None
