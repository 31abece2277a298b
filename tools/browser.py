"""Find a Chromium for the browser tests, or try to install one.

In order: a Chromium or Chrome of the machine, Playwright's own, Debian's package where this user
may install packages. Finding none is not an error here: the test run says so, in its last line.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# A download that hangs is given up; the next way is tried.
PATIENCE_SECONDS = 180


def find() -> Path | None:
    """The executable of an installed Chromium or Chrome, or of Playwright's own.

    `TUTELA_TEST_BROWSER` names another one. None as well where Playwright itself can't run.
    """
    if chosen := os.environ.get("TUTELA_TEST_BROWSER"):
        return Path(chosen)
    if not driver_runs():
        return None
    for name in NAMES:
        if path := shutil.which(name):
            return Path(path)
    for application in APPLICATIONS:
        if Path(application).exists():
            return Path(application)
    return playwrights_own()


def driver_runs() -> bool:
    """Whether Playwright's own program starts: it needs libatomic, which a lean Linux lacks."""
    return attempt(sys.executable, "-m", "playwright", "--version")


def playwrights_own() -> Path | None:
    """The Chromium that `playwright install` has put on this machine, if it has."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


def install() -> None:
    """Try Playwright's download, then Debian's packages; do without where neither is allowed."""
    print("No Chromium here that can be driven: trying to install one for the browser tests")
    if driver_runs() and attempt(sys.executable, "-m", "playwright", "install", "chromium"):
        return
    if shutil.which("apt-get"):
        root = () if os.geteuid() == 0 else ("sudo", "--non-interactive")
        if attempt(*root, "apt-get", "update", "--quiet"):
            attempt(*root, "apt-get", "install", "--yes", "--quiet", "chromium", "libatomic1")


def attempt(*command: str) -> bool:
    """Whether a command succeeded within its time."""
    try:
        done = subprocess.run(
            command,
            check=False,
            timeout=PATIENCE_SECONDS,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {command[0]}: {type(error).__name__}")
        return False
    if done.returncode:
        print(f"  {' '.join(command)}: exit {done.returncode}")
    return done.returncode == 0


if __name__ == "__main__":
    if find() is None:
        install()
