"""A directory of YAML files → one versioned, hashed `PolicySet`, or a list of all that is wrong.

Every `*.yaml` and `*.yml` in the directory is read; directories below it and hidden files are not.
How the rules are spread over files is free: each may hold controllers and purposes, and one of
them states the version.

Guarantees: all or nothing. What cannot be read, is not understood or contradicts something else
is reported with its file and line, and no `PolicySet` is made.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from marshmallow import ValidationError

from policies import document
from policies.document import Document, Place, Value, quote
from policies.errors import PolicyLoadError, Problem
from policies.fingerprint import fingerprint
from policies.model import Controller, PolicySet, Purpose, Registry
from policies.schema import PolicyFileSchema

LIBRARY: Final = Path(__file__).parent / "library"
"""The policies that are shipped: a fictional controller and the usual purposes of a CRM."""

MAX_FILES: Final = 200
_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_KIND: Final = {"controllers": "Controller", "purposes": "Purpose", "registries": "Registry"}
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCHEMA: Final = PolicyFileSchema()


def load(directory: Path) -> PolicySet:
    """The policy set that the files in `directory` make up.

    Raises:
        PolicyLoadError: with every problem that was found.
    """
    documents, problems = _read(directory)
    if not problems:
        # Only when every file was read can something be said to be missing.
        problems += _across(directory, documents)
    contents: list[Mapping[str, Any]] = []
    for one in documents:
        try:
            contents.append(_SCHEMA.load(one.content))
        except ValidationError as error:
            problems += _described(one, error.messages, ())
    if problems:
        raise PolicyLoadError(problems)
    return _assembled(contents)


def _assembled(contents: Sequence[Mapping[str, Any]]) -> PolicySet:
    controllers: dict[str, Controller] = {}
    purposes: dict[str, Purpose] = {}
    registries: dict[str, Registry] = {}
    version = ""
    for content in contents:
        controllers |= content.get("controllers", {})
        purposes |= content.get("purposes", {})
        registries |= content.get("registries", {})
        version = content.get("version", version)
    return PolicySet(
        version=version,
        hash=fingerprint(version, controllers.values(), purposes.values(), registries.values()),
        controllers=MappingProxyType(dict(sorted(controllers.items()))),
        purposes=MappingProxyType(dict(sorted(purposes.items()))),
        registries=MappingProxyType(dict(sorted(registries.items()))),
    )


def _read(directory: Path) -> tuple[list[Document], list[Problem]]:
    try:
        root = directory.resolve(strict=True)
        paths = sorted(
            path
            for path in root.iterdir()
            if path.suffix in _SUFFIXES and not path.name.startswith(".")
        )
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return [], [Problem(str(directory), None, f"The directory cannot be read: {_why(error)}.")]
    if not paths:
        return [], [Problem(str(directory), None, "There are no policy files (*.yaml, *.yml).")]
    if len(paths) > MAX_FILES:
        return [], [Problem(str(directory), None, f"There are more than {MAX_FILES} policy files.")]
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        found = _read_file(root, path)
        if isinstance(found, Document):
            documents.append(found)
        else:
            problems += found
    return documents, problems


def _read_file(root: Path, path: Path) -> Document | list[Problem]:
    name = path.name if path.name.isprintable() else ascii(path.name)
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(root):
            return [Problem(name, None, "The link leads out of the directory of the policies.")]
        if not target.is_file():
            return [Problem(name, None, "This is not a regular file.")]
        with target.open("rb") as file:
            data = file.read(document.MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:
        return [Problem(name, None, f"The file cannot be read: {_why(error)}.")]
    return document.read(name, data)


def _why(error: OSError | RuntimeError) -> str:
    """The reason in words, without the path: the problem names the file already."""
    code = error.errno if isinstance(error, OSError) else None
    return os.strerror(code) if code is not None else "its links lead in a circle"


def _described(one: Document, messages: object, place: Place) -> Iterator[Problem]:
    """Marshmallow's nested messages, each as a sentence with its line."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from _described(one, inner, place if key == "_schema" else (*place, key))
    elif isinstance(messages, list):
        for message in messages:
            yield from _described(one, message, place)
    else:
        sentence = f"{_called(place)} {messages}"
        yield Problem(
            one.file, one.line(place), sentence if sentence[-1] in ".?" else f"{sentence}."
        )


def _called(place: Place) -> str:
    """`("purposes", "newsletter", "channels", 0)` → `Purpose newsletter: channels[0]`."""
    section, *rest = place
    if section not in _KIND or not rest:
        return f"The key {_dotted(place)}"
    key, *rest = rest
    entry = f"{_KIND[str(section)]} {_key(key)}"
    return f"{entry}: {_dotted(rest)}" if rest else entry


def _dotted(steps: Iterable[str | int]) -> str:
    parts = (f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in steps)
    return "".join(parts).removeprefix(".")


def _key(step: str | int) -> str:
    text = str(step)
    return text if _PLAIN_KEY.fullmatch(text) else quote(text)


def _across(directory: Path, documents: Sequence[Document]) -> Iterator[Problem]:
    """What no file shows by itself: doubles, references to nothing, a version, any purpose."""
    yield from _versions(directory, documents)
    for kind in _KIND:
        yield from _doubles(documents, kind)
    yield from _unknown_controllers(documents)
    yield from _unknown_registries(documents)
    yield from _ambiguous_names(documents)
    if not any(_entries(one, "purposes") for one in documents):
        yield Problem(str(directory), None, "No file declares a purpose.")


def _versions(directory: Path, documents: Sequence[Document]) -> Iterator[Problem]:
    first: Document | None = None
    for one in documents:
        if "version" not in one.content:
            continue
        if first is not None:
            sentence = f"The version was stated already, in {first.file}."
            yield Problem(one.file, one.line(("version",)), sentence)
        first = first or one
    if first is None:
        yield Problem(str(directory), None, "No file states the version.")


def _doubles(documents: Sequence[Document], kind: str) -> Iterator[Problem]:
    seen: dict[str, Document] = {}
    for one in documents:
        for key in _entries(one, kind):
            if key in seen:
                sentence = f"{_KIND[kind]} {_key(key)} was declared already, in {seen[key].file}."
                yield Problem(one.file, one.line((kind, key)), sentence)
            seen.setdefault(key, one)


def _unknown_controllers(documents: Sequence[Document]) -> Iterator[Problem]:
    declared = {key for one in documents for key in _entries(one, "controllers")}
    for one in documents:
        for key, purpose in _entries(one, "purposes").items():
            controller = purpose.get("controller") if isinstance(purpose, dict) else None
            if isinstance(controller, str) and controller not in declared:
                sentence = (
                    f"Purpose {_key(key)}: controller {quote(controller)} is declared in no file."
                )
                yield Problem(one.file, one.line(("purposes", key, "controller")), sentence)


def _unknown_registries(documents: Sequence[Document]) -> Iterator[Problem]:
    """A purpose names lists that are declared, and that bear on a channel of its own."""
    declared = {
        key: entry for one in documents for key, entry in _entries(one, "registries").items()
    }
    for one in documents:
        for key, purpose in _entries(one, "purposes").items():
            named = purpose.get("do_not_call") if isinstance(purpose, dict) else None
            for position, registry in enumerate(named if isinstance(named, list) else ()):
                if not isinstance(registry, str):
                    continue
                if registry not in declared:
                    fault = "is declared in no file"
                elif _disjoint(purpose, declared[registry]):
                    fault = "bears on no channel of the purpose"
                else:
                    continue
                place = ("purposes", key, "do_not_call", position)
                sentence = f"Purpose {_key(key)}: registry {quote(registry)} {fault}."
                yield Problem(one.file, one.line(place), sentence)


def _disjoint(*entries: Value) -> bool:
    """Whether these entries name channels, and none that all of them name."""
    named = [one.get("channels") if isinstance(one, dict) else None for one in entries]
    words = [
        {word for word in one if isinstance(word, str)} for one in named if isinstance(one, list)
    ]
    return len(words) == len(entries) and not set.intersection(*words)


def _ambiguous_names(documents: Sequence[Document]) -> Iterator[Problem]:
    """An import finds a purpose by what another system calls it, so that must be one purpose."""
    owners: dict[tuple[str, str], str] = {}
    for one in documents:
        for key, purpose in _entries(one, "purposes").items():
            for place, system, name in _external_names(key, purpose):
                owner = owners.setdefault((system, name.strip().casefold()), key)
                if owner != key:
                    sentence = (
                        f"Purpose {_key(key)}: {_key(system)} calls purpose {_key(owner)} "
                        f"{quote(name)} too."
                    )
                    yield Problem(one.file, one.line(place), sentence)


def _external_names(key: str, purpose: Value) -> Iterator[tuple[Place, str, str]]:
    systems = purpose.get("external_names") if isinstance(purpose, dict) else None
    for system, names in systems.items() if isinstance(systems, dict) else ():
        for position, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str):
                yield ("purposes", key, "external_names", system, position), system, name


def _entries(one: Document, kind: str) -> Mapping[str, Value]:
    entries = one.content.get(kind)
    return entries if isinstance(entries, dict) else {}
