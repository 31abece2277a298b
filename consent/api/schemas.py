"""What the API takes and gives, as marshmallow schemas: the source of the OpenAPI document.

Messages name rules, never values.
"""

import re
from datetime import UTC, date, datetime
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from consent.errors import InvalidSubjectError
from consent.subjects import Identifier, parse_subject
from policies.vocabulary import (
    ANY,
    CONFIRMED,
    Channel,
    ChoiceState,
    ConsentStatus,
    EventType,
    LegalBasis,
    MarkState,
    Reason,
    Signal,
)

MAX_BATCH: Final = 10_000
MAX_CHOICES: Final = 200
MAX_EVIDENCE_DEPTH: Final = 8

_KEY: Final = r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*"
_RFC3339: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PRINTABLE: Final = r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?"


class Pattern(validate.Regexp):
    """A pattern that the whole value must fit; `$` alone would let a trailing newline in."""

    def __call__(self, value: Any) -> Any:
        """The value, if it fits."""
        if self.regex.fullmatch(value) is None:
            raise ValidationError(self._format_error(value))
        return value


class SubjectField(fields.Field[Identifier]):
    """One of the four ways of naming a person."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Identifier:
        try:
            return parse_subject(value)
        except InvalidSubjectError as error:
            raise ValidationError(str(error)) from error


class SubjectsField(fields.List[Identifier]):
    """Many subjects: read one by one without what a field does around each."""

    def __init__(self, *, most: int) -> None:
        self._length = validate.Length(max=most)
        super().__init__(_subject(), required=True, validate=self._length)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[Identifier | None]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        self._length(value)
        read: list[Identifier | None] = []
        wrong: dict[int, list[str]] = {}
        for place, one in enumerate(value):
            try:
                read.append(parse_subject(one))
            except InvalidSubjectError as error:
                wrong[place] = [str(error)]
        if wrong:
            raise ValidationError(wrong)
        return read


class InstantField(fields.AwareDateTime):
    """An RFC 3339 instant with its offset. What cannot be said in UTC is refused."""

    _form = re.compile(_RFC3339)

    def __init__(self, about: str = "") -> None:
        super().__init__(format="iso", metadata={"pattern": _RFC3339, "description": about})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        # ISO 8601 has weeks, commas and more; two readers might understand those differently.
        if not isinstance(value, str) or self._form.fullmatch(value) is None:
            raise ValidationError("Not an RFC 3339 instant such as 2026-03-01T09:30:00Z.")
        try:
            return super()._deserialize(value.upper(), attr, data, **kwargs).astimezone(UTC)
        except OverflowError as error:
            raise ValidationError("Not an instant that UTC can tell.") from error


class QueryInteger(fields.Integer):
    """A number in a query, in plain digits."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if not (isinstance(value, str) and value.isascii() and value.isdecimal()):
            raise self.make_error("invalid")
        return self._validated(value)


class ShortList(fields.List[Any]):
    """A list whose length is looked at before its items: a message for each would fill memory."""

    def __init__(self, inner: fields.Field[Any], *, least: int = 0, most: int) -> None:
        length = validate.Length(min=least or None, max=most)
        super().__init__(inner, required=True, validate=length)
        self._length = length

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):
            self._length(value)
        return super()._deserialize(value, attr, data, **kwargs)


class EvidenceField(fields.Dict):
    """Free facts about how a choice was made. Stored encrypted, disclosed apart."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if _depth(value) > MAX_EVIDENCE_DEPTH:
            raise ValidationError("Nested too deeply.")
        return super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested, without recursion."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        one, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(one, dict):
            todo.extend((inner, depth + 1) for inner in one.values())
        elif isinstance(one, list):
            todo.extend((inner, depth + 1) for inner in one)
    return deepest


PURPOSE: Final = f"^{_KEY}$"
CURSOR: Final = "^[0-9]{1,18}$"
MIRROR_CURSOR: Final = "^[0-9]{1,18}\\.[0-9]{1,18}\\.[0-9a-f]{16}$"
MIRROR_EPOCH: Final = "^[0-9a-f]{32}$"
_SYSTEM: Final = "[a-z0-9][a-z0-9_.-]{0,63}"
_KIND: Final = f"(?:email|phone|ref|external_id(?::{_SYSTEM})?)"
MIRROR_KINDS: Final = f"^{_KIND}(?:,{_KIND}){{0,7}}$"
_CELL: Final = f"{_KEY}:(?:{'|'.join(channel.value for channel in Channel)})"
CELLS: Final = f"^{_CELL}(?:,{_CELL}){{0,15}}$"
REF: Final = "^[a-z2-7]{26}$"
LANGUAGE: Final = r"^[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,7}$"
SHA256: Final = "^sha256:[0-9a-f]{64}$"
SUBJECT_FORMS: Final = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "email": {
                    "type": "string",
                    "format": "email",
                    "maxLength": 254,
                    "description": "compared without regard to case",
                }
            },
            "required": ["email"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "phone": {
                    "type": "string",
                    "pattern": r"^\+[1-9][0-9]{6,14}$",
                    "description": "E.164; usual punctuation is accepted",
                }
            },
            "required": ["phone"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "external_id": {
                    "type": "object",
                    "properties": {
                        "system": {
                            "type": "string",
                            "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
                            "description": "compared without regard to case",
                        },
                        "id": {
                            "type": "string",
                            "format": "printable",
                            "minLength": 1,
                            "maxLength": 200,
                            "description": "printable characters; compared exactly",
                        },
                    },
                    "required": ["system", "id"],
                    "additionalProperties": False,
                }
            },
            "required": ["external_id"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"ref": {"type": "string", "pattern": REF}},
            "required": ["ref"],
            "additionalProperties": False,
        },
    ],
    "description": "Whom it is about. Identifiers travel in bodies, never in URLs.",
}


def _subject() -> SubjectField:
    return SubjectField(required=True, metadata=SUBJECT_FORMS)


def _purpose(*, any_too: bool = False, required: bool = True) -> fields.String:
    pattern = rf"^(?:{_KEY}{'|' + chr(92) + ANY if any_too else ''})$"
    return fields.String(
        required=required,
        validate=[
            validate.Length(max=64),
            Pattern(pattern, error="Not the key of a purpose."),
        ],
        metadata={"description": "The key of a purpose of the active policy."},
    )


def _channel(*, any_too: bool = False, required: bool = True) -> fields.String:
    channels = [channel.value for channel in Channel] + ([ANY] if any_too else [])
    return fields.String(
        required=required, validate=validate.OneOf(channels, error="Not a channel that we know.")
    )


def _cursor() -> fields.String:
    return fields.String(validate=Pattern(CURSOR, error="Not our cursor."))


def _index() -> fields.Integer:
    return fields.Integer(required=True, metadata={"minimum": 0, "description": "in the ledger"})


def _ref() -> fields.String:
    return fields.String(
        required=True, metadata={"pattern": REF, "description": "The subject ref."}
    )


def _printable(maximum: int) -> list[validate.Validator]:
    return [
        validate.Length(min=1, max=maximum),
        Pattern(rf"^{_PRINTABLE}$", error="Only printable ASCII, without outer spaces."),
    ]


class Strict(Schema):
    """Takes and gives the members it names, and no others."""

    class Meta:
        """Options of marshmallow."""

        unknown = RAISE


class CheckRequest(Strict):
    """May this channel be used for this purpose towards this person?"""

    subject = _subject()
    purpose = _purpose()
    channel = _channel()
    as_of = InstantField("A past instant; now, if absent.")


class BatchCheckRequest(Strict):
    """The same question about many people."""

    purpose = _purpose()
    channel = _channel()
    subjects = SubjectsField(most=MAX_BATCH)


class DecisionSchema(Strict):
    """A decision, and all that explains it."""

    allow = fields.Boolean(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(ConsentStatus)))
    reason = fields.String(required=True, validate=validate.OneOf(list(Reason)))
    record_id = fields.UUID(
        required=True, allow_none=True, metadata={"description": "The event that decided."}
    )
    as_of = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(
        required=True, allow_none=True, metadata={"description": "When an allow ends by itself."}
    )
    basis = fields.String(
        required=True, allow_none=True, validate=validate.OneOf([*LegalBasis, None])
    )
    policy = fields.String(
        required=True,
        metadata={"description": "Hash of the policy set.", "pattern": "^sha256:[0-9a-f]{64}$"},
    )


class BatchDecisionSchema(Strict):
    """Decisions in the order of the subjects."""

    results = fields.List(fields.Nested(DecisionSchema), required=True)


class NoticeSchema(Strict):
    """The words that a person was shown."""

    id = fields.String(required=True, validate=_printable(128))
    version = fields.String(required=True, validate=_printable(64))
    language = fields.String(
        required=True, validate=Pattern(LANGUAGE, error="Not a BCP 47 language tag.")
    )
    hash = fields.String(
        validate=Pattern(SHA256, error="Not sha256: and 64 hexadecimal digits."),
        metadata={
            "description": "Of the text as it was shown: refused where the published one differs."
        },
    )


class ChoiceSchema(Strict):
    """One choice. A denial needs no notice and no method, and may speak for `*`."""

    purpose = _purpose(any_too=True)
    channel = _channel(any_too=True)
    state = fields.String(required=True, validate=validate.OneOf(list(ChoiceState)))
    notice = fields.Nested(NoticeSchema)
    method = fields.String(
        validate=Pattern(
            r"^[a-z0-9][a-z0-9_.:-]{0,63}$", error="Not a short name such as web_form."
        )
    )
    occurred_at = InstantField(
        "When the person said so, if not now. It decides between choices; a time in the future "
        "is set to now."
    )
    evidence = EvidenceField(
        keys=fields.String(validate=validate.Length(min=1, max=64)),
        metadata={
            "description": "How the choice was made, in at most 8,192 bytes and eight levels. "
            "`age` and `parental_authority` bear on children; `confirmed_at` on a double opt-in "
            "that the caller carried out.",
            "allOf": [{"propertyNames": {"minLength": 1, "maxLength": 64}}],
            "properties": {
                "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 149},
                "confirmed_at": {
                    "type": ["string", "null"],
                    "format": "date-time",
                    "pattern": _RFC3339,
                    "description": "not before `occurred_at`",
                },
            },
        },
    )


_A_DENIAL: Final = {
    "title": "A denial",
    "properties": {"state": {"enum": [state.value for state in ChoiceState if state.denies]}},
}
_A_GRANT: Final = {
    "title": "A grant names its notice, one purpose and one channel",
    "properties": {
        "purpose": {"pattern": PURPOSE},
        "channel": {"enum": [channel.value for channel in Channel]},
    },
    "required": ["notice"],
}


class ChoicesRequest(Strict):
    """What a person chose."""

    subject = _subject()
    choices = ShortList(
        fields.Nested(ChoiceSchema, metadata={"anyOf": [_A_DENIAL, _A_GRANT]}),
        least=1,
        most=MAX_CHOICES,
    )


class RecordedEventSchema(Strict):
    """An event in the ledger."""

    id = fields.UUID(required=True)
    index = _index()
    leaf_hash = fields.String(
        required=True,
        metadata={
            "description": "base64 of the RFC 6962 leaf hash",
            "pattern": "^[A-Za-z0-9+/]{43}=$",
        },
    )


class ChoicesAnswer(Strict):
    """What was recorded, and a signed checkpoint that covers it."""

    subject = _ref()
    events = fields.List(fields.Nested(RecordedEventSchema), required=True)
    checkpoint = fields.String(required=True, metadata={"description": "C2SP tlog-checkpoint."})


class LookupRequest(Strict):
    """Whom to look up, and where to go on in the timeline."""

    subject = _subject()
    cursor = _cursor()
    limit = fields.Integer(strict=True, validate=validate.Range(min=1, max=200), load_default=50)


class MatrixCell(DecisionSchema):
    """The decision for one purpose and channel."""

    purpose = fields.String(required=True)
    channel = fields.String(required=True, validate=validate.OneOf(list(Channel)))


class ChangeSchema(Strict):
    """One event of the feed. It names a ref, never an identifier."""

    index = _index()
    id = fields.UUID(required=True)
    subject = _ref()
    type = fields.String(required=True, validate=validate.OneOf(list(EventType)))
    purpose = fields.String(required=True)
    channel = fields.String(required=True, validate=validate.OneOf([*Channel, ANY]))
    state = fields.String(
        required=True, validate=validate.OneOf([*ChoiceState, *MarkState, CONFIRMED])
    )
    occurred_at = fields.AwareDateTime(required=True)
    recorded_at = fields.AwareDateTime(required=True)


class TimelineSchema(Strict):
    """A person's events, newest first, and the cursor behind them."""

    events = fields.List(fields.Nested(ChangeSchema), required=True)
    cursor = fields.String(required=True, allow_none=True)


class LookupAnswer(Strict):
    """What is known of a person's choices."""

    ref = _ref()
    matrix = fields.List(fields.Nested(MatrixCell), required=True)
    timeline = fields.Nested(TimelineSchema, required=True)


class ChangesAnswer(Strict):
    """A page of the change feed."""

    changes = fields.List(fields.Nested(ChangeSchema), required=True)
    cursor = fields.String(required=True, metadata={"description": "Send it to go on."})
    more = fields.Boolean(required=True)


class ListQuery(Strict):
    """The question that a list of subjects is asked."""

    purpose = _purpose()
    channel = _channel()


class ChangesQuery(Strict):
    """Where to go on in the change feed."""

    cursor = _cursor()
    limit = QueryInteger(validate=validate.Range(min=1, max=1000), load_default=1000)
    wait = QueryInteger(validate=validate.Range(min=0, max=25), load_default=0)


class SnapshotQuery(Strict):
    """What a mirror holds, and where to go on reading everybody."""

    cells = fields.String(
        required=True,
        validate=[
            validate.Length(max=1200),
            Pattern(CELLS, error="Not up to 16 of purpose:channel, with commas between."),
        ],
    )
    by = fields.String(
        required=True,
        validate=[
            validate.Length(max=400),
            Pattern(MIRROR_KINDS, error="Not up to 8 kinds of identifier, with commas between."),
        ],
    )
    epoch = fields.String(validate=Pattern(MIRROR_EPOCH, error="Not our epoch."))
    after = fields.String(validate=Pattern(REF, error="Not where we said to go on."))
    limit = QueryInteger(validate=validate.Range(min=1, max=2000), load_default=2000)


class SnapshotChangesQuery(SnapshotQuery):
    """What a mirror holds, and where to go on in what changed."""

    class Meta:
        """Options of marshmallow."""

        exclude = ("after",)
        unknown = RAISE

    epoch = fields.String(required=True, validate=Pattern(MIRROR_EPOCH, error="Not our epoch."))
    cursor = fields.String(required=True, validate=Pattern(MIRROR_CURSOR, error="Not our cursor."))
    wait = QueryInteger(validate=validate.Range(min=0, max=25), load_default=0)


class ReceiptQuery(Strict):
    """Which form of receipt."""

    format = fields.String(
        validate=validate.OneOf(["ts27560", "kantara", "tlog-proof"]), load_default="ts27560"
    )


class ProofRequest(Strict):
    """Which consent a bundle is to show, where the event does not say it."""

    purpose = _purpose(required=False)
    channel = _channel(required=False)
    as_of = InstantField("A past instant whose status is told besides that of now.")

    @validates_schema
    def _both(self, asked: dict[str, Any], **_: Any) -> None:
        if ("purpose" in asked) != ("channel" in asked):
            missing = "channel" if "purpose" in asked else "purpose"
            raise ValidationError("Name purpose and channel, or neither.", missing)


class SignalRequest(Strict):
    """A signal that a browser sent."""

    subject = SubjectField(metadata=SUBJECT_FORMS)
    browser = fields.String(
        validate=_printable(200),
        metadata={"description": "A random id that your site gave the browser, not an address."},
    )
    signal = fields.String(
        required=True,
        validate=validate.OneOf([one.value for one in Signal], error="Not a signal that we know."),
    )
    value = fields.String(
        required=True,
        validate=validate.Length(max=200),
        metadata={"description": "The header's value, as it came. Only 1 is a signal."},
    )


class ReportedSchema(Strict):
    """What a signal left in force for one of those whose it is."""

    subject = _ref()
    in_force = fields.Boolean(
        required=True,
        metadata={"description": "false where the person said that their earlier yes stands"},
    )
    recorded = fields.Boolean(
        required=True, metadata={"description": "whether this report changed it"}
    )
    record_id = fields.String(required=True, metadata={"description": "the event by which it is"})
    conflicts = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "Purposes that the person had said yes to and that the signal stops. "
            "You may ask whether that yes stands; nothing may wait for the answer. Empty for keys "
            "without consent.check."
        },
    )


class SignalAnswer(Strict):
    """What is in force now."""

    signal = fields.String(required=True)
    honoured = fields.Boolean(
        required=True,
        metadata={"description": "whether the value is a signal: show it (7025(c)(6))"},
    )
    purposes = fields.List(
        fields.String(), required=True, metadata={"description": "those that heed the signal"}
    )
    subjects = fields.List(fields.Nested(ReportedSchema), required=True)


class DateField(fields.Date):
    """A day as `2026-03-01`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        if not isinstance(value, str) or _DAY.fullmatch(value) is None:
            raise ValidationError("Not a day such as 2026-03-01.")
        return super()._deserialize(value, attr, data, **kwargs)


class DoNotCallQuery(Strict):
    """How a do-not-call list is to be taken."""

    listed_on = DateField(required=True)
    smaller = fields.Boolean(truthy={"true"}, falsy={"false"})


class DoNotCallListSchema(Strict):
    """A do-not-call list, and our copy of it."""

    registry = fields.String(required=True)
    name = fields.String(required=True)
    country = fields.String(required=True)
    needed = fields.Boolean(required=True, metadata={"description": "whether any purpose names it"})
    maximum_age_days = fields.Integer(required=True)
    listed_on = fields.String(required=True, allow_none=True, metadata={"format": "date"})
    numbers = fields.Integer(required=True, allow_none=True)


class DoNotCallListsAnswer(Strict):
    """All lists of the policy."""

    lists = fields.List(fields.Nested(DoNotCallListSchema), required=True)


class DoNotCallAnswer(Strict):
    """What an import did."""

    registry = fields.String(required=True)
    listed_on = fields.String(required=True, metadata={"format": "date"})
    numbers = fields.Integer(required=True)
    before = fields.Integer(
        required=True, metadata={"description": "how many numbers the copy before had"}
    )
    malformed_lines = fields.Integer(
        required=True, metadata={"description": "lines that are no number, and left out"}
    )


class ProblemSchema(Strict):
    """RFC 9457 problem details."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    reason = fields.String(required=True)
    errors = fields.Dict()
