"""A step travels as text and is checked before a client acts on it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from qfl.crypto import Step, SumRange
from qfl.errors import PayloadError

STEP = Step(
    step="train",
    run="run-7",
    round=3,
    label="train",
    scheme="ckks",
    key_id="0123456789abcdef",
    longest=658,
    fraction_bits=20,
    bound=2.0,
    additions=10,
    min_clients=2,
    clients=10,
    examples=1200,
    metrics=("loss", "accuracy"),
)
words = st.text(max_size=20)


def changed(**fields: Any) -> str:
    return json.dumps({**asdict(STEP), **fields})


def with_own_label(step: Step) -> Step:
    """Training and evaluation have no label but their own."""
    return replace(step, label=step.step) if step.step in ("train", "evaluate") else step


@given(
    step=st.builds(
        replace,
        st.just(STEP),
        step=st.sampled_from(["hello", "keygen", "sum", "train", "evaluate", "open"]),
        run=words,
        label=words,
        scheme=st.sampled_from(["ckks", "packed", "hybrid"]),
        key_id=words,
        round=st.integers(0, 2**40),
        longest=st.integers(0, 2**40),
        bound=st.floats(1.0, 64.0),
        fraction_bits=st.integers(12, 30),
        additions=st.integers(1, 1000),
        metrics=st.lists(words, max_size=4).map(tuple),
    ).map(with_own_label)
)
def test_what_was_sent_comes_back(step: Step) -> None:
    assert Step.from_json(step.to_json()) == step


def test_sums_are_those_of_the_fields() -> None:
    assert STEP.sums == SumRange(fraction_bits=20, bound=2.0, additions=10)


def test_a_whole_number_is_a_valid_bound() -> None:
    assert Step.from_json(changed(bound=2)).sums == STEP.sums


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "7", '"x"', "{", "{}", "[" * 100_000, '{"a":' * 50_000, "9" * 10_000, "{1"],
)
def test_text_of_wrong_form_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match="the server's step cannot be read"):
        Step.from_json(text)


@pytest.mark.parametrize("name", list(asdict(STEP)))
def test_a_missing_field_is_refused_by_name(name: str) -> None:
    values = asdict(STEP)
    del values[name]
    with pytest.raises(PayloadError, match=rf"cannot be read: .*'{name}'"):
        Step.from_json(json.dumps(values))


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(PayloadError, match=r"cannot be read: .*'_target_'"):
        Step.from_json(changed(_target_="os.system"))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("step", "explode", "unknown step 'explode'"),
        ("step", "trian", "unknown step 'trian'; did you mean 'train'"),
        ("step", 5, "step=5, expected str"),
        ("run", None, "run=None, expected str"),
        ("round", "1", "round='1', expected int"),
        ("round", True, "round=True, expected int"),
        ("round", 1.0, "round=1.0, expected int"),
        ("round", -1, "round=-1, expected 0 or more"),
        ("longest", -1, "longest=-1, expected 0 or more"),
        ("examples", -1, "examples=-1, expected 0 or more"),
        ("min_clients", 0, "min_clients=0, expected 1 or more"),
        ("clients", 0, "clients=0, expected 1 or more"),
        ("bound", "2", "bound='2', expected float"),
        ("bound", False, "bound=False, expected float"),
        ("bound", 0, "bound=0, expected more than 0 and at most 64"),
        ("bound", 64.5, "bound=64.5, expected more than 0 and at most 64"),
        ("bound", 10**400, "expected more than 0 and at most 64"),
        ("bound", float("nan"), "bound=nan, expected more than 0"),
        ("bound", float("inf"), "bound=inf, expected more than 0"),
        ("fraction_bits", 7, "fraction_bits=7, expected 8 to 30"),
        ("fraction_bits", 31, "fraction_bits=31, expected 8 to 30"),
        ("additions", 0, "cannot be summed: additions=0 is not allowed"),
        ("additions", -5, "cannot be summed: additions=-5 is not allowed"),
        ("additions", 10**300, "a number additions beyond 9007199254740992"),
        ("additions", 10**12, "cannot be summed: .* contributions do not fit"),
        ("metrics", "loss", r"metrics='loss', expected tuple\[str, \.\.\.\]"),
        ("metrics", ["loss", 1], r"metrics=\('loss', 1\), expected tuple\[str, \.\.\.\]"),
        ("metrics", {"loss": 1}, r"metrics=\{'loss': 1\}, expected tuple"),
    ],
)
def test_fields_of_wrong_type_or_value_are_refused(field: str, value: Any, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        Step.from_json(changed(**{field: value}))


@given(text=st.text(max_size=60))
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(PayloadError):
        Step.from_json(text)


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_training_and_evaluation_cannot_be_relabelled(step: str) -> None:
    """A sum of updates is recognised by its label, under release=clients above all."""
    with pytest.raises(PayloadError, match=f"step {step} has label 'count'"):
        Step.from_json(changed(step=step, label="count"))


def test_pairs_of_scheme_and_trust_that_do_not_exist_are_refused() -> None:
    with pytest.raises(PayloadError, match="scheme=ckks with trust=committee does not exist"):
        Step.from_json(changed(trust="committee"))
