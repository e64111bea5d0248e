"""A rising table from a model's own estimates of IoU to the IoU that came true: the card's ``expected_iou``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .protocol import Outcome

KNOTS = 8

Table = tuple[tuple[float, float], ...]


def answers(outcomes: Iterable[Outcome]) -> list[tuple[float, float]]:
    """Return estimate and IoU of every answer of some outcomes whose estimate is a number."""
    pairs = [
        pair
        for outcome in outcomes
        for pair in (*zip(outcome.predicted, outcome.ious, strict=True), (outcome.box_predicted, outcome.box))
    ]
    return [(float(a), float(b)) for a, b in pairs if a is not None and b is not None and np.isfinite(a)]


def fit(pairs: Sequence[tuple[float, float]], knots: int = KNOTS) -> Table:
    """Fit a table by isotonic regression over groups of equally many answers.

    Neighbouring groups whose IoU does not rise with the estimate are pooled (the pool-adjacent-violators algorithm,
    least squares under the condition that the result rises). An estimate of 0 stays 0: what the model refuses stays
    refused.

    Args:
        pairs: estimate and IoU of answers on data that nothing is reported on, made without a table.
        knots: groups before pooling.

    Returns:
        Estimates and expected IoU, both rising, from (0, 0); to be interpolated linearly.

    Raises:
        ValueError: there are fewer answers than knots.
    """
    if len(pairs) < knots:
        raise ValueError(f"{len(pairs)} answers are too few for {knots} knots")
    values = np.array(sorted(pairs), float)
    pools = [(group[:, 0].mean(), group[:, 1].mean(), len(group)) for group in np.array_split(values, knots)]
    rising: list[tuple[float, float, int]] = []
    for pool in pools:
        current = pool
        while rising and (rising[-1][1] >= current[1] or rising[-1][0] >= current[0]):
            before = rising.pop()
            weight = before[2] + current[2]
            mixed = [(before[side] * before[2] + current[side] * current[2]) / weight for side in (0, 1)]
            current = (mixed[0], mixed[1], weight)
        rising.append(current)
    table = [(0.0, 0.0), *((round(float(a), 3), round(float(min(b, 1.0)), 3)) for a, b, _ in rising if a > 0)]
    return tuple(pair for index, pair in enumerate(table) if index == 0 or pair[0] > table[index - 1][0])


def expected(estimates: Sequence[float], table: Table) -> list[float]:
    """Read estimates by a table, as ``PromptableModel`` does."""
    return [float(value) for value in np.interp(estimates, [a for a, _ in table], [b for _, b in table])]
