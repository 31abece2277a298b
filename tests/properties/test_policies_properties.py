"""Whatever stands in a policy file, loading ends in a policy set or in a list of problems."""

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rfc8785
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import PolicyLoadError
from policies.fingerprint import canonical
from policies.loader import LIBRARY, load
from policies.model import PolicySet

SHIPPED = load(LIBRARY)
LIBRARY_CONTENT: list[dict[str, Any]] = [
    yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in sorted(LIBRARY.glob("*.yaml"))
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.text(max_size=8),
    st.sampled_from(["email", "consent", "P1Y", "P9D", "gpc", "true", "*", "<<", "shop", "16"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def outcome(*files: bytes) -> PolicySet | PolicyLoadError:
    with TemporaryDirectory() as folder:
        for number, content in enumerate(files):
            (Path(folder) / f"{number}.yaml").write_bytes(content)
        try:
            return load(Path(folder))
        except PolicyLoadError as error:
            return error


@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "ignore"))
    )
)
def test_any_bytes_end_in_an_answer(content: bytes) -> None:
    refused = outcome(content)
    assert isinstance(refused, PolicyLoadError)
    assert refused.problems
    assert all(problem.sentence.isprintable() for problem in refused.problems)


@given(st.text(alphabet="ab:-?!&*|>{}[],#'\"%@<\\\n\t 0", max_size=60))
def test_any_punctuation_ends_in_an_answer(text: str) -> None:
    assert isinstance(outcome(text.encode()), PolicyLoadError)


@given(st.data())
def test_anything_in_the_place_of_a_rule_ends_in_an_answer_with_its_line(
    data: st.DataObject,
) -> None:
    content = data.draw(st.sampled_from([one for one in LIBRARY_CONTENT if "purposes" in one]))
    purposes: dict[str, dict[str, Any]] = content["purposes"]
    key = data.draw(st.sampled_from(sorted(purposes)))
    rule = data.draw(st.sampled_from(sorted({*purposes[key], "child", "double_opt_in", "signals"})))
    changed = {**purposes, key: {**purposes[key], rule: data.draw(anything)}}
    text = block({**content, "purposes": changed})
    others = [block(other).encode() for other in LIBRARY_CONTENT if other is not content]
    answer = outcome(text.encode(), *others)
    if isinstance(answer, PolicyLoadError):
        lines = text.splitlines()
        begin = lines.index(f"  {key}:") + 1
        for problem in answer.problems:
            assert problem.file == "0.yaml"
            assert problem.line is not None
            assert begin <= problem.line <= len(lines)
            assert problem.sentence.isprintable()


@given(st.integers(), st.integers(1, 4))
def test_order_and_files_never_change_the_hash(seed: int, spread: int) -> None:
    order = random.Random(seed)
    files: list[dict[str, Any]] = [{} for _ in range(spread)]
    for content in LIBRARY_CONTENT:
        for section, entries in content.items():
            if section == "version":
                order.choice(files)["version"] = entries
                continue
            for key, entry in shuffled(entries, order).items():
                order.choice(files).setdefault(section, {})[key] = entry
    # JSON is YAML in another notation.
    again = outcome(*(json.dumps(shuffled(file, order)).encode() for file in files if file))
    assert isinstance(again, PolicySet), again
    assert again == SHIPPED


def block(content: dict[str, Any]) -> str:
    """YAML as people write it."""
    return str(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False))


def shuffled(value: Any, order: random.Random) -> Any:
    """The same content with every mapping and list in another order."""
    if isinstance(value, dict):
        keys = order.sample(list(value), len(value))
        return {key: shuffled(value[key], order) for key in keys}
    return order.sample(value, len(value)) if isinstance(value, list) else value


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_hashed_bytes_are_those_of_rfc_8785(text: str) -> None:
    """`rfc8785` is an encoder by others."""
    expected: dict[str, Any] = {"version": text, "controllers": {}, "purposes": {}}
    assert canonical(text, [], []) == rfc8785.dumps(expected)
