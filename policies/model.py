"""Frozen rules: what a purpose is, and the hashed, versioned set of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from policies.periods import Period
from policies.vocabulary import UNCLEAR_REPLY, Channel, LegalBasis


@dataclass(frozen=True, slots=True)
class Controller:
    """A legal entity that decides why and how personal data is processed (GDPR Art. 4(7))."""

    key: str
    name: str
    address: str
    country: str
    """ISO 3166-1 alpha-2."""
    contact: str
    """Postal or electronic contact of the controller, shown to people."""
    privacy_officer: str | None = None
    representative: str | None = None


@dataclass(frozen=True, slots=True)
class ChildRule:
    """Below this age a grant needs the holder of parental responsibility (GDPR Art. 8(1))."""

    minimum_age: int


@dataclass(frozen=True, slots=True)
class MaterialChange:
    """A notice version that changed so much that earlier grants no longer cover the purpose."""

    notice: str
    version: str
    supersedes: frozenset[str]
    effective_from: datetime


@dataclass(frozen=True, slots=True)
class DoubleOptIn:
    """Channels on which a grant counts only once confirmed, and how long the offer stands."""

    channels: frozenset[Channel]
    confirm_within: timedelta


@dataclass(frozen=True, slots=True)
class Registry:
    """A do-not-call list that others keep, and how old our copy of it may be."""

    key: str
    name: str
    country: str
    """ISO 3166-1 alpha-2: in whose national form its numbers are written."""
    channels: frozenset[Channel]
    """What the law forbids towards a listed number: calls, text messages or both."""
    maximum_age: Period
    """In days, from the first moment (UTC) of the day on which the list was drawn."""
    later_consent: bool = False
    """Whether consent given after a number was listed makes its use lawful again."""
    source: str | None = None
    """The law."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A purpose in the words of one language, as people read it."""

    name: str
    description: str
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why a controller uses personal data, on which channels, and on which legal basis."""

    key: str
    controller: str
    name: str
    description: str
    legal_basis: LegalBasis
    channels: frozenset[Channel]
    dpv: tuple[str, ...]
    """DPV purpose terms, under https://w3id.org/dpv#."""
    data_use: str
    """fideslang data use."""
    data_categories: tuple[str, ...]
    """fideslang data categories."""
    data_subjects: tuple[str, ...]
    """fideslang data subjects."""
    expires_after: Period | None = None
    """How long a grant lasts; None: until withdrawn."""
    double_opt_in: DoubleOptIn | None = None
    child: ChildRule | None = None
    direct_marketing: bool = False
    """An objection to direct marketing is absolute (GDPR Art. 21(3))."""
    signals: frozenset[str] = frozenset()
    """Browser signals that opt a person out of this purpose, such as `gpc`."""
    recipients: tuple[str, ...] = ()
    retention: str | None = None
    material_changes: tuple[MaterialChange, ...] = ()
    external_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What other systems call this purpose: `{"hubspot": ("Marketing Information",)}`."""
    do_not_call: frozenset[str] = frozenset()
    """Registries that a number must not be on."""
    language: str = "en"
    """The BCP 47 tag of the language that name, description and recipients are written in."""
    translations: Mapping[str, Wording] = field(default_factory=dict)
    """What they say in other languages, by tag. Somebody approved each: nothing is translated
    on the way."""

    def worded(self, language: str) -> tuple[Wording, str]:
        """The purpose in a language, or in its own where nobody translated it; with its tag."""
        if language in self.translations:
            return self.translations[language], language
        return Wording(self.name, self.description, self.recipients), self.language

    def heeded(self, channel: str) -> frozenset[str]:
        """The names of the signals that stop this purpose on a channel.

        An unclear reply stops what a reply can stop: on its own channel, all marketing and all
        that rests on consent (47 CFR 64.1200(a)(10): any reasonable wording revokes it).
        """
        if channel == Channel.SMS and (
            self.direct_marketing or self.legal_basis is LegalBasis.CONSENT
        ):
            return self.signals | {UNCLEAR_REPLY}
        return self.signals

    def needs_confirmation(self, channel: Channel) -> bool:
        """Whether a grant on `channel` waits for a second step."""
        return self.double_opt_in is not None and channel in self.double_opt_in.channels


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every rule in force, as one value. `hash` names it in each decision and ledger entry."""

    version: str
    hash: str
    """`sha256:` and 64 hexadecimal digits over the canonical content, whatever file it stood in."""
    controllers: Mapping[str, Controller]
    purposes: Mapping[str, Purpose]
    registries: Mapping[str, Registry] = field(default_factory=dict)

    def purpose(self, key: str) -> Purpose | None:
        """The purpose of that key, or None: the caller must deny."""
        return self.purposes.get(key)

    @property
    def registries_in_use(self) -> tuple[Registry, ...]:
        """The do-not-call lists that any purpose names, in the order of their keys."""
        named = {key for purpose in self.purposes.values() for key in purpose.do_not_call}
        return tuple(self.registries[key] for key in sorted(named))

    def washed_against(self, purpose: Purpose, channel: str) -> tuple[Registry, ...]:
        """The do-not-call lists that numbers must not be on, in the order of their keys."""
        return tuple(
            registry
            for key in sorted(purpose.do_not_call)
            if channel in (registry := self.registries[key]).channels
        )

    def purpose_called(self, system: str, name: str) -> Purpose | None:
        """The purpose that `system` calls `name` (case and outer spaces ignored), or None."""
        wanted = name.strip().casefold()
        for purpose in self.purposes.values():
            if wanted in (
                known.strip().casefold() for known in purpose.external_names.get(system, ())
            ):
                return purpose
        return None
