"""What the loader refuses, where it says the fault is, and what the hash depends on.

The faulty line of an example ends in `#!`, so that the example shows which line must be named.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
import yaml

from policies import document
from policies.errors import PolicyError, PolicyLoadError, Problem
from policies.fingerprint import canonical, fingerprint
from policies.loader import LIBRARY, MAX_FILES, load
from policies.model import (
    ChildRule,
    Controller,
    DoubleOptIn,
    MaterialChange,
    PolicySet,
    Purpose,
    Registry,
    Wording,
)
from policies.periods import Period
from policies.vocabulary import Channel, LegalBasis, Signal

BASE = """\
version: "1"
controllers:
  shop:
    name: A shop
    address: 1 Some Street
    country: NO
    contact: privacy@shop.example
"""
NEWS = """\
purposes:
  news:
    controller: shop
    name: News
    description: We write to you.
    legal_basis: consent
    channels: [email, sms]
    dpv: [DirectMarketing]
    direct_marketing: true
    data_use: marketing.communications
    data_categories: [user.contact.email]
    data_subjects: [customer]
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files, by default a base and one purpose, and gives their directory."""

    def files(**texts: str | bytes) -> Path:
        folder = tmp_path / "rules"
        folder.mkdir()
        for name, text in texts.items():
            content = text if isinstance(text, bytes) else text.encode()
            (folder / f"{name}.yaml").write_bytes(content)
        return folder

    return files


def problems(directory: Path) -> tuple[Problem, ...]:
    with pytest.raises(PolicyLoadError) as caught:
        load(directory)
    return caught.value.problems


def the_problem(directory: Path) -> Problem:
    (problem,) = problems(directory)
    return problem


def marked(text: str) -> int:
    """The line that ends in `#!`."""
    (line,) = (n for n, line in enumerate(text.splitlines(), 1) if line.endswith("#!"))
    return line


# --- what is read ------------------------------------------------------------------------------


def test_every_rule_arrives_in_the_model(write: Write) -> None:
    rules = """
    expires_after: P1Y6M
    double_opt_in: {channels: [sms, email], confirm_within: P1W}
    child: {minimum_age: 16}
    signals: [gpc]
    recipients: [Printer, E-mail provider]
    retention: customer_records
    material_changes:
      - {notice: privacy, version: "3", supersedes: ["2", "1"], effective_from: 2027-01-31}
      - notice: privacy
        version: "2"
        supersedes: ["1"]
        effective_from: 2026-05-01T02:00:00+02:00
    external_names: {hubspot: [News, Noticias], salesforce: [Marketing]}
"""
    loaded = load(write(rules=BASE + NEWS + rules))
    assert loaded.version == "1"
    assert loaded.controllers == {
        "shop": Controller("shop", "A shop", "1 Some Street", "NO", "privacy@shop.example")
    }
    assert loaded.purposes == {
        "news": Purpose(
            key="news",
            controller="shop",
            name="News",
            description="We write to you.",
            legal_basis=LegalBasis.CONSENT,
            channels=frozenset({Channel.EMAIL, Channel.SMS}),
            dpv=("DirectMarketing",),
            data_use="marketing.communications",
            data_categories=("user.contact.email",),
            data_subjects=("customer",),
            expires_after=Period(months=18, days=0),
            double_opt_in=DoubleOptIn(frozenset({Channel.EMAIL, Channel.SMS}), timedelta(days=7)),
            child=ChildRule(16),
            direct_marketing=True,
            signals=frozenset({Signal.GPC}),
            recipients=("E-mail provider", "Printer"),
            retention="customer_records",
            material_changes=(
                MaterialChange("privacy", "2", frozenset({"1"}), datetime(2026, 5, 1, tzinfo=UTC)),
                MaterialChange(
                    "privacy", "3", frozenset({"1", "2"}), datetime(2027, 1, 31, tzinfo=UTC)
                ),
            ),
            external_names={"hubspot": ("News", "Noticias"), "salesforce": ("Marketing",)},
        )
    }


def test_what_is_left_out_takes_the_default(write: Write) -> None:
    news = load(write(rules=BASE + NEWS)).purposes["news"]
    assert news.expires_after is None
    assert news.double_opt_in is None
    assert news.child is None
    assert news.signals == frozenset()
    assert news.external_names == {}


def test_scalars_stay_what_they_look_like(write: Write) -> None:
    text = (BASE + NEWS).replace('version: "1"', "version: 1.10").replace("name: News", "name: no")
    loaded = load(write(rules=text))
    assert loaded.version == "1.10"
    assert loaded.controllers["shop"].country == "NO"
    assert loaded.purposes["news"].name == "no"


def test_a_loaded_set_cannot_be_changed(write: Write) -> None:
    loaded = load(write(rules=BASE + NEWS + "    external_names: {hubspot: [News]}\n"))
    with pytest.raises(TypeError):
        loaded.purposes["other"] = loaded.purposes["news"]  # type: ignore[index]  # on purpose
    with pytest.raises(TypeError):
        loaded.purposes["news"].external_names["hubspot"] = ()  # type: ignore[index]  # on purpose


def test_a_purpose_is_found_by_what_another_system_calls_it(write: Write) -> None:
    loaded = load(write(rules=BASE + NEWS + "    external_names: {hubspot: [Straße news]}\n"))
    assert loaded.purpose_called("hubspot", " STRASSE News ") is loaded.purposes["news"]
    assert loaded.purpose_called("salesforce", "Straße news") is None


def test_hidden_files_other_files_and_folders_below_are_left_alone(write: Write) -> None:
    folder = write(rules=BASE + NEWS)
    (folder / ".hidden.yaml").write_text("nonsense: [")
    (folder / "notes.txt").write_text("nonsense: [")
    (folder / "below").mkdir()
    (folder / "below" / "more.yaml").write_text("nonsense: [")
    assert list(load(folder).purposes) == ["news"]


def test_a_byte_order_mark_and_windows_lines_are_read(write: Write) -> None:
    text = b"\xef\xbb\xbf" + (BASE + NEWS).replace("\n", "\r\n").encode()
    assert list(load(write(rules=text)).purposes) == ["news"]


def test_a_link_inside_the_directory_is_followed(write: Write) -> None:
    """As Kubernetes mounts configuration: files are links into a folder beside them."""
    folder = write()
    (folder / "..data").mkdir()
    (folder / "..data" / "rules.yaml").write_text(BASE + NEWS)
    (folder / "rules.yaml").symlink_to(folder / "..data" / "rules.yaml")
    assert list(load(folder).purposes) == ["news"]


# --- what YAML offers and policies do without --------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("version: &v one #!", "The anchor &v is refused: values are written out."),
        ("version: *v #!", "The alias *v is refused: write its value out here."),
        (
            "controllers:\n  <<: {shop: {}} #!",
            "A merge key (<<) is refused: write the values out.",
        ),
        (
            "version: !!python/object/apply:os.system [id] #!",
            (
                "The tag 'tag:yaml.org,2002:python/object/apply:os.system' is refused: "
                "every value is text."
            ),
        ),
        ("version: !secret x #!", "The tag '!secret' is refused: every value is text."),
        ("version: !!str x #!", "The tag 'tag:yaml.org,2002:str' is refused: every value is text."),
        (
            "version: one\n# between\nversion: two #!",
            "The key 'version' stands here again, after line 1.",
        ),
        (
            "purposes:\n  news: {}\n  'news': {} #!",
            "The key 'news' stands here again, after line 2.",
        ),
        ("version: one\n--- #!\nversion: two", "A file holds one document; here begins another."),
        ("? [a, b] #!\n: c", "A key must be a word, not a list or a mapping."),
        (
            "- version #!",
            "The file must be a mapping with the keys version, controllers and purposes.",
        ),
        (
            "version #!",
            "The file must be a mapping with the keys version, controllers and purposes.",
        ),
        (
            f"version: one\npurposes: {'[' * 20}{']' * 20} #!",
            "Values are nested more than 12 deep.",
        ),
        (
            f"version: one\npurposes: {'{a: ' * 20}{'}' * 20} #!",
            "Values are nested more than 12 deep.",
        ),
    ],
)
def test_what_yaml_offers_beyond_text_is_refused(write: Write, text: str, sentence: str) -> None:
    folder = write(base=BASE + NEWS, rules=text)
    assert the_problem(folder) == Problem("rules.yaml", marked(text), sentence)


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment alone\n", "---\n...\n"])
def test_an_empty_file_is_refused(write: Write, text: str) -> None:
    (problem,) = problems(write(base=BASE + NEWS, rules=text))
    assert problem.sentence in {
        "The file is empty.",
        "The file must be a mapping with the keys version, controllers and purposes.",
    }


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("version: [one #!\npurposes: {", "This is not valid YAML: "),
        ("version: one\n\tpurposes: two #!", "This is not valid YAML: "),
        ("version: one\nname: a: b #!", "This is not valid YAML: "),
        ('version: "\\ud800" #!', "This is not valid YAML: "),
        ("version: one\nname: \x07 #!", "A character is not allowed in YAML: "),
        ("version: one\nname: \x7f\x80 #!", "A character is not allowed in YAML: "),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(write: Write, text: str, begin: str) -> None:
    problem = the_problem(write(base=BASE + NEWS, rules=text))
    assert problem.sentence.startswith(begin)
    assert problem.line in {marked(text), marked(text) + 1}


def test_what_is_not_utf_8_is_refused(write: Write) -> None:
    folder = write(base=BASE + NEWS, latin="version: one\nname: Straße\n".encode("latin-1"))
    assert the_problem(folder) == Problem("latin.yaml", 2, "The file is not valid UTF-8.")


def test_a_nul_byte_is_refused(write: Write) -> None:
    folder = write(base=BASE + NEWS, wide="version: one".encode("utf-16-le"))
    assert the_problem(folder) == Problem("wide.yaml", 1, "The file holds a NUL byte.")


def test_a_file_over_one_mebibyte_is_refused_unread(write: Write) -> None:
    folder = write(base=BASE + NEWS, big=b"#" * (document.MAX_BYTES + 1))
    assert the_problem(folder) == Problem("big.yaml", None, "The file is larger than 1 MiB.")


def test_too_many_files_are_refused(write: Write) -> None:
    folder = write(**{f"file{number}": BASE for number in range(MAX_FILES + 1)})
    assert the_problem(folder).sentence == "There are more than 200 policy files."


@pytest.mark.parametrize(
    "bomb",
    [
        # Billions of laughs: nine levels of nine references.
        "a: &a [x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in ("ab", "bc")),
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "[" * 500_000,
        "{a: " * 200_000,
        "- " * 500_000,
        "? " * 500_000,
        "a:\n" + "- x\n" * 250_000,
        "a: b\n" * 200_000,
        "".join(f"key{n}: x\n" for n in range(60_000)),
        "version: '" + "x" * 1_000_000 + "'\n",
        "'" + "x" * 1_000_000 + "': y\n",
        '"' + "\\x41" * 250_000 + '": y\n',
    ],
    ids=range(13),
)
def test_no_file_takes_long(write: Write, bomb: str) -> None:
    folder = write(base=BASE + NEWS, bomb=bomb)
    began = time.process_time()
    assert problems(folder)
    assert time.process_time() - began < 3


# --- the directory -----------------------------------------------------------------------------


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    assert the_problem(folder) == Problem(
        str(folder), None, "The directory cannot be read: No such file or directory."
    )


def test_a_directory_without_policies_is_refused(write: Write) -> None:
    folder = write()
    assert the_problem(folder) == Problem(
        str(folder), None, "There are no policy files (*.yaml, *.yml)."
    )


def test_a_link_out_of_the_directory_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text(BASE)
    folder = write(base=BASE + NEWS)
    (folder / "link.yaml").symlink_to("../elsewhere.yaml")
    assert the_problem(folder) == Problem(
        "link.yaml", None, "The link leads out of the directory of the policies."
    )


def test_links_in_a_circle_are_refused(write: Write) -> None:
    folder = write(base=BASE + NEWS)
    (folder / "one.yaml").symlink_to("two.yaml")
    (folder / "two.yaml").symlink_to("one.yaml")
    assert [problem.file for problem in problems(folder)] == ["one.yaml", "two.yaml"]


def test_what_is_no_regular_file_is_refused_and_not_waited_for(write: Write) -> None:
    folder = write(base=BASE + NEWS)
    os.mkfifo(folder / "pipe.yaml")
    (folder / "folder.yaml").mkdir()
    assert problems(folder) == (
        Problem("folder.yaml", None, "This is not a regular file."),
        Problem("pipe.yaml", None, "This is not a regular file."),
    )


def test_a_file_name_that_would_garble_a_terminal_is_escaped(write: Write) -> None:
    folder = write(base=BASE + NEWS)
    (folder / "\x1b[2J.yaml").write_text("")
    assert the_problem(folder).file == "'\\x1b[2J.yaml'"


# --- across files ------------------------------------------------------------------------------


def test_a_version_is_wanted(write: Write) -> None:
    folder = write(rules=BASE.replace('version: "1"\n', "") + NEWS)
    assert the_problem(folder) == Problem(str(folder), None, "No file states the version.")


def test_a_second_version_is_refused(write: Write) -> None:
    folder = write(a=BASE + NEWS, b='controllers: {}\nversion: "2"\n')
    assert the_problem(folder) == Problem("b.yaml", 2, "The version was stated already, in a.yaml.")


def test_a_purpose_declared_in_two_files_is_refused(write: Write) -> None:
    folder = write(a=BASE + NEWS, b=NEWS)
    assert the_problem(folder) == Problem(
        "b.yaml", 2, "Purpose news was declared already, in a.yaml."
    )


def test_a_controller_declared_in_two_files_is_refused(write: Write) -> None:
    folder = write(a=BASE + NEWS, b=BASE.replace('version: "1"\n', ""))
    assert the_problem(folder) == Problem(
        "b.yaml", 2, "Controller shop was declared already, in a.yaml."
    )


def test_a_controller_that_nobody_declares_is_refused(write: Write) -> None:
    text = BASE + NEWS.replace("controller: shop", "controller: stop #!")
    assert the_problem(write(rules=text)) == Problem(
        "rules.yaml", marked(text), "Purpose news: controller 'stop' is declared in no file."
    )


def test_a_name_that_means_two_purposes_is_refused(write: Write) -> None:
    names = "    external_names:\n      hubspot: [News]\n"
    other = NEWS.replace("  news:", "  other:") + names.replace("[News]", "[Other, ' NEWS ']")
    assert the_problem(write(a=BASE + NEWS + names, b=other)) == Problem(
        "b.yaml", 14, "Purpose other: hubspot calls purpose news ' NEWS ' too."
    )


def test_a_set_without_purposes_is_refused(write: Write) -> None:
    folder = write(rules=BASE)
    assert the_problem(folder) == Problem(str(folder), None, "No file declares a purpose.")


def test_all_problems_of_all_files_come_at_once(write: Write) -> None:
    news = NEWS.replace("name: News", "nam: News").replace("sms", "fax")
    folder = write(a=BASE.replace("NO", "Norway") + news, b="x: &a 1\ny: *a\n", c="version: [")
    found = [(problem.file, problem.line) for problem in problems(folder)]
    assert found == [
        ("a.yaml", 6),
        ("a.yaml", 9),
        ("a.yaml", 11),
        ("a.yaml", 14),
        ("b.yaml", 1),
        ("b.yaml", 2),
        ("c.yaml", 1),
    ]


def test_the_error_reads_as_a_list_of_places_and_sentences(write: Write) -> None:
    folder = write(rules=BASE + NEWS.replace("email, sms", "email, fax"))
    with pytest.raises(PolicyError) as caught:
        load(folder)
    assert str(caught.value) == (
        "rules.yaml:14: Purpose news: channels[1] must be one of email, sms, phone, post, push, "
        "in_app, chat, web, not 'fax'."
    )


# --- one purpose, one controller ---------------------------------------------------------------

A_PURPOSE_KEY = "must be a key such as newsletter or events.invitations"
BASES = "consent, contract, legal_obligation, vital_interests, public_task, legitimate_interests"
CHANNELS = "email, sms, phone, post, push, in_app, chat, web"
A_PERIOD = "must be an ISO 8601 period such as P2Y, P6M or P30D"
A_DATE = "must be a date such as 2027-01-31 or 2027-01-31T09:00:00Z"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  news:", "  News: #!", f"Purpose News {A_PURPOSE_KEY}, not 'News'."),
        ("  news:", "  news.: #!", f"Purpose news. {A_PURPOSE_KEY}, not 'news.'."),
        ("  news:", "  '*': #!", f"Purpose '*' {A_PURPOSE_KEY}, not '*'."),
        (
            "  news:",
            f"  {'n' * 65}: #!",
            f"Purpose '{'n' * 59}…' {A_PURPOSE_KEY}, not '{'n' * 59}…'.",
        ),
        (
            "  shop:",
            "  Shop_1: #!",
            "Controller Shop_1 must be a key such as example-shop, not 'Shop_1'.",
        ),
        (
            "country: NO",
            "country: Norway #!",
            (
                "Controller shop: country must be a country code of ISO 3166-1 such as DE, "
                "not 'Norway'."
            ),
        ),
        ('"1"', "'1 ' #!", "The key version must be a version such as 2026.11, not '1 '."),
        ('"1"', "#!", "The key version must be a version such as 2026.11, not ''."),
        ("purposes:", "colours: #!", "The key colours is not known here."),
        ("purposes:", "x-purposes: #!", "The key x-purposes is not known here; is purposes meant?"),
    ],
)
def test_a_faulty_key_or_controller_is_refused(
    write: Write, old: str, new: str, sentence: str
) -> None:
    text = (BASE + NEWS).replace(old, new)
    assert Problem("rules.yaml", marked(text), sentence) in problems(write(rules=text))


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("Controller shop", "contact"),
        ("Purpose news", "name"),
        ("Purpose news", "channels"),
        ("Purpose news", "legal_basis"),
        ("Purpose news", "controller"),
    ],
)
def test_what_is_missing_is_named_where_it_belongs(write: Write, kind: str, key: str) -> None:
    lines = (BASE + NEWS).splitlines()
    entry = lines.index(f"  {kind.partition(' ')[2]}:")
    del lines[next(n for n in range(entry, len(lines)) if f"    {key}:" in lines[n])]
    assert the_problem(write(rules="\n".join(lines))) == Problem(
        "rules.yaml", entry + 1, f"{kind}: {key} is missing."
    )


def with_rule(rule: str) -> str:
    """The base and one purpose, whose last line is `rule` instead of its own of that key."""
    own = f"    {rule.partition(':')[0]}:"
    kept = [line for line in NEWS.splitlines() if not line.startswith(own)]
    return BASE + "\n".join([*kept, f"    {rule}"])


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        # what nobody declared
        ("colour: red", "colour is not known here."),
        ("double_optin: {}", "double_optin is not known here; is double_opt_in meant?"),
        (
            "child: {minimum_age: 16, min_age: 3}",
            "child.min_age is not known here; is minimum_age meant?",
        ),
        ('"\\e[2J": 1', "'\\x1b[2J' is not known here."),
        # forms
        ("name: [News]", "name must be a text."),
        ("name: ' '", "name must not be empty."),
        (f"name: {'n' * 121}", "name must not be longer than 120 characters."),
        ('name: "a\\0b"', "name must not hold control or text-direction characters."),
        ('name: "swen\\u202e"', "name must not hold control or text-direction characters."),
        ("legal_basis: opt-in", f"legal_basis must be one of {BASES}, not 'opt-in'."),
        ("legal_basis: {}", f"legal_basis must be one of {BASES}, not a mapping."),
        ("channels: email", "channels must be a list, not 'email'."),
        ("channels: []", "channels must name at least one."),
        ("channels: [sms, '*']", f"channels[1] must be one of {CHANNELS}, not '*'."),
        ("channels: [sms, sms]", "channels[1] names 'sms' a second time."),
        ("dpv: ['dpv:Ads']", "dpv[0] must be a DPV term such as DirectMarketing, not 'dpv:Ads'."),
        (
            "data_use: Marketing",
            "data_use must be a fideslang data use such as essential.service, not 'Marketing'.",
        ),
        (
            "data_categories: [user contact]",
            (
                "data_categories[0] must be a fideslang data category such as user.contact.email, "
                "not 'user contact'."
            ),
        ),
        ("direct_marketing: yes", "direct_marketing must be true or false, not 'yes'."),
        ("direct_marketing: []", "direct_marketing must be true or false, not a list."),
        # rules
        ("expires_after: 2 years", f"expires_after {A_PERIOD}, not '2 years'."),
        ("expires_after: P\uff12Y", f"expires_after {A_PERIOD}, not 'P\uff12Y'."),
        ("expires_after:", f"expires_after {A_PERIOD}, not ''."),
        ("expires_after: [P2Y]", f"expires_after {A_PERIOD}, not a list."),
        ("expires_after: P0D", "expires_after must be between P1D and P10Y, not 'P0D'."),
        ("expires_after: P9999Y", "expires_after must be between P1D and P10Y, not 'P9999Y'."),
        ("child: 16", "child must be a mapping of keys to values."),
        (
            "child: {minimum_age: 0x10}",
            "child.minimum_age must be an age from 10 to 21, not '0x10'.",
        ),
        ("child: {minimum_age: 99}", "child.minimum_age must be an age from 10 to 21, not '99'."),
        ("child: {minimum_age: []}", "child.minimum_age must be an age from 10 to 21, not a list."),
        ("signals: [gcp]", "signals[0] must be one of gpc, not 'gcp'."),
        ("double_opt_in: {channels: [sms]}", "double_opt_in.confirm_within is missing."),
        (
            "double_opt_in: {channels: [sms], confirm_within: P1M}",
            "double_opt_in.confirm_within must be given in days or weeks, not 'P1M'.",
        ),
        (
            "double_opt_in: {channels: [sms], confirm_within: P91D}",
            "double_opt_in.confirm_within must be between P1D and P90D, not 'P91D'.",
        ),
        (
            "external_names: {Hub Spot: [News]}",
            (
                "external_names.'Hub Spot' must be the name of a system such as hubspot, "
                "not 'Hub Spot'."
            ),
        ),
        ("external_names: {hubspot: News}", "external_names.hubspot must be a list, not 'News'."),
        (
            "external_names: [News]",
            "external_names must be a mapping of keys to values, not a list.",
        ),
        ("material_changes: {}", "material_changes must be a list."),
        ("material_changes: [soon]", "material_changes[0] must be a mapping of keys to values."),
        # contradictions
        (
            "double_opt_in: {channels: [post, sms, web], confirm_within: P7D}",
            "double_opt_in names channels that the purpose lacks: post, web.",
        ),
        (
            "direct_marketing: false",
            "direct_marketing must be true, for the purpose is called DirectMarketing.",
        ),
        (
            "legal_basis: legal_obligation",
            (
                "direct_marketing needs consent or legitimate_interests as its basis, "
                "not legal_obligation."
            ),
        ),
    ],
)
def test_a_faulty_rule_is_refused(write: Write, rule: str, sentence: str) -> None:
    text = with_rule(rule)
    problem = the_problem(write(rules=text))
    assert problem.sentence == f"Purpose news: {sentence}"
    blamed = text.splitlines()[(problem.line or 0) - 1].strip()
    assert blamed == rule or blamed.startswith(sentence.partition(" ")[0])


@pytest.mark.parametrize(
    ("basis", "rule", "why"),
    [
        ("contract", "expires_after: P1Y", ""),
        ("legal_obligation", "double_opt_in: {channels: [sms], confirm_within: P7D}", ""),
        ("legitimate_interests", "child: {minimum_age: 16}", ""),
        (
            "public_task",
            (
                "material_changes: "
                "[{notice: n, version: b, supersedes: [a], effective_from: 2026-01-01}]"
            ),
            "",
        ),
        (
            "contract",
            "direct_marketing: true",
            "needs consent or legitimate_interests as its basis, not contract",
        ),
        (
            "vital_interests",
            "signals: [gpc]",
            "cannot be heeded: vital_interests does not yield to an objection",
        ),
    ],
)
def test_a_rule_that_its_basis_would_never_apply_is_refused(
    write: Write, basis: str, rule: str, why: str
) -> None:
    news = NEWS.replace("    direct_marketing: true\n", "").replace(
        "[DirectMarketing]", "[Purpose]"
    )
    news = news.replace("marketing.communications", "essential.service")
    text = BASE + news.replace("legal_basis: consent", f"legal_basis: {basis}") + f"    {rule} #!"
    key = rule.partition(":")[0]
    assert the_problem(write(rules=text)) == Problem(
        "rules.yaml",
        marked(text),
        f"Purpose news: {key} {why or f'is a rule about consent, and the legal basis is {basis}'}.",
    )


def a_change(version: str, supersedes: str, effective_from: str) -> str:
    return (
        f"{{notice: n, version: {version}, supersedes: [{supersedes}], "
        f"effective_from: '{effective_from}'}}"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([("b", "a, b", "2026-01-01")], " says that version b supersedes itself."),
        (
            [("b", "a", "2026-01-01"), ("a", "b", "2026-02-01")],
            " says that b supersedes a, which is not older.",
        ),
        (
            [("b", "a", "2026-01-01"), ("b", "a", "2026-02-01")],
            " names version b a second time.",
        ),
        ([("b", "", "2026-01-01")], "[0].supersedes must name at least one."),
        ([("b", "a", "soon")], f"[0].effective_from {A_DATE}, not 'soon'."),
        ([("b", "a", "2026-02-30")], f"[0].effective_from {A_DATE}, not '2026-02-30'."),
        (
            [("b", "a", "1999-12-31")],
            "[0].effective_from must lie in the years 2000 to 2099, not '1999-12-31'.",
        ),
        (
            [("b", "a", "9999-12-31T23:59:59-12:00")],
            (
                "[0].effective_from must lie in the years 2000 to 2099, "
                "not '9999-12-31T23:59:59-12:00'."
            ),
        ),
        (
            [("b", "a", "2026-01-01T09:00:00")],
            (
                "[0].effective_from must end in Z or in an offset such as +01:00, "
                "not '2026-01-01T09:00:00'."
            ),
        ),
    ],
)
def test_a_material_change_that_makes_no_sense_is_refused(
    write: Write, changes: list[tuple[str, str, str]], sentence: str
) -> None:
    text = with_rule(f"material_changes: [{', '.join(a_change(*change) for change in changes)}]")
    assert the_problem(write(rules=text)) == Problem(
        "rules.yaml", text.count("\n") + 1, f"Purpose news: material_changes{sentence}"
    )


# --- other languages ---------------------------------------------------------------------------


def test_a_purpose_is_read_in_the_words_of_a_language_or_in_its_own(write: Write) -> None:
    rules = """
    recipients: [Printer]
    translations:
      de: {name: Neues, description: Wir schreiben Ihnen., recipients: [Druckerei]}
      pt-BR: {name: Novidades, description: Escrevemos para você., recipients: [Gráfica]}
"""
    news = load(write(rules=BASE + NEWS + rules)).purposes["news"]
    assert news.worded("de") == (Wording("Neues", "Wir schreiben Ihnen.", ("Druckerei",)), "de")
    assert news.worded("pt-BR")[0].name == "Novidades"
    assert news.worded("fr") == (Wording("News", "We write to you.", ("Printer",)), "en")
    with pytest.raises(TypeError):
        news.translations["fr"] = Wording("a", "b")  # type: ignore[index]  # on purpose


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (
            "translations: {en: {name: News, description: Yes.}}",
            "translations has en, which the purpose itself is written in.",
        ),
        (
            "translations: {de: {name: N, description: D, recipients: [R]}}",
            "translations names more or fewer recipients in de than the purpose.",
        ),
        ("translations: {de: {name: N}}", "translations.de.description is missing."),
        (
            "translations: {German: {name: N, description: D}}",
            "translations.German must be a language such as de or pt-BR, not 'German'.",
        ),
        ("translations: {de: News}", "translations.de must be a mapping of keys to values."),
        ("language: english", "language must be a language such as de or pt-BR, not 'english'."),
    ],
)
def test_a_translation_that_says_something_else_is_refused(
    write: Write, rule: str, sentence: str
) -> None:
    assert the_problem(write(rules=with_rule(rule))).sentence == f"Purpose news: {sentence}"


# --- the hash ----------------------------------------------------------------------------------

GOLDEN = "sha256:398c47f963eb610c350266239096e88f5f538665bbe48ae3b127abfd22bab0e1"


def test_the_hash_is_over_canonical_json(write: Write) -> None:
    loaded = load(write(rules=BASE + NEWS))
    content: dict[str, Any] = {
        "version": "1",
        "controllers": {
            "shop": {
                "key": "shop",
                "name": "A shop",
                "address": "1 Some Street",
                "country": "NO",
                "contact": "privacy@shop.example",
            }
        },
        "purposes": {
            "news": {
                "key": "news",
                "controller": "shop",
                "name": "News",
                "description": "We write to you.",
                "legal_basis": "consent",
                "channels": ["email", "sms"],
                "dpv": ["DirectMarketing"],
                "direct_marketing": True,
                "data_use": "marketing.communications",
                "data_categories": ["user.contact.email"],
                "data_subjects": ["customer"],
            }
        },
    }
    digest = hashlib.sha256(rfc8785.dumps(content)).hexdigest()
    assert loaded.hash == f"sha256:{digest}"


def test_the_hash_of_a_known_set_stays(write: Write) -> None:
    """It stands in ledger entries: a release that changed it would orphan them all."""
    rules = """
    expires_after: P2Y
    double_opt_in: {channels: [email], confirm_within: P7D}
    child: {minimum_age: 16}
    signals: [gpc]
    material_changes: [{notice: n, version: b, supersedes: [a], effective_from: 2027-01-31}]
    external_names: {hubspot: [Nachrichten für Käufer]}
"""
    assert load(write(rules=BASE + NEWS + rules)).hash == GOLDEN


def test_notation_order_and_files_do_not_change_the_hash(write: Write, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "z.yml").write_text(BASE + "# a comment\n")
    purposes = yaml.safe_load(NEWS)["purposes"]
    rewritten = dict(reversed(purposes["news"].items()))
    rewritten["channels"] = ["sms", "email"]
    rewritten["description"] = "We write\n  to  you.\n"
    rewritten["direct_marketing"] = True
    (other / "a.yaml").write_text(yaml.safe_dump({"purposes": {"news": rewritten}}, indent=8))
    assert load(write(rules=BASE + NEWS)).hash == load(other).hash


def test_a_default_that_is_written_out_does_not_change_the_hash(write: Write) -> None:
    loaded = load(write(rules=BASE + NEWS.replace("[DirectMarketing]", "[Marketing]")))
    spelled = replace(loaded.purposes["news"], retention=None, material_changes=())
    assert loaded.hash == fingerprint("1", loaded.controllers.values(), [spelled])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('version: "1"', "version: 1.0"),
        ("A shop", "Another shop"),
        ("[email, sms]", "[email]"),
        ("legal_basis: consent", "legal_basis: legitimate_interests"),
        ("customer]\n", "customer]\n    expires_after: P1Y\n"),
        ("customer]\n", "customer]\n    signals: [gpc]\n"),
        (
            "version:",
            "registries: {l: {name: L, country: NO, channels: [sms], maximum_age: P9D}}\nversion:",
        ),
        ("customer]\n", "customer]\n    external_names: {hubspot: [News]}\n"),
        ("customer]\n", "customer]\n    language: de\n"),
        ("customer]\n", "customer]\n    translations: {de: {name: N, description: Wir.}}\n"),
    ],
)
def test_every_rule_changes_the_hash(write: Write, tmp_path: Path, old: str, new: str) -> None:
    text = BASE + NEWS
    other = tmp_path / "other"
    other.mkdir()
    (other / "rules.yaml").write_text(text.replace(old, new))
    assert load(write(rules=text)).hash != load(other).hash


def test_equal_periods_are_one_rule(write: Write) -> None:
    loaded = load(write(rules=BASE + NEWS + "    expires_after: P12M\n"))
    a_year = replace(loaded.purposes["news"], expires_after=Period.parse("P1Y"))
    assert loaded.hash == fingerprint("1", loaded.controllers.values(), [a_year])


# --- do-not-call lists -------------------------------------------------------------------------

LISTS = """\
registries:
  uk_tps:
    name: TPS
    country: GB
    channels: [phone]
    maximum_age: P4W
    later_consent: true
    source: PECR
"""
CALLS = NEWS.replace("[email, sms]", "[email, sms, phone]") + "    do_not_call: [uk_tps]\n"


def test_registries_arrive_in_the_model(write: Write) -> None:
    loaded = load(write(rules=BASE + CALLS, lists=LISTS))
    registry = Registry(
        "uk_tps", "TPS", "GB", frozenset({Channel.PHONE}), Period(0, 28), True, "PECR"
    )
    assert loaded.registries == {"uk_tps": registry}
    news = loaded.purposes["news"]
    assert loaded.washed_against(news, Channel.PHONE) == (registry,)
    assert loaded.washed_against(news, Channel.SMS) == ()


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (
            CALLS.replace("[uk_tps]", "[tps] #!"),
            "Purpose news: registry 'tps' is declared in no file.",
        ),
        (
            NEWS + "    do_not_call: [uk_tps] #!",
            "Purpose news: registry 'uk_tps' bears on no channel of the purpose.",
        ),
        (
            CALLS.replace("[email, sms, phone]", "[email]").replace("[uk_tps]", "[uk_tps] #!"),
            "Purpose news: do_not_call is about phone and sms, and the purpose lacks both.",
        ),
        (
            CALLS.replace("consent", "contract")
            .replace("    direct_marketing: true\n", "")
            .replace("DirectMarketing", "Marketing")
            .replace("marketing.communications", "essential.service")
            .replace("[uk_tps]", "[uk_tps] #!"),
            "Purpose news: do_not_call cannot be heeded: contract does not yield to an objection.",
        ),
    ],
)
def test_a_list_that_could_not_be_heeded_is_refused(
    write: Write, rules: str, sentence: str
) -> None:
    text = BASE + rules
    problem = next(
        one for one in problems(write(rules=text, lists=LISTS)) if one.sentence == sentence
    )
    assert (problem.file, problem.line) == ("rules.yaml", marked(text))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[phone]", "[email, sms]", "channels may name phone and sms, and nothing else."),
        ("P4W", "P1M", "maximum_age must be given in days or weeks, not 'P1M'."),
        ("P4W", "P93D", "maximum_age must be between P1D and P92D, not 'P93D'."),
        ("GB", "UKX", "country must be a country code of ISO 3166-1 such as DE, not 'UKX'."),
        ("uk_tps:", "UK-TPS:", "must be a key such as uk_tps, not 'UK-TPS'."),
    ],
)
def test_a_malformed_registry_is_refused(write: Write, old: str, new: str, sentence: str) -> None:
    found = problems(write(rules=BASE + NEWS, lists=LISTS.replace(old, new)))
    assert any(problem.sentence.endswith(sentence) for problem in found), found


# --- what is shipped ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library() -> PolicySet:
    """The shipped policies."""
    return load(LIBRARY)


def test_the_shipped_canonical_form_is_that_of_rfc_8785(library: PolicySet) -> None:
    written = canonical(
        library.version,
        library.controllers.values(),
        library.purposes.values(),
        library.registries.values(),
    )
    assert written == rfc8785.dumps(json.loads(written))


def test_the_library_loads_quickly() -> None:
    def spent() -> float:
        began = time.process_time()
        load(LIBRARY)
        return time.process_time() - began

    assert min(spent() for _ in range(5)) < 0.05


# --- the document ------------------------------------------------------------------------------

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "policies.md"


def test_the_documented_example_loads_and_uses_every_key(write: Write) -> None:
    example = DOCUMENT.read_text().partition("```yaml\n")[2].partition("```")[0]
    newsletter = load(write(rules=example)).purposes["newsletter"]
    unused = [
        each.name
        for each in fields(newsletter)
        if getattr(newsletter, each.name) in (None, (), False, frozenset(), {})
    ]
    assert unused == []


def test_every_key_of_a_purpose_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert documented == sorted(
        {each.name for each in fields(Purpose)} - {"key"}, key=documented.index
    )
