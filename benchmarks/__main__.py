"""`make bench`: measure, and print one JSON document.

The default takes about a quarter of an hour on two cores; `--quick` shortens every run, for a look
in passing. Ratios compare runs made in turns; single numbers depend on the machine.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import ledger, over_http
from benchmarks.engines import engine

ENGINES = ("postgresql", "sqlite")
PARTS = ("http", "flat", "append", "verify")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs and little data")
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--part", choices=PARTS, action="append")
    asked = parser.parse_args()
    parts = asked.part or PARTS
    results: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }
    for name in asked.engine or ENGINES:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = _on(name, Path(folder), parts, quick=asked.quick)
    json.dump(results, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _on(name: str, folder: Path, parts: tuple[str, ...], *, quick: bool) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    with engine(name, folder) as databases:
        if "http" in parts:
            for threads in (1, 8):
                seen[f"http_{threads}_threads"] = over_http.compare(
                    databases,
                    folder / f"http{threads}",
                    seconds=2.5 if quick else 8,
                    people=over_http.ASKED,
                    workers=1,
                    threads=threads,
                )
        if "flat" in parts:
            seen["flat"] = over_http.flatness(
                databases,
                folder / "flat",
                seconds=2.5 if quick else 8,
                many=20_000 if quick else 1_000_000,
            )
        if "append" in parts:
            scale = 1 if quick else 5
            seen["append"] = ledger.append(
                databases, one=300 * scale, many=2_000 * scale, bulk_rows=20_000 * scale
            )
        if "verify" in parts:
            seen["verify"] = ledger.verify(databases, folder, 100_000 if quick else 1_000_000)
    return seen


if __name__ == "__main__":
    main()
