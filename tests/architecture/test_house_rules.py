"""The rules of CONTRIBUTING that a machine can hold."""

import ast
import json
import re
from fnmatch import fnmatch

from admin_ui.console.navigation import SECTIONS
from tests.architecture.sources import PACKAGES, ROOT, lines, python_files, texts, tracked

THIRD_PARTY = (
    "*.min.*",
    "*.map",
    "*.woff*",
    "*.ttf",
    "*.otf",
    "*.whl",
    "*.tar.*",
    "*/vendor/*",
    "*/node_modules/*",
)
LARGEST_BYTES = 512 * 1024

INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=[\"']|\bhx-on|javascript:|\bsrcdoc=",
    re.IGNORECASE,
)
FROM_ELSEWHERE = re.compile(
    r"(?:\b(?:src|srcset|action|formaction)=|<link[^>]*\bhref=|url\(|@import\s)[\"'\s]*(?:https?:)?//"
    r"|(?:cdn|unpkg|jsdelivr|googleapis|gstatic|cloudflare)\.",
    re.IGNORECASE,
)
# Spelled so that this line does not find itself.
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|X{3}|NotImplemented[E]rror)\b")


def test_nothing_third_party_is_committed() -> None:
    names = [str(path.relative_to(ROOT)) for path in tracked()]
    assert [name for name in names if any(fnmatch(name, form) for form in THIRD_PARTY)] == []
    assert [str(path) for path in tracked() if path.stat().st_size > LARGEST_BYTES] == []


def test_nothing_is_left_unfinished() -> None:
    places = [place for place, line in lines() if UNFINISHED.search(line)]
    assert places == []


def test_templates_have_no_inline_script_or_style() -> None:
    assert [place for place, line in lines(".html", ".jinja", ".svg") if INLINE.search(line)] == []


def test_pages_load_nothing_from_elsewhere() -> None:
    found = [
        place
        for place, line in lines(".html", ".jinja", ".css", ".js", ".svg", ".py", below="admin_ui")
        if FROM_ELSEWHERE.search(line)
    ]
    assert found == []


def test_the_icons_that_pages_use_are_those_that_are_fetched() -> None:
    fetched = set((ROOT / "tools" / "icons.txt").read_text().split())
    quoted = {
        word
        for _, line in lines(".html", ".py", below="admin_ui")
        for word in re.findall(r"\"([a-z0-9-]+)\"", line)
    }
    called = {
        name
        for _, line in lines(".html", below="admin_ui")
        for name in re.findall(r"\bicon\(\"([a-z0-9-]+)\"\)", line)
    }
    called |= {item.icon for item in SECTIONS if item.icon}
    assert called <= fetched
    assert fetched <= quoted, "nothing shows these"


def test_locks_name_no_address() -> None:
    for name, text in texts(".lock"):
        assert "//" not in text, name
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


def test_every_locked_package_has_a_hash() -> None:
    for name, text in texts(".lock"):
        requirements = text.replace("\\\n", " ").splitlines()
        assert requirements, name
        assert [line for line in requirements if "--hash=sha256:" not in line] == [], name


def test_the_environment_is_read_in_one_module() -> None:
    # `update` hands settings on to worker processes; it reads nothing.
    reading = re.compile(
        r"\bos\.(?:environ\b(?!\.update\()|getenv\b)|from os import .*\b(?:environ|getenv)\b"
    )
    readers = {
        str(path.relative_to(ROOT))
        for path in python_files(*PACKAGES)
        if reading.search(path.read_text())
    }
    assert readers == {"admin_ui/settings.py"}


def test_only_entry_points_commit() -> None:
    committers = {
        str(path.relative_to(ROOT))
        for path in python_files(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
    }
    assert committers <= {"governance/database.py"}


def test_each_test_file_has_a_name_of_its_own() -> None:
    names = [path.name for path in python_files("tests") if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
