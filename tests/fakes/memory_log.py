"""A log that lives in memory and can be written out as C2SP tiles, and a key to sign it with."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consent.ledger.checkpoint import Checkpoint, Verifier, sign_note, vkey
from consent.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TilePath, bundle, tiles_of
from consent.ledger.tree import leaf_hash, parents, root_of


@dataclass(frozen=True)
class SeedSigner:
    """An Ed25519 signer whose key is a seed written in the test."""

    name: str
    seed: bytes = b"\x07" * 32

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    @property
    def vkey(self) -> str:
        return vkey(self.name, self.public_key)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.public_key)

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


class MemoryTree:
    """Every row of a tree: `rows[level][index]` is what a `HashReader` answers."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.rows = [list(hashes)]
        while len(self.rows[-1]) > 1:
            self.rows.append(parents(self.rows[-1]))

    def read(self, level: int, index: int) -> bytes:
        return self.rows[level][index]

    @property
    def root(self) -> bytes:
        return root_of(self.rows[0])

    def tile(self, path: TilePath) -> bytes:
        assert path.level != "entries"
        start = path.n * TILE_WIDTH
        return b"".join(self.rows[path.level * TILE_HEIGHT][start : start + path.width])


def write_log(directory: Path, entries: Sequence[bytes], signer: SeedSigner) -> Checkpoint:
    """Write `checkpoint`, `vkey` and every tile of a log of these entries."""
    tree = MemoryTree([leaf_hash(entry) for entry in entries])
    for path in tiles_of(len(entries)):
        file = directory / path.path()
        file.parent.mkdir(parents=True, exist_ok=True)
        if path.level == "entries":
            start = path.n * TILE_WIDTH
            file.write_bytes(bundle(entries[start : start + path.width]))
        else:
            file.write_bytes(tree.tile(path))
    checkpoint = Checkpoint(signer.name, len(entries), tree.root)
    (directory / "checkpoint").write_text(sign_note(checkpoint.text(), signer))
    (directory / "vkey").write_text(signer.vkey + "\n")
    return checkpoint


def signer_of(private_key: str) -> SeedSigner:
    """The signer of a signed-note private key: PRIVATE+KEY+name+id+base64(0x01, seed)."""
    _, _, name, _, encoded = private_key.split("+", 4)
    return SeedSigner(name, base64.b64decode(encoded)[1:])
