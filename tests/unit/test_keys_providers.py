import json
import os
import pickle
import stat
import threading
from pathlib import Path

import pytest

from governance.errors import RootKeyError
from governance.keys.providers import LocalKeyring

KEY = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keyring(folder: Path) -> LocalKeyring:
    return LocalKeyring(folder)


def test_a_wrapped_key_opens_for_its_own_purpose_alone(keyring: LocalKeyring) -> None:
    first, second = keyring.root("2026-03"), keyring.root("2026-04")
    wrapped = keyring.wrap(first, KEY, b"purpose")
    assert keyring.unwrap(first, wrapped, b"purpose") == KEY
    for key_ref, data, context in (
        (second, wrapped, b"purpose"),
        (first, wrapped, b"other"),
        (first, wrapped[:-1], b"purpose"),
        (first, b"", b"purpose"),
    ):
        with pytest.raises(RootKeyError, match="restore the key folder"):
            keyring.unwrap(key_ref, data, context)


def test_another_process_finds_the_same_root_key(keyring: LocalKeyring, folder: Path) -> None:
    wrapped = keyring.wrap(keyring.root("index"), KEY, b"")
    again = LocalKeyring(folder)
    assert again.unwrap(again.root("index"), wrapped, b"") == KEY


def test_of_many_who_make_a_root_key_one_makes_it(folder: Path) -> None:
    start = threading.Barrier(16)
    wrapped: list[bytes] = []

    def make() -> None:
        keyring = LocalKeyring(folder)
        start.wait()
        wrapped.append(keyring.wrap(keyring.root("2026-03"), KEY, b""))

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # AES-SIV is deterministic: equal roots wrap equally.
    assert len(wrapped) == 16
    assert len(set(wrapped)) == 1
    assert [file.name for file in folder.iterdir()] == ["2026-03.key"]


def test_root_keys_are_their_owners_alone(keyring: LocalKeyring, folder: Path) -> None:
    previous = os.umask(0)
    try:
        keyring.root("index")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "index.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_root_key_that_others_may_read_is_refused(
    keyring: LocalKeyring, folder: Path, mode: int
) -> None:
    keyring.root("index")
    (folder / "index.key").chmod(mode)
    with pytest.raises(RootKeyError, match="chmod 600"):
        keyring.root("index")
    with pytest.raises(RootKeyError, match="open to other users"):
        keyring.wrap("index", KEY, b"")


def test_a_damaged_root_key_is_refused_and_kept(keyring: LocalKeyring, folder: Path) -> None:
    file = folder / "index.key"
    keyring.root("index")
    sound = file.read_text()
    document = json.loads(sound)
    swapped = {**document, "key": document["key"][::-1]}
    renamed = {**document, "label": "signing"}
    short = {**document, "key": document["key"][:8]}
    for text in ("", "{", "[]", "null", sound[:40], *map(json.dumps, (swapped, renamed, short))):
        file.write_text(text)
        with pytest.raises(RootKeyError, match="damaged; restore it"):
            keyring.root("index")
        assert file.read_text() == text
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RootKeyError, match="cannot be read"):
        keyring.root("index")


def test_a_key_file_under_another_name_is_refused(keyring: LocalKeyring, folder: Path) -> None:
    keyring.root("2026-03")
    (folder / "2026-03.key").rename(folder / "2026-04.key")
    with pytest.raises(RootKeyError, match="damaged"):
        keyring.root("2026-04")


def test_a_missing_root_key_is_named_and_not_made_anew(keyring: LocalKeyring, folder: Path) -> None:
    with pytest.raises(RootKeyError, match=r"2026-03\.key is missing; restore"):
        keyring.unwrap("2026-03", b"wrapped", b"")
    assert not folder.exists()


@pytest.mark.parametrize("label", ["", "../index", "a/b", ".hidden", "UPPER", "x" * 65, "a\n"])
def test_labels_that_could_leave_the_folder_are_refused(keyring: LocalKeyring, label: str) -> None:
    with pytest.raises(RootKeyError, match="cannot name"):
        keyring.root(label)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RootKeyError, match="cannot be written"):
        LocalKeyring(tmp_path / "file" / "keys").root("index")


def test_a_keyring_cannot_be_pickled(keyring: LocalKeyring) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(keyring)
