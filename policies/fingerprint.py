"""The hash that names a policy set in every decision and ledger entry.

`sha256:` and the hexadecimal digest over the canonical JSON (RFC 8785) of the rules. It depends on
what the rules say and on nothing else: not on file names, order, comments or notation. A field at
its default is left out, so that a release that adds an optional rule leaves every hash as it was.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from policies.model import Controller, Purpose, Registry
from policies.periods import Period


def fingerprint(
    version: str,
    controllers: Iterable[Controller],
    purposes: Iterable[Purpose],
    registries: Iterable[Registry] = (),
) -> str:
    """The hash of a policy set of this content."""
    content = canonical(version, controllers, purposes, registries)
    return "sha256:" + hashlib.sha256(content).hexdigest()


def canonical(
    version: str,
    controllers: Iterable[Controller],
    purposes: Iterable[Purpose],
    registries: Iterable[Registry] = (),
) -> bytes:
    """The bytes that are hashed: what another implementation has to reproduce."""
    content = {
        "version": version,
        "controllers": {one.key: _plain(one) for one in controllers},
        "purposes": {one.key: _plain(one) for one in purposes},
    }
    lists = {one.key: _plain(one) for one in registries}
    if lists:
        content["registries"] = lists
    # All keys are ASCII and there are no floats: what RFC 8785 asks beyond this cannot occur.
    return json.dumps(
        content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def _plain(value: Any) -> Any:
    match value:
        case Period():
            return str(value)
        case timedelta():
            return str(Period(months=0, days=value.days))
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case frozenset():
            return sorted(value)
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case _ if is_dataclass(value):
            return {
                field.name: _plain(getattr(value, field.name))
                for field in fields(value)
                if getattr(value, field.name) != _default(field)
            }
    return value


def _default(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default
