from datetime import timedelta

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type

from governance.access.errors import PasswordRefusedError
from governance.access.passwords import MAX_LENGTH, Passwords, check_rules
from governance.access.settings import AccessSettings, PasswordProfile
from governance.access.throttle import FREE_FAILURES, LONGEST_LOCK, lock_after

LOGIN = "alice@example.com"


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(PasswordProfile.FAST)


@pytest.mark.parametrize(
    "password",
    [
        "plum-orbit-candle",
        "nur wer die Sehnsucht kennt",
        "пароль из нескольких слов",
        "🐘🦉🐝🌵🍎🧭🪁🎻🛶🏔🧶🪨",
        "a" * 12 + "bcdefgh",
        "x9" * 40 + "lengthy",
    ],
)
def test_long_passwords_of_any_characters_are_accepted(password: str) -> None:
    check_rules(password, LOGIN)


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("short-one-1", "12 characters"),
        ("x" * (MAX_LENGTH + 1), "at most"),
        ("aaaaaaaaaaaaaaaa", "repeats"),
        ("121212121212121212", "repeats"),
        ("Qwerty123456", "try first"),
        ("correcthorsebatterystaple", "try first"),
        ("alice@example.com", "little more"),
        ("Alice@Example.com1!", "little more"),
        ("TutelaPassword1234", "little more"),
        ("tutela-tutela-tutela", "little more"),
    ],
)
def test_weak_passwords_are_refused_with_the_rule_and_without_the_password(
    password: str, rule: str
) -> None:
    with pytest.raises(PasswordRefusedError, match=rule) as caught:
        check_rules(password, LOGIN)
    assert password not in str(caught.value)


def test_password_is_recognised_however_its_characters_are_composed(passwords: Passwords) -> None:
    composed = "Ampère-Übermut-été"
    decomposed = "Ampe\u0300re-U\u0308bermut-e\u0301te\u0301"
    assert passwords.verify(passwords.hash(composed), decomposed).right


def test_wrong_and_odd_passwords_are_wrong(passwords: Passwords) -> None:
    stored = passwords.hash("plum-orbit-candle")
    for wrong in ("plum-orbit-candles", "", "Plum-orbit-candle", "\ud800", "x" * 100_000, "\0"):
        assert not passwords.verify(stored, wrong).right


def test_unknown_login_is_wrong_after_the_work_of_a_hash(passwords: Passwords) -> None:
    assert not passwords.verify(None, "plum-orbit-candle").right


def test_hash_is_renewed_when_parameters_have_changed(passwords: Passwords) -> None:
    old = passwords.hash("plum-orbit-candle")
    today = Passwords(PasswordProfile.STANDARD)
    verdict = today.verify(old, "plum-orbit-candle")
    assert verdict.right
    assert verdict.rehashed is not None
    assert today.verify(verdict.rehashed, "plum-orbit-candle").rehashed is None


def test_production_hashes_as_rfc_9106_recommends() -> None:
    parameters = extract_parameters(Passwords(AccessSettings().passwords).hash("plum-orbit-candle"))
    assert (parameters.type, parameters.time_cost, parameters.memory_cost) == (Type.ID, 3, 65536)


def test_lock_doubles_up_to_a_quarter_of_an_hour() -> None:
    seconds = [lock_after(failures).total_seconds() for failures in range(12)]
    assert seconds[:FREE_FAILURES] == [0] * FREE_FAILURES
    assert seconds[FREE_FAILURES:] == [30, 60, 120, 240, 480, 900, 900]
    assert lock_after(10_000) == LONGEST_LOCK == timedelta(minutes=15)
