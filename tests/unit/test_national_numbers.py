"""Numbers in a country's own form come out as `phonenumbers` would have them."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.keys.blind_index import normalise_phone
from governance.vault.national_numbers import NationalNumbers

COUNTRIES = ("US", "GB", "CA", "AU", "IT", "DE", "FR", "ES", "NZ", "IN", "BR")
READERS = {country: NationalNumbers(country) for country in COUNTRIES}


def expected(digits: str, country: str) -> str | None:
    """By the library alone."""
    try:
        number = phonenumbers.parse(digits, country)
        if not phonenumbers.is_possible_number(number):
            return None
        form = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        return normalise_phone(form)
    except (phonenumbers.NumberParseException, ValueError):
        return None


@pytest.mark.parametrize(
    ("country", "line", "number"),
    [
        ("US", "201,5550123", "+12015550123"),
        ("US", "(201) 555-0123\r\n", "+12015550123"),
        ("US", "1 201 555 0123", "+12015550123"),
        ("GB", "01632 960001", "+441632960001"),
        ("GB", "+44 (0)1632 960001", "+441632960001"),
        ("GB", "00441632960001", "+441632960001"),
        ("IT", "06 1234 5678", "+390612345678"),
        ("AU", "0491 570 156", "+61491570156"),
        ("AU", '"491570156";', "+61491570156"),
        ("CA", "506-555-0123", "+15065550123"),
        ("GB", "+49 30 901820", "+4930901820"),
        ("GB", "", None),
        ("GB", "Number", None),
        ("GB", "01632 96000a", None),
        ("GB", "12", None),
        ("GB", "1" * 65, None),
        ("GB", "٠١٦٣٢٩٦٠٠٠١", None),
        ("US", "201555012", None),
    ],
)
def test_a_line_is_a_number_or_none(country: str, line: str, number: str | None) -> None:
    assert READERS[country].e164(line.rstrip("\r\n")) == number


@given(
    st.sampled_from(COUNTRIES),
    st.sampled_from(["", "0", "1", "00", "+"]),
    st.booleans(),
    st.text("0123456789", min_size=4, max_size=14),
)
def test_it_agrees_with_the_library_whatever_the_digits(
    country: str, prefix: str, coded: bool, digits: str
) -> None:
    code = str(phonenumbers.country_code_for_region(country)) if coded else ""
    line = prefix + code + digits
    assert READERS[country].e164(line) == expected(line, country)


@pytest.mark.parametrize("country", COUNTRIES)
def test_each_sort_of_number_is_read_in_each_form(country: str) -> None:
    sorts = [phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE]
    for sort in sorts:
        number = phonenumbers.example_number_for_type(country, sort)
        if number is None:
            continue
        wanted = normalise_phone(
            phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        )
        for form in (
            phonenumbers.PhoneNumberFormat.E164,
            phonenumbers.PhoneNumberFormat.NATIONAL,
            phonenumbers.PhoneNumberFormat.INTERNATIONAL,
        ):
            assert READERS[country].e164(phonenumbers.format_number(number, form)) == wanted


def test_a_country_without_a_numbering_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="numbering plan"):
        NationalNumbers("XX")
