"""Documents that can be held to the code are."""

import json
import re
import tomllib

from tests.architecture.sources import ROOT, texts

LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name}: {target}"
        for name, text in texts(".md")
        for target in LINK.findall(text)
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\((.+?\.md)\)", (folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    front_end = json.loads((ROOT / "package.json").read_text())
    requirements = {*project["project"]["dependencies"]}.union(
        *project["dependency-groups"].values()
    )
    named = {requirement.partition(">=")[0] for requirement in requirements}
    named |= front_end["dependencies"].keys() | front_end["devDependencies"].keys()
    document = (ROOT / "docs" / "dependencies.md").read_text()
    assert named == set(re.findall(r"^\| (\S+) \|", document, re.MULTILINE)) - {"Package"}
