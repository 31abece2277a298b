"""The files of this repository, as git sees them."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("policies", "consent", "governance", "admin_ui")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that is committed or would be: ignored ones are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def python_files(*folders: str) -> Iterator[Path]:
    """The Python files below some folders."""
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders:
            yield path


def texts(*suffixes: str, below: str = ".") -> Iterator[tuple[str, str]]:
    """Name and text of the files with these suffixes; of all text files without any."""
    for path in tracked():
        if (suffixes and path.suffix not in suffixes) or not path.is_relative_to(ROOT / below):
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield str(path.relative_to(ROOT)), content.decode()


def lines(*suffixes: str, below: str = ".") -> Iterator[tuple[str, str]]:
    """Place (`file:line`) and text of every line of such files."""
    for name, text in texts(*suffixes, below=below):
        for number, line in enumerate(text.splitlines(), start=1):
            yield f"{name}:{number}", line
