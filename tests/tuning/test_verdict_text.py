"""The sentence on whether an adapter is worth using."""

from __future__ import annotations

from pathlib import Path

import pytest
from samtune.engine.tuning.report import verdict_text
from samtune.engine.tuning.result import Score, TuneResult, Verdict


def told(gain: tuple[float, float, float], *, objects: int = 10, follows: bool = True) -> str:
    verdict = Verdict.BETTER if gain[1] > 0 and follows else Verdict.NOT_BETTER
    score = Score({}, {}, objects)
    return verdict_text(
        TuneResult(Path("a"), {}, score, score, verdict, gain, 1, 1.0, Path("run"), (), follows=follows)
    )


def test_a_gain_that_may_be_chance_is_told_with_what_would_show_it() -> None:
    text = told((0.07, -0.07, 0.21))
    assert text.startswith("Not proven better")
    assert "about 41 objects held out" in text  # twice as far as the gain: four times the objects, and one


@pytest.mark.parametrize(
    ("gain", "follows", "begins"),
    [
        ((0.1, 0.02, 0.18), True, "Better than the base"),
        ((0.1, 0.02, 0.18), False, "Not better than the base: the figure rose"),
        ((0.01, -0.1, 0.12), True, "Not better than the base on ground"),
        ((-0.05, -0.1, 0.0), True, "Not better than the base on ground"),
        ((0.07, -0.01, 0.15), False, "Not better than the base on ground"),
    ],
)
def test_no_more_objects_are_asked_for_where_they_would_not_help(
    gain: tuple[float, float, float], follows: bool, begins: str
) -> None:
    text = told(gain, follows=follows)
    assert text.startswith(begins)
    assert "would show" not in text
