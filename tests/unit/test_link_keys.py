from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from consent.links import InvalidLinkError, LinkFault, Links, LinkScope
from consent.subjects import new_subject_ref
from governance.keys.keyring import context_of
from governance.keys.links import open_link_keys
from governance.keys.models import link_key
from tests.fakes.keys import KeyKit

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
ALICE = new_subject_ref()


@pytest.fixture
def kit(database_url: str, tmp_path: Path) -> Iterator[KeyKit]:
    kit = KeyKit(database_url, tmp_path / "keys")
    yield kit
    kit.close()


@pytest.fixture
def other(kit: KeyKit) -> Iterator[KeyKit]:
    other = KeyKit(kit.url, kit.folder)
    yield other
    other.close()


def links_of(kit: KeyKit) -> Links:
    return Links(open_link_keys(kit.database, kit.provider, NOW))


def test_every_process_makes_links_that_all_read(kit: KeyKit, other: KeyKit) -> None:
    ours, theirs = links_of(kit), links_of(other)
    for maker, reader in ((ours, theirs), (theirs, ours)):
        token = maker.issue(LinkScope.PREFERENCES, ALICE, NOW)
        assert reader.read(token, LinkScope.PREFERENCES, NOW).subject == ALICE
    assert kit.count("link_key") == 1


def test_a_second_version_takes_over_and_without_its_row_a_version_is_void(kit: KeyKit) -> None:
    old = links_of(kit).issue(LinkScope.PREFERENCES, ALICE, NOW)
    key_ref = kit.provider.root("links")
    wrapped = kit.provider.wrap(key_ref, b"s" * 32, context_of("links/2"))
    assert b"s" * 8 not in wrapped
    row = {"version": 2, "provider": "local", "key_ref": key_ref, "wrapped": wrapped}
    with kit.database.begin() as session:
        session.execute(insert(link_key).values(**row, created_at=NOW))
    both = links_of(kit)
    assert both.read(old, LinkScope.PREFERENCES, NOW).key_version == 1
    new = both.issue(LinkScope.PREFERENCES, ALICE, NOW)
    assert both.read(new, LinkScope.PREFERENCES, NOW).key_version == 2
    with kit.database.begin() as session:
        session.execute(delete(link_key).where(link_key.c.version == 1))
    with pytest.raises(InvalidLinkError) as caught:
        links_of(kit).read(old, LinkScope.PREFERENCES, NOW)
    assert caught.value.fault is LinkFault.UNKNOWN_KEY
