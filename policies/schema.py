"""The contract for policy files: what may be written, and what contradicts itself.

Takes the plain values of `policies.document` and gives the frozen rules of `policies.model`.
Unknown keys are refused. A rule that could never take effect is refused too, since whoever wrote
it believes that it does: an expiry where there is no grant, a signal that nothing heeds.

Non-goal: what takes a second file to see, such as whether a controller exists (the loader).
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import combinations
from types import MappingProxyType
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validates_schema

from policies.fields import Age, Entries, Flag, Instant, OneOf, Span, Terms, Text, Word
from policies.model import (
    ChildRule,
    Controller,
    DoubleOptIn,
    MaterialChange,
    Purpose,
    Registry,
    Wording,
)
from policies.vocabulary import UNCLEAR_REPLY, Channel, LegalBasis, Signal

_DOTTED: Final = r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*"
_PURPOSE_KEY: Final = Word(_DOTTED, "a key such as newsletter or events.invitations")
_CONTROLLER_KEY: Final = Word(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "a key such as example-shop")
_REGISTRY_KEY: Final = Word(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", "a key such as uk_tps")
_COUNTRY: Final = Word(r"[A-Z]{2}", "a country code of ISO 3166-1 such as DE", required=True)
_LANGUAGE: Final = Word(
    r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?", "a language such as de or pt-BR"
)
_SYSTEM: Final = Word(r"[a-z][a-z0-9_]*", "the name of a system such as hubspot")

CALLED: Final = frozenset({Channel.PHONE, Channel.SMS})
"""The channels that reach a telephone number."""

_OF_GRANTS: Final = ("expires_after", "double_opt_in", "child", "material_changes")
"""Rules about how a grant comes to be and ends. Only consent is granted."""


class _Strict(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012 - marshmallow declares it as an instance's own
        "type": "must be a mapping of keys to values",
        "unknown": "is not known here",
    }

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **_: Any) -> None:
        """Say which key an unknown one resembles."""
        del data, many
        if isinstance(error.messages, dict):
            for key in error.messages.keys() - self.fields.keys():
                for near in difflib.get_close_matches(str(key)[:64], self.fields, n=1):
                    error.messages[key] = [f"is not known here; is {near} meant?"]


class _ControllerSchema(_Strict):
    name = Text(200, required=True)
    address = Text(400, required=True)
    country = _COUNTRY
    contact = Text(200, required=True)
    privacy_officer = Text(200)
    representative = Text(400)


class _ChildSchema(_Strict):
    minimum_age = Age(required=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> ChildRule:
        return ChildRule(**data)


class _DoubleOptInSchema(_Strict):
    channels = Terms(OneOf(Channel), required=True)
    confirm_within = Span("P1D", "P90D", exact=True, required=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> DoubleOptIn:
        return DoubleOptIn(frozenset(data["channels"]), timedelta(days=data["confirm_within"].days))


class _MaterialChangeSchema(_Strict):
    notice = Text(64, required=True)
    version = Text(64, required=True)
    supersedes = Terms(Text(64), required=True)
    effective_from = Instant(required=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> MaterialChange:
        return MaterialChange(**data | {"supersedes": frozenset(data["supersedes"])})


class _RegistrySchema(_Strict):
    name = Text(200, required=True)
    country = _COUNTRY
    channels = Terms(OneOf(Channel), required=True)
    maximum_age = Span("P1D", "P92D", exact=True, required=True)
    later_consent = Flag()
    source = Text(400)

    @validates_schema
    def _about_numbers(self, data: dict[str, Any], **_: Any) -> None:
        if not set(data.get("channels", ())) <= CALLED:
            raise ValidationError({"channels": ["may name phone and sms, and nothing else"]})

    @post_load
    def _freeze(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return data | {"channels": frozenset(data["channels"])}


class _WordingSchema(_Strict):
    name = Text(120, required=True)
    description = Text(1000, required=True)
    recipients = Terms(Text(200))

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Wording:
        return Wording(**data)


_WORDING: Final = _WordingSchema()
_NAMES: Final = Terms(Text(200))


def _wording(_: str, content: object) -> Wording:
    loaded: Wording = _WORDING.load(content)  # type: ignore[arg-type]  # it refuses what is no mapping
    return loaded


def _external_names(_: str, names: object) -> tuple[str, ...]:
    return _NAMES.deserialize(names)


class _PurposeSchema(_Strict):
    controller = Text(64, required=True)
    name = Text(120, required=True)
    description = Text(1000, required=True)
    legal_basis = OneOf(LegalBasis, required=True)
    channels = Terms(OneOf(Channel), required=True)
    dpv = Terms(Word(r"[A-Z][A-Za-z0-9]+", "a DPV term such as DirectMarketing"), required=True)
    data_use = Word(_DOTTED, "a fideslang data use such as essential.service", required=True)
    data_categories = Terms(
        Word(_DOTTED, "a fideslang data category such as user.contact.email"), required=True
    )
    data_subjects = Terms(Word(_DOTTED, "a fideslang data subject such as customer"), required=True)
    expires_after = Span("P1D", "P10Y")
    double_opt_in = fields.Nested(_DoubleOptInSchema)
    child = fields.Nested(_ChildSchema)
    direct_marketing = Flag()
    signals = Terms(OneOf(Signal))
    recipients = Terms(Text(200))
    retention = Word(_DOTTED, "a key such as customer_records")
    material_changes = fields.List(
        fields.Nested(_MaterialChangeSchema), error_messages={"invalid": "must be a list"}
    )
    external_names = Entries(_SYSTEM, _external_names)
    do_not_call = Terms(Text(64))
    language = _LANGUAGE
    translations = Entries(_LANGUAGE, _wording)

    @validates_schema
    def _agrees_with_itself(self, data: dict[str, Any], **_: Any) -> None:
        errors: dict[str, Any] = {}
        for place, sentence in _contradictions(data):
            errors.setdefault(place, []).append(sentence)
        if errors:
            raise ValidationError(errors)

    @post_load
    def _freeze(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        frozen: dict[str, Any] = {
            name: frozenset(data[name])
            for name in ("channels", "signals", "do_not_call")
            if name in data
        }
        if "material_changes" in data:
            frozen["material_changes"] = tuple(sorted(data["material_changes"], key=_by_date))
        if "external_names" in data:
            frozen["external_names"] = MappingProxyType(data["external_names"])
        if "translations" in data:
            frozen["translations"] = MappingProxyType(data["translations"])
        return data | frozen


_CONTROLLER: Final = _ControllerSchema()
_PURPOSE: Final = _PurposeSchema()
_REGISTRY: Final = _RegistrySchema()


def _controller(key: str, content: Any) -> Controller:
    return Controller(key=key, **_CONTROLLER.load(content))


def _purpose(key: str, content: Any) -> Purpose:
    # Registers are read by the name of a purpose or a signal: one name must not mean both.
    if key in {*Signal, UNCLEAR_REPLY}:
        raise ValidationError("has the name of a signal; choose another")
    return Purpose(key=key, **_PURPOSE.load(content))


def _registry(key: str, content: Any) -> Registry:
    return Registry(key=key, **_REGISTRY.load(content))


class PolicyFileSchema(_Strict):
    """One policy file: any of a version, controllers, purposes and registries."""

    version = Word(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a version such as 2026.11")
    controllers = Entries(_CONTROLLER_KEY, _controller)
    purposes = Entries(_PURPOSE_KEY, _purpose)
    registries = Entries(_REGISTRY_KEY, _registry)


_MARKETABLE: Final = frozenset({LegalBasis.CONSENT, LegalBasis.LEGITIMATE_INTERESTS})


def _contradictions(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the rules of one purpose say against each other: the key to blame, and a predicate."""
    basis: LegalBasis | None = data.get("legal_basis")
    if basis is not None:
        yield from _against_basis(data, basis)
    markets = sorted({"DirectMarketing"} & set(data.get("dpv", ())))
    if data.get("data_use", "").startswith("marketing.communications"):
        markets.append(data["data_use"])
    if markets and not data.get("direct_marketing", False):
        yield "direct_marketing", f"must be true, for the purpose is called {markets[0]}"
    confirmed: DoubleOptIn | None = data.get("double_opt_in")
    if confirmed is not None and "channels" in data:
        lacking = sorted(confirmed.channels - set(data["channels"]))
        if lacking:
            yield "double_opt_in", f"names channels that the purpose lacks: {', '.join(lacking)}"
    if data.get("do_not_call") and not CALLED & set(data.get("channels", CALLED)):
        yield "do_not_call", "is about phone and sms, and the purpose lacks both"
    yield from _among_changes(data.get("material_changes", ()))
    yield from _among_languages(data)


def _against_basis(data: Mapping[str, Any], basis: LegalBasis) -> Iterator[tuple[str, str]]:
    if basis is not LegalBasis.CONSENT:
        for rule in _OF_GRANTS:
            if data.get(rule):
                yield rule, f"is a rule about consent, and the legal basis is {basis}"
    # Article 21(2) and (3): whoever is marketed to may always stop it, so that the basis must be
    # one that can be stopped.
    if data.get("direct_marketing") and basis not in _MARKETABLE:
        yield "direct_marketing", f"needs consent or legitimate_interests as its basis, not {basis}"
    if data.get("signals") and not basis.yields_to_objection:
        yield "signals", f"cannot be heeded: {basis} does not yield to an objection"
    if data.get("do_not_call") and not basis.yields_to_objection:
        yield "do_not_call", f"cannot be heeded: {basis} does not yield to an objection"


def _among_changes(changes: Iterable[MaterialChange]) -> Iterator[tuple[str, str]]:
    """Only what came before is superseded: in a circle, no grant could ever be in force."""
    for change in changes:
        if change.version in change.supersedes:
            yield "material_changes", f"says that version {change.version} supersedes itself"
    for one, later in combinations(sorted(changes, key=_by_date), 2):
        if one.notice == later.notice and one.version == later.version:
            yield "material_changes", f"names version {one.version} a second time"
        elif one.notice == later.notice and later.version in one.supersedes:
            yield (
                "material_changes",
                f"says that {one.version} supersedes {later.version}, which is not older",
            )


def _among_languages(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A text has one wording a language, and who gets the data does not depend on it."""
    for tag, wording in data.get("translations", {}).items():
        if tag == data.get("language", "en"):
            yield "translations", f"has {tag}, which the purpose itself is written in"
        if len(wording.recipients) != len(data.get("recipients", ())):
            yield "translations", f"names more or fewer recipients in {tag} than the purpose"


def _by_date(change: MaterialChange) -> tuple[datetime, str, str]:
    return change.effective_from, change.notice, change.version
