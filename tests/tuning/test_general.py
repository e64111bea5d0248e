"""The sentence on whether other imagery is still outlined as before agrees with the figures beside it."""

from __future__ import annotations

import numpy as np
import pytest
from samtune.engine.tuning.general import _told


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ((0.01, -0.01, 0.02, -0.02, 0.0, 0.01, -0.01, 0.0), "Other things are outlined as well as before."),
        ((-0.04, -0.05, -0.04, -0.05, -0.04, -0.05, -0.04, -0.05), "Other things may be outlined a little worse"),
        ((-0.9, 0.3, -0.8, 0.4, -0.5, 0.5, -0.6, 0.2), "Other things may be outlined a little worse"),
        ((-0.20, -0.25, -0.30, -0.2, -0.25, -0.3, -0.2, -0.25), "Other things are outlined worse than before"),
    ],
)
def test_the_sentence_agrees_with_the_interval(changes: tuple[float, ...], begins: str) -> None:
    before = np.full(len(changes), 0.6)
    found = _told(np.stack([before, before + changes], axis=1), np.array([]), 0)
    assert found.sentence.startswith(begins)
    row = found.figures[0]
    assert (row.high < 0) <= ("worse" in found.sentence), "a loss beyond chance is not called as well as before"


@pytest.mark.parametrize(
    ("changes", "agreed", "begins"),
    [
        ((), 0.9, "Other things are outlined as well as before."),
        ((), 0.1, "Other things are outlined otherwise than before: look at some"),
        ((0.01, -0.01, 0.02), 0.1, "Other things are outlined otherwise than before, but as well."),
        ((-0.2, -0.25, -0.3, -0.2), 0.1, "Other things are outlined worse than before"),
    ],
)
def test_other_answers_are_not_called_as_before(changes: tuple[float, ...], agreed: float, begins: str) -> None:
    """Without drawn outlines, answers that differ may be better or worse; the sentence says so."""
    before = np.full(len(changes), 0.6)
    found = _told(np.stack([before, before + np.array(changes)], axis=1), np.full(8, agreed), 0)
    assert found.sentence.startswith(begins)
    assert f"agree to {agreed:.2f}" in found.sentence
