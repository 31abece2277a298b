"""The direction of dependencies: the contracts of `.importlinter`, and what they rest on."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.architecture.sources import PACKAGES, ROOT, python_files

# Part of a framework that is a dependency, and imported under its own name.
WITH_FRAMEWORK = {
    "apispec": "flask-smorest",
    "asgiref": "django",
    "itsdangerous": "flask",
    "jinja2": "flask",
    "markupsafe": "flask",
    "webargs": "flask-smorest",
    "werkzeug": "flask",
    "wtforms": "flask-wtf",
}


def test_every_import_contract_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=".importlinter", no_logo=True, no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("package", PACKAGES)
def test_init_holds_a_docstring_alone(package: str) -> None:
    for path in (ROOT / package).rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, f"{path}: import the defining module instead"
        assert ast.get_docstring(ast.Module(body, []))


def test_every_imported_distribution_is_declared() -> None:
    for project, files in DISTRIBUTIONS.items():
        declared = {name.partition("[")[0] for name in declared_dependencies(project)}
        distributions = packages_distributions()
        undeclared = {
            f"{path.relative_to(ROOT)}: {name}"
            for path in files
            for name in imported(path)
            if not declared & {d.lower().replace("_", "-") for d in distributions.get(name, [])}
            and WITH_FRAMEWORK.get(name) not in declared
        }
        assert not undeclared


def test_every_dependency_is_imported() -> None:
    for project, files in DISTRIBUTIONS.items():
        used = {name for path in files for name in imported(path)}
        distributions = packages_distributions()
        found = {d.lower().replace("_", "-") for name in used for d in distributions.get(name, [])}
        declared = {name.partition("[")[0] for name in declared_dependencies(project)}
        # The driver is loaded by SQLAlchemy, from the URL.
        assert not declared - found - {"psycopg"}, "nothing imports these; remove them"


SDK = ROOT / "consent" / "client"
DISTRIBUTIONS = {
    ROOT: [path for path in python_files(*PACKAGES) if not path.is_relative_to(SDK)],
    ROOT / "clients" / "python": [
        path for path in python_files(*PACKAGES) if path.is_relative_to(SDK)
    ],
}
"""What is installed alone, and the files it is made of."""


def declared_dependencies(folder: Path) -> set[str]:
    """The names in `[project] dependencies`, and of what is optional."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    optional = project.get("optional-dependencies", {}).values()
    return {
        requirement.partition(">=")[0].strip()
        for group in (project["dependencies"], *optional)
        for requirement in group
    }


def imported(path: Path) -> set[str]:
    """The top-level names of third-party modules that a file imports."""

    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES)
