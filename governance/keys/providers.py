"""Where root keys live: the port, and the provider that needs nothing but a folder.

A root key never meets a person's data: it wraps the keys of `governance.keys.models` and nothing
else, and is asked at start and on rotation, never per value.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, Protocol

from cryptography.exceptions import InvalidTag

from governance.errors import RootKeyError
from governance.keys.wrapping import KEY_BYTES, siv


class KeyProvider(Protocol):
    """Holds root keys and wraps other keys under them.

    Each root key has a label that we choose (`2026-03`, `index`, `signing`) and a reference that
    the provider gives (a file's name, an ARN, a version). One root key a label, so that the keys
    of one month can be destroyed apart from all others.

    Calls may be remote and slow; they are made outside transactions. Threads may share a provider.
    """

    @property
    def name(self) -> str:
        """Stored beside all that this provider wrapped, to find it again, such as `local`."""

    def root(self, label: str) -> str:
        """The reference of this label's root key, which is made if there is none.

        Atomic and durable: when it returns, every later call on any machine gives the same
        reference, also when several processes asked at once.

        Raises:
            RootKeyError: the key cannot be made, or one is there and cannot be used.
        """

    def wrap(self, key_ref: str, key: bytes, context: bytes) -> bytes:
        """Encrypt a key of at most 4,096 bytes, authenticating `context` with it.

        Raises:
            RootKeyError: the root key is missing, disabled, or the provider does not answer.
        """

    def unwrap(self, key_ref: str, wrapped: bytes, context: bytes) -> bytes:
        """The key that `wrap` was given with the same context.

        Raises:
            RootKeyError: as for `wrap`; or this is not what that root key wrapped for the context.
        """


class LocalKeyring:
    """Root keys as files of a folder, one a label, readable by their owner alone.

    For one machine, or several that share the folder. Whoever can read the folder *and* the
    database can read everything: keep them, and their backups, apart.

    A key file is written whole, made durable, and then given its name; an existing one is never
    overwritten. State: `{"format", "label", "key", "check"}` in JSON. Wrapping is AES-256-SIV
    under HKDF-SHA512 of the key, with the label and the caller's context.
    """

    name: Final = "local"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"LocalKeyring({str(self._folder)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring must not be pickled")

    def root(self, label: str) -> str:
        """See `KeyProvider.root`. The reference is the label itself."""
        file = self._file(label)
        if not file.exists():
            self._write(file, label)
        self._read(label)
        return label

    def wrap(self, key_ref: str, key: bytes, context: bytes) -> bytes:
        """See `KeyProvider.wrap`."""
        return siv(self._read(key_ref), _INFO).encrypt(key, [key_ref.encode(), context])

    def unwrap(self, key_ref: str, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyProvider.unwrap`."""
        root = siv(self._read(key_ref), _INFO)
        try:
            return root.decrypt(wrapped, [key_ref.encode(), context])
        except InvalidTag as error:
            raise RootKeyError(
                f"the root key {self._file(key_ref)} is not the one that this database was used "
                "with; restore the key folder that belongs to it"
            ) from error

    def _file(self, label: str) -> Path:
        if _LABEL.fullmatch(label) is None:
            raise RootKeyError(f"{label!r} cannot name a root key")
        return self._folder / f"{label}.key"

    def _write(self, file: Path, label: str) -> None:
        key = secrets.token_bytes(KEY_BYTES)
        document = {
            "format": _FORMAT,
            "label": label,
            "key": base64.b64encode(key).decode(),
            "check": _check(label, key),
        }
        draft = file.with_name(f".{label}-{secrets.token_hex(8)}")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                json.dump(document, stream)
                stream.flush()
                os.fsync(descriptor)
            # A link fails where the name is taken, a rename would replace what is there.
            with suppress(FileExistsError):
                os.link(draft, file)
            draft.unlink()
            # The name of the file, and that of a folder which was just made.
            _sync_folder(self._folder)
            _sync_folder(self._folder.parent)
        except OSError as error:
            raise RootKeyError(f"{file} cannot be written: {error.strerror}") from error

    def _read(self, label: str) -> bytes:
        file = self._file(label)
        try:
            descriptor = os.open(file, os.O_RDONLY)
            with os.fdopen(descriptor) as stream:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                text = stream.read(4096)
        except FileNotFoundError as error:
            raise RootKeyError(
                f"the root key {file} is missing; restore the key folder from its backup, for "
                "without it nothing that it protects can be read"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise RootKeyError(f"the root key {file} cannot be read ({error})") from error
        if mode & 0o077:
            raise RootKeyError(
                f"the root key {file} is open to other users (mode {mode:04o}); "
                f"find out who read it, then run: chmod 600 {file}"
            )
        key = _parse(text, label)
        if key is None:
            raise RootKeyError(
                f"the root key {file} is damaged; restore it from the backup of the key folder"
            )
        return key


_FORMAT: Final = "tutela-root-key-1"
_INFO: Final = b"tutela/k1/local-root"
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def _parse(text: str, label: str) -> bytes | None:
    try:
        document = json.loads(text)
        key = base64.b64decode(document["key"], validate=True)
        sound = (
            document["format"] == _FORMAT
            and document["label"] == label
            and document["check"] == _check(label, key)
        )
    except (ValueError, KeyError, TypeError):
        return None
    return key if sound and len(key) == KEY_BYTES else None


def _check(label: str, key: bytes) -> str:
    """Enough to notice damage, and nothing that helps to guess 256 random bits."""
    return hashlib.sha256(b"tutela/k1/check" + label.encode() + b"\x00" + key).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
