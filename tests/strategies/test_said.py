"""What others say reaches records and terminals as one printable line."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from qfl.strategies.said import LONGEST, said


@given(st.text(max_size=2000))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = said(text)
    assert line and line.isprintable() and len(line) <= LONGEST


def test_a_long_text_is_cut_and_says_so() -> None:
    assert said("a" * 10**6) == "a" * (LONGEST - 1) + "…"
    assert said("what is short stays as it is") == "what is short stays as it is"
