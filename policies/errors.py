"""Errors of this package: one base, each message a plain sentence without personal data."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class PolicyError(Exception):
    """A policy cannot be used as written."""

    code: ClassVar[str] = "POLICY_ERROR"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the policy files, and where."""

    file: str
    """Name of the file, or of the directory when no single file is to blame."""
    line: int | None
    """Counted from 1; None when the file as a whole is meant."""
    sentence: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.sentence}"


class PolicyLoadError(PolicyError):
    """The policy files were refused. `problems` holds all that was found, in reading order."""

    code = "POLICY_INVALID"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(
            sorted(problems, key=lambda one: (one.file, one.line or 0, one.sentence))
        )
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)
