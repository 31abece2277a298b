"""What people were told: published notices, by version and language.

What is published never changes, so that it is kept in the process once it was read. Whether a
choice names words that were published is a look into that memory, and only what is not found there
is looked for in the database, once. Which publications there are is known by their number: whoever
reads it together with the registers (`consent.checks`) decides by all that was published, in
whatever process.

Shared by threads; each method reads with the caller's reader. Non-goals: writing and publishing
(`consent.notice_drafts`), and who may see what (all that is published is public).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Row, ScalarSelect, func, select

from consent.models import notice_version as version_table
from consent.models import notice_words as words_table
from consent.notice_history import NOTHING_PUBLISHED, NoticeHistory, Publication
from consent.subjects import Reader

Name: TypeAlias = tuple[str, str, str]
"""Notice, version and language, as somebody named them. The case of a language means nothing."""

_version = version_table.c
_words = words_table.c


@dataclass(frozen=True, slots=True)
class Told:
    """As much of published words as a choice that names them needs."""

    language: str
    """In its usual spelling."""
    effective_from: datetime
    hash: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A language of a published version: what it is called, and the hashes of what was shown."""

    language: str
    title: str
    hash: str
    """Of the text: `sha256:` over its UTF-8 bytes."""
    rendering_hash: str
    """Of the page that was made of it."""


@dataclass(frozen=True, slots=True)
class Version:
    """A published version of a notice."""

    notice: str
    version: str
    controller: str
    """The key of the controller in the policy."""
    effective_from: datetime
    published_at: datetime
    material: bool
    languages: tuple[Rendered, ...]
    authors: tuple[str, ...]
    """Opaque references of all who wrote something of it."""
    published_by: str
    reason: str

    @property
    def publication(self) -> Publication:
        """What bears on decisions."""
        return Publication(
            self.notice, self.version, self.effective_from, self.published_at, self.material
        )


@dataclass(frozen=True, slots=True)
class Words:
    """All that people are shown: a published version in one language."""

    notice: str
    version: str
    language: str
    controller: str
    effective_from: datetime
    published_at: datetime
    material: bool
    title: str
    text: str
    recipients: tuple[str, ...]
    hash: str
    rendering: str
    """HTML: the page as it was made when it was published."""
    rendering_hash: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a process knows of publications, up to one of them."""

    number: int = 0
    history: NoticeHistory = NOTHING_PUBLISHED
    told: Mapping[Name, Told] | None = None


class Notices:
    """Reads published notices."""

    def __init__(self) -> None:
        self._kept = _Kept(told={})

    # --- for decisions and choices -----------------------------------------------------------

    def history(self, reader: Reader) -> NoticeHistory:
        """All publications that bear on decisions, up to now."""
        return self.history_up_to(reader, reader.execute(select(newest_publication())).scalar())

    def history_up_to(self, reader: Reader, number: int | None) -> NoticeHistory:
        """All publications up to that number at least, which the caller read meanwhile."""
        kept = self._kept
        return kept.history if (number or 0) <= kept.number else self._load(reader).history

    def told(self, reader: Reader, names: Collection[Name]) -> Mapping[Name, Told]:
        """Of some names, those of published words. Asks the database only for unknown ones."""
        found = _among(names, self._kept)
        if len(found) < len(names):
            found = _among(names, self._load(reader))
        return found

    def _load(self, reader: Reader) -> _Kept:
        rows = reader.execute(
            select(version_table, _words.language, _words.hash).select_from(
                version_table.join(
                    words_table,
                    (_words.notice == _version.notice) & (_words.version == _version.version),
                )
            )
        ).all()
        number = max((row.seq for row in rows), default=0)
        if number > self._kept.number:
            publications = {
                Publication(
                    row.notice, row.version, row.effective_from, row.published_at, row.material
                )
                for row in rows
            }
            self._kept = _Kept(
                number,
                NoticeHistory(publications),
                {
                    (row.notice, row.version, row.language.casefold()): Told(
                        row.language, row.effective_from, row.hash
                    )
                    for row in rows
                },
            )
        return self._kept

    # --- for people, forms and archives --------------------------------------------------------

    def published(self, reader: Reader, notice: str | None = None) -> list[Version]:
        """All published versions (of one notice), newest first by when they take effect.

        A version that is announced for later is among them.
        """
        if notice is not None and not _may_be_names(notice):
            return []
        query = select(version_table).order_by(_version.notice, _version.effective_from.desc())
        languages = select(
            _words.notice,
            _words.version,
            _words.language,
            _words.title,
            _words.hash,
            _words.rendering_hash,
        ).order_by(_words.language)
        if notice is not None:
            query = query.where(_version.notice == notice)
            languages = languages.where(_words.notice == notice)
        rendered: dict[tuple[str, str], list[Rendered]] = {}
        for of, version, *shown in reader.execute(languages):
            rendered.setdefault((of, version), []).append(Rendered(*shown))
        return [
            _version_of(row, rendered.get((row.notice, row.version), ()))
            for row in reader.execute(query).all()
        ]

    def current(self, reader: Reader, notice: str, language: str, now: datetime) -> Words | None:
        """The words in effect at an instant in a language, or in the nearest wider one (RFC 4647
        section 3.4: of `de-AT`, `de`); None where there are none.
        """
        if not _may_be_names(notice, language):
            return None
        row = reader.execute(
            select(version_table)
            .where(_version.notice == notice, _version.effective_from <= now)
            .order_by(_version.effective_from.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            return None
        asked = language
        while asked:
            words = self.version(reader, notice, row.version, asked)
            if words is not None:
                return words
            asked = asked.rpartition("-")[0]
        return None

    def version(self, reader: Reader, notice: str, version: str, language: str) -> Words | None:
        """A published version in exactly this language (in any case); None where there is none."""
        if not _may_be_names(notice, version, language):
            return None
        found = reader.execute(
            select(version_table, words_table)
            .join_from(
                version_table,
                words_table,
                (_words.notice == _version.notice) & (_words.version == _version.version),
            )
            .where(
                _version.notice == notice,
                _version.version == version,
                func.lower(_words.language) == language.lower(),
            )
        ).one_or_none()
        return None if found is None else _words_of(found)


def _may_be_names(*stated: str) -> bool:
    """Whether the database can be asked for these: no name has a character that is not printed."""
    return all(one.isascii() and one.isprintable() for one in stated)


def newest_publication() -> ScalarSelect[int | None]:
    """The number of the newest publication, to be read in one statement with what it bears on."""
    return select(func.max(_version.seq)).scalar_subquery()


def _among(names: Iterable[Name], kept: _Kept) -> dict[Name, Told]:
    told = kept.told or {}
    return {
        name: found
        for name in names
        if (found := told.get((name[0], name[1], name[2].casefold()))) is not None
    }


def _version_of(row: Row[Any], rendered: Iterable[Rendered]) -> Version:
    return Version(
        notice=row.notice,
        version=row.version,
        controller=row.controller,
        effective_from=row.effective_from,
        published_at=row.published_at,
        material=row.material,
        languages=tuple(rendered),
        authors=tuple(row.authors.split()),
        published_by=row.published_by,
        reason=row.reason,
    )


def _words_of(row: Row[Any]) -> Words:
    return Words(
        notice=row.notice,
        version=row.version,
        language=row.language,
        controller=row.controller,
        effective_from=row.effective_from,
        published_at=row.published_at,
        material=row.material,
        title=row.title,
        text=row.text,
        recipients=tuple(row.recipients.split("\n")),
        hash=row.hash,
        rendering=row.rendering,
        rendering_hash=row.rendering_hash,
    )
