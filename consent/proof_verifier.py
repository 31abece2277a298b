"""Checks a proof bundle: that it is whole, unchanged, signed, and that the log holds its events.

Needs Python 3.9 or later and nothing else: no network, no other package, nothing of the service
that made the bundle.

    python3 -I verify.py                       checks the folder that this file lies in
    python3 -I verify.py BUNDLE.zip            checks a ZIP file or another folder
    python3 -I verify.py --key KEY BUNDLE.zip  checks against the key that you got elsewhere
    python3 -I verify.py --person REF --purpose KEY --channel NAME BUNDLE.zip
                                               checks that it is about this, too

It ends with 0 if everything holds, with 1 if something does not, and names what does not.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
SIGNATURE = "tutela:signature"
LIMIT = 100_000_000  # bytes in a bundle


class Refused(Exception):  # noqa: N818 - what it says to whoever reads it
    """Something does not hold; the message names it."""


def main(arguments: list[str] | None = None) -> int:
    """Check what the command line names; the exit code."""
    parser = argparse.ArgumentParser(description="Checks a proof bundle.")
    parser.add_argument("bundle", nargs="?", default=Path(__file__).parent, type=Path)
    parser.add_argument("--key", help="the log's verifier key, as you got it elsewhere")
    parser.add_argument("--person", help="the subject ref that the bundle has to be about")
    parser.add_argument("--purpose", help="the purpose that the bundle has to be about")
    parser.add_argument("--channel", help="the channel that the bundle has to be about")
    asked = parser.parse_args(arguments)
    wanted = {name: getattr(asked, name) for name in ("person", "purpose", "channel")}
    try:
        lines = check(read(asked.bundle), asked.key, wanted)
    except Refused as error:
        sys.stdout.write(f"FAILED {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def read(bundle: Path) -> dict[str, bytes]:
    """The files of a bundle by name."""
    try:
        if bundle.is_dir():
            paths = [path for path in bundle.rglob("*") if path.is_file()]
            if sum(path.stat().st_size for path in paths) > LIMIT:
                raise Refused(f"{bundle.name}: it is larger than any bundle")
            return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in paths}
        with zipfile.ZipFile(bundle) as archive:
            if sum(one.file_size for one in archive.infolist()) > LIMIT:
                raise Refused(f"{bundle.name}: it is larger than any bundle")
            if len(set(archive.namelist())) != len(archive.namelist()):
                raise Refused(f"{bundle.name}: two files in it have the same name")
            files = {}
            for name in archive.namelist():
                try:
                    files[name] = archive.read(name)
                except zipfile.BadZipFile:
                    raise Refused(f"{name}: it was changed") from None
            return files
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise Refused(f"{bundle}: it cannot be read ({error})") from None


def check(
    files: dict[str, bytes], key: str | None = None, wanted: dict[str, Any] | None = None
) -> list[str]:
    """All checks, in order; the lines to print.

    Raises:
        Refused: something does not hold.
    """
    stated = text_of(files, "vkey").strip()
    if key is not None and key.strip() != stated:
        raise Refused("vkey: this is not the key that you gave")
    name, public = read_key(stated)
    manifest = json_of(files, MANIFEST)
    check_signature(manifest, name, public)
    try:
        check_files(files, manifest)
    except (KeyError, TypeError):
        raise Refused(f"{MANIFEST}: it does not list files") from None
    proof = json_of(files, "proof.json")
    try:
        about = check_scope(proof, wanted or {})
        previous = -1
        for event in proof["events"]:
            check_event(files, event, proof, (name, public), previous)
            previous = event["index"]
        for notice in proof["notices"]:
            check_notice(files, notice, proof["events"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Refused(f"proof.json: it is not what a bundle holds ({error!r})") from None
    told = (
        "The key is the one that you gave."
        if key is not None
        else "The key came with the bundle: compare it with one that you got elsewhere.\n       "
        + stated
    )
    return [
        f"ok     {len(manifest['files'])} files are as they were signed by {name}",
        f"ok     {len(proof['events'])} events are in the signed log, in their order",
        f"ok     {len(proof['notices'])} notices are as they were shown",
        f"about  person {about[0]}, purpose {about[1]}, channel {about[2]}",
        f"note   {told}",
        "OK",
    ]


# --- files and signature ---


def text_of(files: dict[str, bytes], name: str) -> str:
    """A file of the bundle as text."""
    if name not in files:
        raise Refused(f"{name}: it is missing")
    try:
        return files[name].decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{name}: it is not text") from None


def json_of(files: dict[str, bytes], name: str) -> dict[str, Any]:
    """A file of the bundle that holds a JSON object."""
    try:
        value = json.loads(text_of(files, name))
    except (ValueError, RecursionError):
        raise Refused(f"{name}: it is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(f"{name}: it is not a JSON object")
    return value


def check_signature(manifest: dict[str, Any], name: str, public: bytes) -> None:
    """That the manifest was signed with the key: a detached JWS over its RFC 8785 form."""
    content = {key: value for key, value in manifest.items() if key != SIGNATURE}
    try:
        # Strings, whole numbers and ASCII names are all that a manifest has, so that this is the
        # canonical form.
        payload = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        head, between, signature = manifest[SIGNATURE].split(".")
        header = json.loads(unpadded(head))
        signed = f"{head}.".encode() + base64url(payload.encode()).encode()
        holds = (
            between == ""
            and header == {"alg": "Ed25519", "kid": name}
            and ed25519(public, signed, unpadded(signature))
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        holds = False
    if not holds:
        raise Refused(f"{MANIFEST}: its signature does not hold")


def check_files(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
    """That there is each file of the manifest as it was, and no other."""
    listed = {one["name"]: one for one in manifest["files"]}
    for name, one in listed.items():
        if name not in files:
            raise Refused(f"{name}: it is missing")
        if hashlib.sha256(files[name]).hexdigest() != one["sha256"]:
            raise Refused(f"{name}: it was changed")
    for name in files:
        if name not in listed and name != MANIFEST:
            raise Refused(f"{name}: it does not belong to the bundle")


# --- what the bundle says ---


def check_scope(proof: dict[str, Any], wanted: dict[str, Any]) -> tuple[str, str, str]:
    """That the bundle is about what it should be about."""
    about = (proof["subject"]["ref"], proof["purpose"]["key"], proof["channel"])
    for name, found in zip(("person", "purpose", "channel"), about):  # noqa: B905 - Python 3.9
        if wanted.get(name) not in (None, found):
            raise Refused(f"proof.json: it is about another {name}, {found}")
    if not proof["events"]:
        raise Refused("proof.json: it proves nothing, for it has no events")
    return about


def check_event(
    files: dict[str, bytes],
    event: dict[str, Any],
    proof: dict[str, Any],
    key: tuple[str, bytes],
    previous: int,
) -> None:
    """That the log holds an event at its place, and that it says what the bundle says."""
    name = event["proof"]
    entry, index = check_log_proof(text_of(files, name), *key, name)
    leaf = json.loads(entry)
    if index != event["index"] or index <= previous:
        raise Refused(f"{name}: the event is not at its place in the order")
    said = {one: event[one] for one in ("id", "type", "purpose", "channel", "state", "basis")}
    said.update(ts=event["recorded_at"], policy=event["policy"])
    for field, value in said.items():
        if leaf[field] != value:
            raise Refused(f"proof.json: event {index} differs from the log in {field!r}")
    # A choice about everything bears on each purpose, and so does a signal that a purpose heeds.
    if leaf["purpose"] not in proof["bearing"] or leaf["channel"] not in (proof["channel"], "*"):
        raise Refused(f"{name}: the event is about something else")
    claims = {}
    for disclosure in event["disclosures"]:
        if base64url(hashlib.sha256(disclosure.encode()).digest()) not in leaf["_sd"]:
            raise Refused(f"proof.json: a disclosure does not belong to event {index}")
        _, claim, value = json.loads(unpadded(disclosure))
        claims[claim] = value
    if claims != event["claims"]:
        raise Refused(f"proof.json: event {index} differs from its disclosures")
    if claims.get("subject") != proof["subject"]["ref"]:
        raise Refused(f"{name}: the event is another person's")


def check_notice(
    files: dict[str, bytes], notice: dict[str, Any], events: list[dict[str, Any]]
) -> None:
    """That the words and the page are those whose hashes the bundle states, and were named."""
    page = text_of(files, notice["page"])
    begin, end = page.find('<article class="notice"'), page.rfind("</article>")
    shown = page[begin : end + len("</article>")]
    for what, text in (("hash", notice["text"]), ("rendering_hash", shown)):
        if notice[what] != "sha256:" + hashlib.sha256(text.encode()).hexdigest():
            raise Refused(f"{notice['page']}: its {what} is another")
    name = {one: notice[one].casefold() for one in ("id", "version", "language")}
    named = [event["claims"].get("notice") or {} for event in events]
    if name not in [{key: value.casefold() for key, value in one.items()} for one in named]:
        raise Refused(f"{notice['page']}: no event names it")


# --- the log: C2SP tlog-proof, signed note, RFC 6962 ---

PROOF = re.compile(
    r"c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/=]+)\nindex (0|[1-9][0-9]{0,17})\n"
    r"((?:[A-Za-z0-9+/]{43}=\n){0,63})\n(.+)",
    re.DOTALL,
)


def check_log_proof(text: str, name: str, public: bytes, file: str) -> tuple[bytes, int]:
    """That the signed log holds an entry; the entry and its index."""
    match = PROOF.fullmatch(text)
    if match is None:
        raise Refused(f"{file}: it is no tlog-proof")
    entry, index = base64.b64decode(match[1], validate=True), int(match[2])
    hashes = [base64.b64decode(line) for line in match[3].split()]
    body, _, signatures = match[4].rpartition("\n\n")
    body += "\n"
    size, root = check_checkpoint(body, signatures, name, public, file)
    if root_from(hashlib.sha256(b"\0" + entry).digest(), index, size, hashes) != root:
        raise Refused(f"{file}: the log does not hold this event at this place")
    return entry, index


def check_checkpoint(
    body: str, signatures: str, name: str, public: bytes, file: str
) -> tuple[int, bytes]:
    """That the key signed a checkpoint; its size and root."""
    for line in signatures.split("\n"):
        mark, _, rest = line.partition(" ")
        signer, _, encoded = rest.partition(" ")
        if (mark, signer) == ("\u2014", name):
            data = base64.b64decode(encoded)
            if data[:4] == key_id(name, public) and ed25519(public, body.encode(), data[4:]):
                _, size, root = body.split("\n")[:3]
                return int(size), base64.b64decode(root)
    raise Refused(f"{file}: its checkpoint is not signed with the key")


def root_from(node: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2); None if it has none."""
    if index >= size:
        return None
    last = size - 1
    for other in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = joined(other, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = joined(node, other)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def joined(left: bytes, right: bytes) -> bytes:
    """The hash of two nodes."""
    return hashlib.sha256(b"\1" + left + right).digest()


def read_key(text: str) -> tuple[str, bytes]:
    """Name and public key of a verifier key such as `example.com/log+1a2b3c4d+AQ…`."""
    try:
        name, stated, encoded = text.split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        well_formed = data[:1] == b"\1" and len(data) == 33
        if well_formed and key_id(name, data[1:]).hex() == stated:
            return name, data[1:]
    except ValueError:
        pass
    raise Refused("vkey: it is no verifier key")


def key_id(name: str, public: bytes) -> bytes:
    """The four bytes by which a note names its key."""
    return hashlib.sha256(name.encode() + b"\n\1" + public).digest()[:4]


def base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unpadded(text: str) -> bytes:
    """Base64url without padding, read."""
    if not re.fullmatch("[A-Za-z0-9_-]*", text):
        raise ValueError("this is not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- Ed25519 (RFC 8032 section 5.1.7), verification alone: nothing here is secret ---

P = 2**255 - 19
Point = tuple[int, int, int, int]
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that key's, over that message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    own = point(public)
    scalar = int.from_bytes(signature[32:], "little")
    if own is None or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    minus = (P - own[0], own[1], own[2], P - own[3])
    return encoded_point(added(times(scalar, BASE), times(challenge, minus))) == signature[:32]


def point(data: bytes) -> Point | None:
    """The point of 32 bytes, in extended coordinates; None where there is none."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def added(one: Point, other: Point) -> Point:
    """The sum of two points."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar: int, base: Point) -> Point:
    """A multiple of a point."""
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = added(total, base)
        base = added(base, base)
        scalar >>= 1
    return total


def encoded_point(one: Point) -> bytes:
    """The 32 bytes of a point."""
    inverse = pow(one[2], P - 2, P)
    x, y = one[0] * inverse % P, one[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE: Point = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or (0, 1, 1, 0)

if __name__ == "__main__":
    sys.exit(main())
