"""The SDK as others install it: a wheel of its own, in an environment that has nothing of ours."""

import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import urllib3

from tests.fakes.services import MARKETING, Api, person, said
from tests.fakes.serving import serve

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "clients" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend that pip would call."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and what it says it needs, and no more."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    needed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [one.partition(">")[0] for one in needed] == ["urllib3"]
    shutil.copytree(Path(urllib3.__file__).parent, packages / "urllib3")
    return folder / "bin" / "python"


def run(python: Path, program: str, *arguments: str) -> str:
    """What a program prints there, away from this repository."""
    done = subprocess.run(
        [str(python), "-c", program, *arguments],
        cwd=python.parent,
        check=False,
        capture_output=True,
        text=True,
        env={},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_client_and_nothing_of_the_service(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert "consent/client/http.py" in names
    assert "consent/client/py.typed" in names
    assert [name for name in names if not name.startswith("consent/client/")] == []
    assert [name for name in names if "__pycache__" in name] == []
    assert sorted(names) == sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "consent" / "client").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def test_every_module_that_needs_no_framework_is_importable_alone(python: Path) -> None:
    program = """
import importlib, pkgutil, sys
import consent.client
frameworks = {"flask", "django", "fastapi"}
for module in pkgutil.iter_modules(consent.client.__path__):
    if module.name not in frameworks:
        importlib.import_module(f"consent.client.{module.name}")
print(sorted(name for name in sys.modules if name.partition(".")[0] in
    {"policies", "governance", "admin_ui", "sqlalchemy", "flask", "marshmallow", "cryptography"}))
"""
    assert run(python, program).strip() == "[]"


def test_it_asks_a_service_from_there(python: Path, shared_api: Api) -> None:
    someone = person()
    shared_api.record(someone, said("granted"))
    program = """
import sys
from consent.client.http import Client
from consent.client.subjects import email
url, key, address, purpose = sys.argv[1:]
with Client(url, key) as client:
    print(client.check(email(address), purpose, "email").reason)
    client.withdraw(email(address))
    print(client.check(email(address), purpose, "email").reason)
"""
    key = shared_api.key()["Authorization"][7:]
    with serve(shared_api.app) as url:
        printed = run(python, program, url, key, someone["email"], MARKETING)
    assert printed.split() == ["GRANTED", "WITHDRAWN"]


def test_the_service_does_not_install_it_too() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "consent/client" in wheel["targets"]["wheel"]["exclude"]
