"""One YAML file → plain values that know their lines. Strict, and blind to meaning.

Guarantees:

- Every scalar is text: the country `NO` stays `NO` and version `1.10` keeps its zero. What a
  text means is for `policies.schema` to say.
- Anchors, aliases, merge keys and tags are refused, not expanded: no value can be larger than
  the file that it stands in, and none can contain itself.
- Size, depth and the number of values are bounded before anything is built from them.
- A key stands once in its mapping, and a file holds one document.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import yaml

from policies.errors import Problem

Value: TypeAlias = "str | list[Value] | dict[str, Value]"
Place: TypeAlias = tuple[str | int, ...]
"""Keys and positions from the top of a file to a value: `("purposes", "newsletter", "dpv", 0)`."""

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 12
MAX_VALUES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file, and the line on which each part of it begins."""

    file: str
    content: Mapping[str, Value]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest part around it that stands in the file."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]


def read(file: str, data: bytes) -> Document | list[Problem]:
    """The document in `data`, or all that keeps it from being read.

    Args:
        file: the name that problems are reported under.
        data: the bytes of the file. More than `MAX_BYTES` are refused.
    """
    text = _decode(file, data)
    if isinstance(text, Problem):
        return [text]
    reader = _Reader(file, text)
    content = reader.read()
    if reader.problems or content is None:
        return reader.problems
    return Document(file, content, reader.lines)


def quote(text: str) -> str:
    """`text` as it may stand in a message: in quotes, printable, and not too long."""
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _decode(file: str, data: bytes) -> str | Problem:
    if len(data) > MAX_BYTES:
        return Problem(file, None, "The file is larger than 1 MiB.")
    zero = data.find(0)
    if zero >= 0:
        return Problem(file, _line_at(data, zero), "The file holds a NUL byte.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(file, _line_at(data, error.start), "The file is not valid UTF-8.")


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


class _RefusedError(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


class _Reader:
    """Builds values from the parser's events: nodes would come with their aliases resolved."""

    def __init__(self, file: str, text: str) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[Place, int] = {}
        self._file = file
        self._text = text
        self._values = 0
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)

    def read(self) -> Mapping[str, Value] | None:
        """The mapping at the top of the file, or None when the file was refused."""
        try:
            return self._only_document()
        except _RefusedError as refused:
            self._report(refused.line, refused.sentence)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # At the end of the text the parser points past the last line.
            last = self._text.rstrip("\n").count("\n")
            line = 1 + (min(mark.line, last) if mark is not None else 0)
            self._report(line, f"This is not valid YAML: {error.problem or error.context}.")
        except yaml.reader.ReaderError as error:
            line = _line_at(self._text.encode(), error.position)
            self._report(line, f"A character is not allowed in YAML: {error.reason}.")
        return None

    def _only_document(self) -> Mapping[str, Value]:
        event = self._next()
        while not isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.StreamEndEvent):
                raise _RefusedError(1, "The file is empty.")
            event = self._next()
        content = self._value(event, ())
        event = self._next()
        while not isinstance(event, yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                raise _RefusedError(_line(event), "A file holds one document; here begins another.")
            event = self._next()
        if not isinstance(content, dict):
            raise _RefusedError(
                1, "The file must be a mapping with the keys version, controllers and purposes."
            )
        return content

    def _value(self, event: yaml.Event, at: Place) -> Value:
        self._inspect(event)
        self.lines.setdefault(at, _line(event))
        if len(at) > MAX_DEPTH:
            raise _RefusedError(_line(event), f"Values are nested more than {MAX_DEPTH} deep.")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(at)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(at)
        return str(event.value) if isinstance(event, yaml.ScalarEvent) else ""

    def _list(self, at: Place) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*at, len(items))))
        return items

    def _mapping(self, at: Place) -> dict[str, Value]:
        items: dict[str, Value] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event), _line(event)
            if key in items:
                first = self.lines[(*at, key)]
                self._report(line, f"The key {quote(key)} stands here again, after line {first}.")
            self.lines.setdefault((*at, key), line)
            items[key] = self._value(self._next(), (*at, key))
        return items

    def _key(self, event: yaml.Event) -> str:
        self._inspect(event)
        if isinstance(event, yaml.CollectionStartEvent):
            raise _RefusedError(_line(event), "A key must be a word, not a list or a mapping.")
        key = str(event.value) if isinstance(event, yaml.ScalarEvent) else ""
        if key == "<<":
            self._report(_line(event), "A merge key (<<) is refused: write the values out.")
        return key

    def _inspect(self, event: yaml.Event) -> None:
        """Count the value, and report what YAML offers beyond text, lists and mappings."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise _RefusedError(_line(event), f"The file holds more than {MAX_VALUES:,} values.")
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            self._report(_line(event), f"The alias *{anchor} is refused: write its value out here.")
        elif anchor is not None:
            self._report(_line(event), f"The anchor &{anchor} is refused: values are written out.")
        if tag is not None:
            self._report(_line(event), f"The tag {quote(tag)} is refused: every value is text.")

    def _next(self) -> yaml.Event:
        return next(self._events)

    def _report(self, line: int, sentence: str) -> None:
        self.problems.append(Problem(self._file, line, sentence))


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return 1 if mark is None else int(mark.line) + 1
