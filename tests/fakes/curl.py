"""Runs the curl commands of our documents against an app, without a shell, a network or curl."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"\$([A-Z]+)")
_VALUED = {"-H", "-d", "-X", "--data-binary", "--output"}


def commands_in(document: Path) -> list[str]:
    """The shell examples of a document that call something by curl."""
    return [block for block in _FENCE.findall(document.read_text()) if "curl" in block]


def run(command: str, client: FlaskClient, variables: Mapping[str, str]) -> TestResponse:
    """Do what one `curl`, or one `printf … | curl`, would.

    Raises:
        AssertionError: it uses something of a shell or of curl that is not understood here.
    """
    filled = _VARIABLE.sub(lambda found: variables[found[1]], command)
    before, _, after = filled.rpartition("|\ncurl ")
    body = _printed(before) if before else b""
    words = shlex.split(after if before else filled.removeprefix("curl "))
    headers, url, method = {}, "", ""
    while words:
        word = words.pop(0)
        value = words.pop(0) if word in _VALUED else ""
        match word:
            case "-s" | "--output" | "\n":
                pass
            case "-H":
                name, _, content = value.partition(": ")
                headers[name] = content
            case "-X":
                method = value
            case "-d":
                body, method = value.encode(), method or "POST"
            case "--data-binary":
                assert value == "@-", value
                method = method or "POST"
            case _:
                assert word.startswith(variables["TUTELA"]), word
                url = word
    parts = urlsplit(url)
    return client.open(
        parts.path,
        query_string=parts.query,
        method=method or "GET",
        headers=headers,
        data=body,
        buffered=True,
    )


def _printed(command: str) -> bytes:
    """What `printf '%s\\n' WORDS` prints."""
    name, form, *words = shlex.split(command)
    assert (name, form) == ("printf", "%s\\n"), command
    return "".join(f"{word}\n" for word in words).encode()
