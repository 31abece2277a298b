"""The notices of the fictional shop: two versions that were published, and one that waits.

Version 3 was a material change: it told of recommendations and profiling, so that who had agreed
to version 2 has to be asked again. Version 4 is a draft, for whoever tries the service to publish.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy.orm import Session

from consent.notice_drafts import (
    Draft,
    DraftWords,
    Settings,
    begin_draft,
    change_settings,
    publish_draft,
    write_words,
)
from governance.audit.trail import SYSTEM
from governance.notice_desk import record_publication

if TYPE_CHECKING:
    from admin_ui.services import Services

NOTICE: Final = "privacy"
LANGUAGES: Final = ("en", "de")
SINCE: Final = {"2": timedelta(days=900), "3": timedelta(days=250)}
"""How long before the filling each published version took effect."""

_ANNOUNCED: Final = timedelta(days=14)
_AUTHOR: Final = "system:demo_author"
_SECOND: Final = "system:demo_second"


def publish(services: "Services") -> None:
    """Publish the shop's notices, and leave a draft of the next version, unless they are there."""
    now = services.clock()
    with services.database.begin() as session:
        if services.notices.published(session, NOTICE):
            return
        for version, since in SINCE.items():
            _publish(services, session, version, now - since)
        _write(services, session, "4", now + _ANNOUNCED, now)


def version_at(instant: datetime, now: datetime) -> str:
    """The version that was in effect at an instant, if the notices were published at `now`."""
    return "3" if instant >= now - SINCE["3"] else "2"


def _publish(
    services: "Services", session: Session, version: str, effective_from: datetime
) -> None:
    published_at = effective_from - _ANNOUNCED
    draft = _write(services, session, version, effective_from, published_at)
    published = publish_draft(
        session,
        NOTICE,
        draft.revision,
        by=_SECOND,
        reason="The fictional shop's lawyer has read it.",
        policies=services.policies(),
        now=published_at,
    )
    record_publication(services.trail, session, SYSTEM, published, 0, services.clock())


def _write(
    services: "Services", session: Session, version: str, effective_from: datetime, now: datetime
) -> Draft:
    controller = next(iter(services.policies().controllers))
    draft = begin_draft(session, NOTICE, controller, LANGUAGES, _AUTHOR, now)
    settings = Settings(draft.controller, version, effective_from, version != "2", LANGUAGES)
    draft = change_settings(session, NOTICE, draft.revision, settings, _AUTHOR, now)
    for language, versions in _WORDS.items():
        draft = write_words(
            session, NOTICE, draft.revision, language, versions[version], _AUTHOR, now
        )
    return draft


_BEGINNING: Final = {
    "en": """\
We tell you here what we do with your data, and how you stop it.

## What we use

Your name, your addresses, and what you order. We need them to deliver, to invoice and to answer \
you.

## News and offers

If you agree, we send you news and offers on the channels that you chose. You may stop it at any \
time, in every message and in your account: **one tap is enough**, and it counts at once.
""",
    "de": """\
Wir sagen Ihnen hier, was wir mit Ihren Daten tun und wie Sie es beenden.

## Was wir verwenden

Ihren Namen, Ihre Adressen und Ihre Bestellungen. Wir brauchen sie, um zu liefern, abzurechnen und \
Ihnen zu antworten.

## Neuigkeiten und Angebote

Wenn Sie einwilligen, senden wir Ihnen Neuigkeiten und Angebote auf den Wegen, die Sie gewählt \
haben. Sie können das jederzeit beenden, in jeder Nachricht und in Ihrem Konto: **ein Tippen \
genügt**, und es gilt sofort.
""",
}
_PROFILES: Final = {
    "en": """
## Recommendations

If you agree, we look at what you bought and viewed, and choose from it what we recommend to you. \
No decision about you is made by it.
""",
    "de": """
## Empfehlungen

Wenn Sie einwilligen, betrachten wir, was Sie gekauft und angesehen haben, und wählen danach aus, \
was wir Ihnen empfehlen. Eine Entscheidung über Sie wird damit nicht getroffen.
""",
}
_AUDIENCES: Final = {
    "en": """
## Recommendations and advertising

If you agree, we look at what you bought, viewed and searched for, and choose from it what we \
recommend to you, here and on other sites. No decision about you is made by it.

If you agree to that as well, we give your e-mail address in coded form to advertising platforms.
""",
    "de": """
## Empfehlungen und Werbung

Wenn Sie einwilligen, betrachten wir, was Sie gekauft, angesehen und gesucht haben, und wählen \
danach aus, was wir Ihnen empfehlen, hier und auf anderen Seiten. Eine Entscheidung über Sie wird \
damit nicht getroffen.

Wenn Sie auch darin einwilligen, geben wir Ihre E-Mail-Adresse in verschlüsselter Form an \
Werbeplattformen weiter.
""",
}
_RIGHTS: Final = {
    "en": """
## Your rights

- See and correct your data
- Have it erased, or take it with you
- Object, without a reason where it is about advertising
- Complain to a supervisory authority
""",
    "de": """
## Ihre Rechte

- Ihre Daten einsehen und berichtigen
- Sie löschen lassen oder mitnehmen
- Widersprechen, gegen Werbung auch ohne Grund
- Sich bei einer Aufsichtsbehörde beschweren
""",
}
_TITLES: Final = {"en": "How we use your data", "de": "Wie wir Ihre Daten verwenden"}
_POST: Final = {
    "en": "Parcel service\nE-mail delivery provider",
    "de": "Paketdienst\nE-Mail-Dienstleister",
}
_PLATFORMS: Final = {"en": "\nAdvertising platforms", "de": "\nWerbeplattformen"}


def _words(language: str, middle: str, recipients: str) -> DraftWords:
    return DraftWords.checked(
        title=_TITLES[language],
        text=_BEGINNING[language] + middle + _RIGHTS[language],
        recipients=recipients,
    )


_WORDS: Final = {
    language: {
        "2": _words(language, "", _POST[language]),
        "3": _words(language, _PROFILES[language], _POST[language]),
        "4": _words(language, _AUDIENCES[language], _POST[language] + _PLATFORMS[language]),
    }
    for language in LANGUAGES
}
