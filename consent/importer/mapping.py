"""Mapping files: what the columns of an export mean, where its own names do not say.

YAML or JSON, read as strictly as policies are: every scalar is text, and what is unknown, twice or
without effect is refused with its line. One file is for one kind of export: `csv` says what each
column of a table of any origin is; `salesforce` adds what an export of Salesforce leaves open.

A mapping cannot make a consent of nothing: a yes stands in a column, never in the mapping; an
empty cell is no yes; and when it was given stands in a column that is about the consent, not about
the record.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marshmallow import RAISE, Schema, ValidationError, fields, validates_schema

from consent.choices import NoticeRef
from consent.importer import salesforce
from consent.importer.cells import plain, printable
from consent.importer.rows import UnreadableFileError
from policies.document import Document, Place, Value, read
from policies.fields import Entries, OneOf, Terms, Text, Word
from policies.model import PolicySet
from policies.vocabulary import ANY, Channel, ChoiceState, LegalBasis

ENCODINGS: Final[Mapping[str, str]] = MappingProxyType(
    # In iso-8859-1 exports of Windows programs, too, the bytes 80 to 9F are those of Windows.
    {
        "utf-8": "utf-8",
        "windows-1252": "cp1252",
        "cp1252": "cp1252",
        "latin-1": "cp1252",
        "iso-8859-1": "cp1252",
        "iso-8859-15": "iso-8859-15",
    }
)
"""Encodings that may be declared, and how they are read."""
DELIMITERS: Final[Mapping[str, str]] = MappingProxyType(
    {",": ",", ";": ";", "|": "|", "tab": "\t", "\t": "\t"}
)

_UTC: Final = ZoneInfo("UTC")
_SYSTEM: Final = r"[a-z0-9][a-z0-9_.-]{0,40}"
MADE_NOT_GIVEN: Final = frozenset(
    {
        "create date",
        "createdate",
        "created date",
        "createddate",
        "last activity date",
        "last modified date",
        "lastmodifieddate",
        "hs_lastmodifieddate",
        "systemmodstamp",
    }
)
"""Columns of CRMs that tell when a record was made or touched."""
_HUBSPOT_STATUS: Final = re.compile(r".+ subscription status")


class MappingError(UnreadableFileError):
    """The mapping cannot be used. `problems` are sentences, each with its line where it has one."""

    code = "IMPORT_MAPPING_INVALID"

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            "The mapping cannot be used, and nothing was imported:\n" + "\n".join(problems)
        )
        self.problems: Final = tuple(problems)


class Order(StrEnum):
    """How a date such as 03/04/2022 is to be read. Without one it is no date: it may be two."""

    DMY = "dmy"
    MDY = "mdy"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a text comes from: a column, or the mapping itself."""

    column: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """A word of ours: always the same, or by what stands in a column."""

    always: str = ""
    column: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    """Keys are as `plain` makes them."""


UNKNOWN: Final = "unknown"
"""The state of who has not decided: nothing is recorded."""


@dataclass(frozen=True, slots=True)
class ChoiceColumns:
    """Where a row says something about one purpose and channel, or several by their names."""

    purpose: Looked
    channel: Looked
    state: Looked
    time: str = ""
    """When a yes was given."""
    denied_at: str = ""
    """When a no was said. Without it a no counts from the import on."""
    source: Source = Source()
    words: Source = Source()
    notice: NoticeRef | None = None
    confirmed: str = ""
    ends: str = ""
    age: str = ""
    authority: str = ""

    @property
    def grants(self) -> bool:
        """Whether it can say yes."""
        return ChoiceState.GRANTED in self.state.values.values()

    def columns(self) -> Iterator[str]:
        """Every column that it reads."""
        for looked in (self.purpose, self.channel, self.state):
            yield looked.column
        yield from (self.source.column, self.words.column)
        yield from (self.time, self.denied_at, self.confirmed, self.ends, self.age, self.authority)


@dataclass(frozen=True, slots=True)
class TableMapping:
    """What the columns of a table mean."""

    system: str
    choices: tuple[ChoiceColumns, ...]
    email: str = ""
    phone: str = ""
    external_id: str = ""
    order: Order | None = None
    zone: ZoneInfo = _UTC

    def columns(self) -> list[str]:
        """Every column that is read."""
        named = [self.email, self.phone, self.external_id]
        named += [column for choice in self.choices for column in choice.columns()]
        return list(dict.fromkeys(filter(None, named)))


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A mapping file that was read and found good."""

    kind: str
    content: Mapping[str, Value]
    """As it was written, for the report."""
    encoding: str | None = None
    delimiter: str | None = None
    table: TableMapping | None = None
    settings: salesforce.Settings | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical content, whatever way it was written."""
        return sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()


def load(name: str, data: bytes, policies: PolicySet) -> MappingFile:
    """Read a mapping file.

    Args:
        name: of the file, for messages.
        data: its content, YAML or JSON.
        policies: says which purposes and channels there are.

    Raises:
        MappingError: names everything that is wrong with it.
    """
    document = read(name, data)
    if not isinstance(document, Document):
        raise MappingError([str(problem) for problem in document])
    kind = document.content.get("kind")
    schema = _SCHEMAS.get(kind) if isinstance(kind, str) else None
    if schema is None:
        raise MappingError([f"{name}: kind must be csv or salesforce."])
    try:
        given = schema.load(document.content)
    except ValidationError as error:
        raise MappingError(list(_sentences(document, error.messages))) from error
    problems = list(_against_policies(given, policies))
    if problems:
        raise MappingError([f"{name}: {problem}" for problem in problems])
    return MappingFile(
        kind=str(kind),
        content=document.content,
        encoding=given.get("encoding"),
        delimiter=DELIMITERS[given["delimiter"]] if "delimiter" in given else None,
        table=_table(given) if kind == "csv" else None,
        settings=_salesforce(given) if kind == "salesforce" else None,
    )


def written(content: Mapping[str, Value]) -> str:
    """A mapping as JSON text that `load` reads."""
    return json.dumps(content, ensure_ascii=False, indent=2)


# --- what may be written -----------------------------------------------------------------------


class _Strict(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012 - marshmallow declares it as an instance's own
        "type": "must be a mapping of keys to values",
        "unknown": "is not known here",
    }


class _Cell(fields.Field[str]):
    """What may stand in a cell: any short text, also none."""

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        if not isinstance(value, str) or len(value) > 200:
            raise ValidationError("must be a text of at most 200 characters")
        return plain(value)


class _NoticeSchema(_Strict):
    id = Word(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "a name such as newsletter", required=True)
    version = Text(64, required=True)
    language = Word(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", "a language such as de", required=True)


class _SourceSchema(_Strict):
    column = Text(200)
    text = Text(2000)

    @validates_schema
    def _one(self, data: dict[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError("must have either column or text")


class _Values(fields.Field[Mapping[str, str]]):
    """A mapping of what stands in cells to words of ours."""

    def __init__(self, inner: fields.Field[Any]) -> None:
        super().__init__(required=True, error_messages={"required": "is missing"})
        self._inner = inner

    def _deserialize(self, value: object, *_: object, **__: object) -> Mapping[str, str]:
        if not isinstance(value, dict) or not value:
            raise ValidationError("must be a mapping of what stands in the cells to our words")
        found: dict[str, str] = {}
        errors: dict[str, Any] = {}
        for cell, word in value.items():
            if plain(cell) in found:
                errors[cell] = ["is there twice, where case and spaces say nothing"]
            try:
                found[str(_Cell().deserialize(cell))] = str(self._inner.deserialize(word))
            except ValidationError as error:
                errors[cell] = error.messages
        if errors:
            raise ValidationError(errors)
        return found


class _Looked(fields.Field[Looked]):
    """A word, or a column with its values."""

    def __init__(self, inner: fields.Field[Any], *, fixed: bool) -> None:
        super().__init__(required=True, error_messages={"required": "is missing"})
        self._inner = inner
        self._fixed = fixed
        parts: dict[str, fields.Field[Any]] = {
            "column": Text(200, required=True),
            "values": _Values(inner),
        }
        self._columns = _Strict.from_dict(parts)()

    def _deserialize(self, value: object, *_: object, **__: object) -> Looked:
        if isinstance(value, str) and self._fixed:
            return Looked(always=str(self._inner.deserialize(value)))
        if not isinstance(value, dict):
            raise ValidationError("must be a mapping with column and values")
        content = self._columns.load(value)
        return Looked(column=content["column"], values=content["values"])


_PURPOSE: Final = Word(r"\*|[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", "a purpose's key, or *")


class _ChannelWord(fields.Field[str]):
    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        return ANY if value == ANY else OneOf(Channel).deserialize(value).value


class _StateWord(fields.Field[str]):
    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        return UNKNOWN if value == UNKNOWN else OneOf(ChoiceState).deserialize(value).value


class _ChoiceSchema(_Strict):
    purpose = _Looked(_PURPOSE, fixed=True)
    channel = _Looked(_ChannelWord(), fixed=True)
    state = _Looked(_StateWord(), fixed=False)
    time = Text(200)
    denied_at = Text(200)
    source = fields.Nested(_SourceSchema)
    words = fields.Nested(_SourceSchema)
    notice = fields.Nested(_NoticeSchema)
    confirmed = Text(200)
    ends = Text(200)
    age = Text(200)
    authority = Text(200)

    @validates_schema
    def _is_no_default(self, data: dict[str, Any], **_: Any) -> None:
        """A yes must be one: in a column, not empty, not HubSpot's default, with its own time."""
        state: Looked | None = data.get("state")
        if state is None or ChoiceState.GRANTED not in state.values.values():
            return
        if state.values.get("") == ChoiceState.GRANTED:
            raise ValidationError({"state": ["says that an empty cell is a yes; nobody said so"]})
        if _HUBSPOT_STATUS.fullmatch(plain(state.column)):
            why = "reads HubSpot's status, whose Opted in is a default: import it as hubspot"
            raise ValidationError({"state": [why]})
        for name in ("time", "source", "words"):
            if name not in data:
                raise ValidationError({name: ["is missing: a yes counts only with it"]})
        if plain(data["time"]) in MADE_NOT_GIVEN:
            raise ValidationError(
                {"time": ["tells when the record was made or touched, not when somebody agreed"]}
            )
        for name in ("purpose", "channel"):
            looked: Looked | None = data.get(name)
            if looked is not None and ANY in (looked.always, *looked.values.values()):
                raise ValidationError({name: ["is *, and only a no may speak for all"]})


class _FileSchema(_Strict):
    kind = Text(20, required=True)
    encoding = Text(20)
    delimiter = fields.Raw()

    @validates_schema
    def _known(self, data: dict[str, Any], **_: Any) -> None:
        for name, known in (("encoding", ENCODINGS), ("delimiter", DELIMITERS)):
            if name in data and data[name] not in known:
                raise ValidationError({name: [f"must be one of {', '.join(known)}"]})


class _IdentifiersSchema(_Strict):
    email = Text(200)
    phone = Text(200)
    external_id = Text(200)

    @validates_schema
    def _someone(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("must name at least one of email, phone and external_id")


class _Zone(fields.Field[ZoneInfo]):
    def _deserialize(self, value: object, *_: object, **__: object) -> ZoneInfo:
        try:
            return ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValidationError("must be a time zone such as Europe/Berlin") from error


class _TableSchema(_FileSchema):
    system = Word(_SYSTEM, "a short name such as old-shop", required=True)
    zone = _Zone()
    dates = OneOf(Order)
    identifiers = fields.Nested(
        _IdentifiersSchema, required=True, error_messages={"required": "is missing"}
    )
    choices = fields.List(
        fields.Nested(_ChoiceSchema),
        required=True,
        error_messages={"required": "is missing", "invalid": "must be a list"},
    )

    @validates_schema
    def _any(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("choices") == []:
            raise ValidationError({"choices": ["is empty, so that nothing would be imported"]})


class _WordsSchema(_Strict):
    text = Text(2000, required=True)
    notice = fields.Nested(_NoticeSchema)


class _Name(Word):
    """What another system calls something."""

    def __init__(self) -> None:
        super().__init__("", "a name")
        self._text = Text(255)

    def _deserialize(self, value: object, *_: object, **__: object) -> str:
        return str(self._text.deserialize(value))


def _words(value: Any) -> Any:
    return _WordsSchema().load(value)


class _SalesforceSchema(_FileSchema):
    purposes = Entries(_Name(), lambda _, value: str(_PURPOSE.deserialize(value)))
    channels = Entries(_Name(), lambda _, value: Terms(OneOf(Channel)).deserialize(value))
    opt_outs = Entries(_Name(), lambda _, value: Terms(_PURPOSE).deserialize(value))
    words = Entries(_Name(), lambda _, value: _words(value))


_SCHEMAS: Final[Mapping[str, Schema]] = MappingProxyType(
    {"csv": _TableSchema(), "salesforce": _SalesforceSchema()}
)


# --- what was written --------------------------------------------------------------------------


def _table(given: Mapping[str, Any]) -> TableMapping:
    return TableMapping(
        system=given["system"],
        choices=tuple(
            ChoiceColumns(
                **{
                    name: value
                    for name, value in choice.items()
                    if name not in {"source", "words", "notice"}
                },
                source=Source(**choice.get("source", {})),
                words=Source(**choice.get("words", {})),
                notice=NoticeRef(**choice["notice"]) if "notice" in choice else None,
            )
            for choice in given["choices"]
        ),
        order=given.get("dates"),
        zone=given.get("zone", _UTC),
        **given["identifiers"],
    )


def _salesforce(given: Mapping[str, Any]) -> salesforce.Settings:
    return salesforce.Settings(
        purposes={plain(name): key for name, key in given.get("purposes", {}).items()},
        channels={
            re.sub(r"[\W_]+", "", plain(name)): channels
            for name, channels in given.get("channels", {}).items()
        },
        opt_outs={plain(name): keys for name, keys in given.get("opt_outs", {}).items()},
        words={
            plain(name): salesforce.Words(
                told["text"], NoticeRef(**told["notice"]) if "notice" in told else None
            )
            for name, told in given.get("words", {}).items()
        },
    )


def _against_policies(given: Mapping[str, Any], policies: PolicySet) -> Iterator[str]:
    """What names purposes or channels that are not there, or claims consent where none counts."""
    named = [*given.get("purposes", {}).values()]
    named += [key for keys in given.get("opt_outs", {}).values() for key in keys]
    for choice in given.get("choices", []):
        named += [*filter(None, (choice["purpose"].always, *choice["purpose"].values.values()))]
    for key in dict.fromkeys(named):
        if key != ANY and policies.purpose(key) is None:
            known = ", ".join(policies.purposes)
            yield f"the policy has no purpose {key}; its purposes are {known}."
    for number, choice in enumerate(given.get("choices", []), start=1):
        yield from _cannot_be_granted(number, choice, policies)


def _cannot_be_granted(
    number: int, choice: Mapping[str, Any], policies: PolicySet
) -> Iterator[str]:
    purpose = policies.purpose(choice["purpose"].always)
    if purpose is None or ChoiceState.GRANTED not in choice["state"].values.values():
        return
    if purpose.legal_basis is not LegalBasis.CONSENT:
        yield (
            f"choice {number} grants {purpose.key}, which rests on {purpose.legal_basis} and not "
            "on consent: only a no to it means anything."
        )
    channel = choice["channel"].always
    if channel and channel not in purpose.channels:
        yield f"choice {number} grants {purpose.key} on {channel}, where it is not pursued."


def _sentences(document: Document, messages: Any, at: Place = ()) -> Iterator[str]:
    """Each message with the line that it is about."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _sentences(document, inner, at if key == "_schema" else (*at, key))
        return
    where = ".".join(printable(str(part)) for part in at) or "The mapping"
    for message in messages if isinstance(messages, list) else [messages]:
        yield f"{document.file}:{document.line(at)}: {where} {message}."
