"""An auditor's program that shares no code with us checks our logs, and names what is wrong."""

import base64
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from consent.ledger.canonical import encode
from consent.ledger.checkpoint import Checkpoint, sign_note
from consent.ledger.tiles import bundle, unbundle
from consent.ledger.tree import EMPTY_ROOT, leaf_hash, root_of
from tests.fakes.memory_log import SeedSigner, write_log

TOOL = Path(__file__).parents[2] / "tools" / "tlogcheck"
SIGNER = SeedSigner("tutela.example/consent")
SIZE = 70_000  # two full levels of tiles and a ragged edge on each of three

Tamper = Callable[[Path], None]


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checker, built without a network from the Go distribution that PyPI carries."""
    program = tmp_path_factory.mktemp("tlogcheck") / "tlogcheck"
    go = Path(sys.prefix) / "bin" / "go"
    built = subprocess.run(
        [TOOL / "build.sh", program, go], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return program


def entry(index: int) -> bytes:
    return encode({"id": index, "purpose": "newsletter", "v": 1})


@cache
def entries() -> list[bytes]:
    return [entry(index) for index in range(SIZE)]


@cache
def head(size: int) -> Checkpoint:
    hashes = [leaf_hash(item) for item in entries()[:size]]
    return Checkpoint(SIGNER.name, size, root_of(hashes))


@pytest.fixture(scope="session")
def honest_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log")
    write_log(directory, entries(), SIGNER)
    return directory


@pytest.fixture
def log(honest_log: Path, tmp_path: Path) -> Path:
    """A copy to tamper with. Its files are links: replace them, never write into them."""
    return Path(shutil.copytree(honest_log, tmp_path / "log", copy_function=os.link))


def replace(file: Path, data: bytes) -> None:
    file.unlink()
    file.write_bytes(data)


@contextmanager
def served(directory: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else head and body of an answer wait for each other

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    handler = partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(
    checker: Path, place: Path | str, *old: Path, vkey: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checker, vkey, place, *old], capture_output=True, text=True, check=False, timeout=120
    )


def accept(checker: Path, place: Path | str, *old: Path, vkey: Path) -> list[str]:
    done = run(checker, place, *old, vkey=vkey)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def reject(checker: Path, place: Path | str, *old: Path, vkey: Path) -> str:
    """The one sentence in which the checker names the fault."""
    done = run(checker, place, *old, vkey=vkey)
    assert done.returncode == 1, done
    fault, *more = done.stderr.splitlines()
    assert not more
    assert fault.startswith("fault: ")
    assert "panic" not in fault
    return fault.removeprefix("fault: ")


def sign(file: Path, checkpoint: Checkpoint, signer: SeedSigner = SIGNER) -> Path:
    file.unlink(missing_ok=True)
    file.write_text(sign_note(checkpoint.text(), signer))
    return file


def test_an_honest_log_is_accepted_over_http_and_from_a_directory(
    checker: Path, honest_log: Path
) -> None:
    root = base64.b64encode(head(SIZE).root).decode()
    with served(honest_log) as url:
        said = accept(checker, url, vkey=honest_log / "vkey")
    assert said[-1] == f"ok: {SIZE} entries, root {root}"
    assert accept(checker, honest_log, vkey=honest_log / "vkey") == said


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537])
def test_logs_that_end_at_the_edge_of_a_tile_are_accepted(
    checker: Path, tmp_path: Path, size: int
) -> None:
    write_log(tmp_path, entries()[:size], SIGNER)
    said = accept(checker, tmp_path, vkey=tmp_path / "vkey")
    assert said[-1].startswith(f"ok: {size} entries, root ")


@pytest.mark.soak
def test_a_hundred_thousand_entries_are_accepted(checker: Path, tmp_path: Path) -> None:
    write_log(tmp_path, [entry(index) for index in range(100_000)], SIGNER)
    with served(tmp_path) as url:
        assert accept(checker, url, vkey=tmp_path / "vkey")[-1].startswith("ok: 100000 entries")


def test_a_log_that_grew_is_consistent_with_all_it_signed_before(
    checker: Path, honest_log: Path, tmp_path: Path
) -> None:
    old = [sign(tmp_path / str(size), head(size)) for size in (0, 1, 256, 65_537, SIZE - 1, SIZE)]
    said = accept(checker, honest_log, *old, vkey=honest_log / "vkey")
    assert sum(line.startswith("old checkpoint: ") for line in said) == len(old)


@pytest.mark.parametrize(
    ("tile", "named"),
    [
        ("tile/0/000", "tile/0/000,"),
        ("tile/0/272", "tile/0/272,"),
        ("tile/0/273.p/112", "one of the last tiles of each level"),
        ("tile/1/000", "tile/0/000, or a tile above it"),
        ("tile/1/001.p/17", "one of the last tiles of each level"),
        ("tile/2/000.p/1", "one of the last tiles of each level"),
    ],
)
def test_one_flipped_bit_in_a_tile_is_found(
    checker: Path, log: Path, tile: str, named: str
) -> None:
    data = bytearray((log / tile).read_bytes())
    data[len(data) // 2] ^= 0x10
    replace(log / tile, bytes(data))
    with served(log) as url:
        fault = reject(checker, url, vkey=log / "vkey")
    assert fault.startswith(named)


def test_no_flipped_bit_of_a_small_log_is_overlooked(checker: Path, tmp_path: Path) -> None:
    write_log(tmp_path, entries()[:300], SIGNER)
    chance = random.Random(300)
    for file in sorted((tmp_path / "tile").rglob("*")):
        honest = file.read_bytes() if file.is_file() else b""
        for bit in chance.sample(range(len(honest) * 8), k=min(len(honest), 12)):
            data = bytearray(honest)
            data[bit // 8] ^= 1 << bit % 8
            file.write_bytes(data)
            reject(checker, tmp_path, vkey=tmp_path / "vkey")
            file.write_bytes(honest)
    accept(checker, tmp_path, vkey=tmp_path / "vkey")


def test_one_flipped_bit_in_an_entry_is_found(checker: Path, log: Path) -> None:
    file = log / "tile/entries/100"
    data = bytearray(file.read_bytes())
    data[10] ^= 0x01
    replace(file, bytes(data))
    assert reject(checker, log, vkey=log / "vkey") == (
        "entry 25600 in tile/entries/100 is not the one whose hash is in the tree"
    )


def test_two_swapped_rows_are_found(checker: Path, log: Path) -> None:
    file = log / "tile/entries/004"
    rows = unbundle(file.read_bytes())
    rows[7], rows[9] = rows[9], rows[7]
    replace(file, bundle(rows))
    with served(log) as url:
        fault = reject(checker, url, vkey=log / "vkey")
    assert fault.startswith("entry 1031 in tile/entries/004 ")


def test_two_rows_swapped_in_their_tile_as_well_are_found(checker: Path, log: Path) -> None:
    file = log / "tile/entries/004"
    rows = unbundle(file.read_bytes())
    rows[7], rows[9] = rows[9], rows[7]
    replace(file, bundle(rows))
    replace(log / "tile/0/004", b"".join(leaf_hash(item) for item in rows))
    assert reject(checker, log, vkey=log / "vkey").startswith("tile/0/004,")


def missing_tile(log: Path) -> None:
    (log / "tile/0/101").unlink()


def short_tile(log: Path) -> None:
    replace(log / "tile/0/101", (log / "tile/0/101").read_bytes()[:-32])


def missing_bundle(log: Path) -> None:
    (log / "tile/entries/101").unlink()


def cut_bundle(log: Path) -> None:
    replace(log / "tile/entries/101", (log / "tile/entries/101").read_bytes()[:-1])


def long_bundle(log: Path) -> None:
    replace(log / "tile/entries/101", (log / "tile/entries/101").read_bytes() + b"\0\0")


def later_checkpoint(log: Path) -> None:
    sign(log / "checkpoint", Checkpoint(SIGNER.name, SIZE + 256, head(SIZE).root))


def earlier_checkpoint(log: Path) -> None:
    sign(log / "checkpoint", head(65_000))


def other_root(log: Path) -> None:
    sign(log / "checkpoint", Checkpoint(SIGNER.name, SIZE, EMPTY_ROOT))


def edited_checkpoint(log: Path) -> None:
    text = (log / "checkpoint").read_text().replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n")
    replace(log / "checkpoint", text.encode())


def strangers_checkpoint(log: Path) -> None:
    sign(log / "checkpoint", head(SIZE), SeedSigner(SIGNER.name, b"\x09" * 32))


def foreign_checkpoint(log: Path) -> None:
    sign(log / "checkpoint", Checkpoint("tutela.example/audit", SIZE, head(SIZE).root))


def absurd_checkpoint(log: Path) -> None:
    sign(log / "checkpoint", Checkpoint(SIGNER.name, 2**62, head(SIZE).root))


def nonempty_nothing(log: Path) -> None:
    sign(log / "checkpoint", Checkpoint(SIGNER.name, 0, bytes(32)))


def no_checkpoint(log: Path) -> None:
    (log / "checkpoint").unlink()


def no_note(log: Path) -> None:
    replace(log / "checkpoint", b"\xff\n\n")


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (missing_tile, "tile/0/101 is missing"),
        (short_tile, "tile/0/101 has 8160 bytes and not 8192"),
        (missing_bundle, "tile/entries/101 is missing"),
        (cut_bundle, "tile/entries/101 ends before entry 256 of its 256"),
        (long_bundle, "tile/entries/101 goes on after its 256 entries"),
        (later_checkpoint, "tile/1/001.p/18 is missing"),
        (earlier_checkpoint, "tile/1/000.p/253 is missing"),
        (other_root, "one of the last tiles of each level does not lead to the signed root"),
        (edited_checkpoint, "checkpoint: invalid signature"),
        (strangers_checkpoint, "checkpoint: note has no verifiable signatures"),
        (foreign_checkpoint, 'checkpoint: its origin is "tutela.example/audit"'),
        (absurd_checkpoint, "checkpoint: its size"),
        (nonempty_nothing, "the root of no entries is signed as "),
        (no_checkpoint, "checkpoint is missing"),
        (no_note, "checkpoint: malformed note"),
    ],
)
def test_a_damaged_log_is_rejected_with_the_reason(
    checker: Path, log: Path, tamper: Tamper, named: str
) -> None:
    tamper(log)
    with served(log) as url:
        assert named in reject(checker, url, vkey=log / "vkey")
    assert named in reject(checker, log, vkey=log / "vkey")


def test_an_old_checkpoint_over_a_newer_directory_is_found(checker: Path, log: Path) -> None:
    """At 65,536 entries, every tile of the smaller tree is one of the larger tree's too."""
    sign(log / "checkpoint", head(65_536))
    assert "belongs to a larger tree" in reject(checker, log, vkey=log / "vkey")


def test_a_log_cut_back_to_an_honest_past_is_found_by_an_old_checkpoint(
    checker: Path, tmp_path: Path
) -> None:
    write_log(tmp_path / "log", entries()[:500], SIGNER)
    seen = sign(tmp_path / "seen", head(600))
    with served(tmp_path / "log") as url:
        fault = reject(checker, url, seen, vkey=tmp_path / "log/vkey")
    assert fault.startswith("the log was cut: ")
    assert fault.endswith("signed at 600 entries, and now there are 500")


@pytest.mark.parametrize("size", [300, 700])
def test_a_log_rewritten_and_signed_anew_is_found_by_an_old_checkpoint(
    checker: Path, tmp_path: Path, size: int
) -> None:
    write_log(tmp_path / "log", [b"another first entry", *entries()[1:700]], SIGNER)
    seen = sign(tmp_path / "seen", head(size))
    fault = reject(checker, tmp_path / "log", seen, vkey=tmp_path / "log/vkey")
    assert fault.startswith("the log was rewritten since ")


def disclosure(name: str, value: str) -> str:
    text = json.dumps([base64.b64encode(name.encode()).decode(), name, value]).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def digest(disclosed: str) -> str:
    hashed = sha256(disclosed.encode()).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


SAID = [disclosure("subject", "k" * 26), disclosure("ip", "192.0.2.1")]


def write_disclosing_log(directory: Path, *lines: dict[str, object]) -> None:
    leaf = encode({"_sd": sorted(digest(item) for item in SAID), "_sd_alg": "sha-256", "v": 1})
    write_log(directory, [*entries()[:300], leaf], SIGNER)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (directory / "disclosures.jsonl").write_text(text)


def test_disclosures_are_found_in_their_entries(checker: Path, tmp_path: Path) -> None:
    write_disclosing_log(
        tmp_path, {"index": 300, "disclosures": SAID}, {"index": 300, "disclosures": SAID[1:]}
    )
    said = accept(checker, tmp_path, vkey=tmp_path / "vkey")
    assert "disclosures: all 3 belong to their entries" in said


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ({"index": 300, "disclosures": [SAID[0], SAID[1] + "A"]}, "disclosure 2 is not one of"),
        ({"index": 300, "disclosures": [disclosure("subject", "z" * 26)]}, "disclosure 1 is not"),
        ({"index": 299, "disclosures": SAID}, 'entry 299 digests its disclosures with ""'),
        ({"index": 301, "disclosures": SAID}, "there is no entry 301"),
        ({"index": -1, "disclosures": SAID}, "there is no entry -1"),
        ({"index": "300", "disclosures": SAID}, "cannot unmarshal"),
    ],
)
def test_altered_disclosures_are_rejected(
    checker: Path, tmp_path: Path, line: dict[str, object], named: str
) -> None:
    write_disclosing_log(tmp_path, {"index": 300, "disclosures": SAID}, line)
    fault = reject(checker, tmp_path, vkey=tmp_path / "vkey")
    assert fault.startswith("disclosures.jsonl, line 2: ")
    assert named in fault


def test_a_wrong_verifier_key_is_no_reason_to_trust(
    checker: Path, honest_log: Path, tmp_path: Path
) -> None:
    (tmp_path / "vkey").write_text("tutela.example/consent+00000000+AAAA\n")
    assert "not a verifier key" in reject(checker, honest_log, vkey=tmp_path / "vkey")
    assert "no such file" in reject(checker, honest_log, vkey=tmp_path / "none")


def test_a_site_that_does_not_answer_is_a_fault(checker: Path, honest_log: Path) -> None:
    with served(honest_log) as url:
        pass
    assert "refused" in reject(checker, url, vkey=honest_log / "vkey")
