"""Which candidates to label next: unsure ones, unlike what is labelled, and unlike each other. Pure numpy.

*Uncertainty* is the mean of three doubts about a mask, each from 0 to 1:

* 1 - the IoU that the model predicts for it;
* 1 - the mean IoU between the three masks that the model offers for the click (they disagree);
* 1 - the IoU between the mask grown and shrunk by moving the threshold of its logits (SAM's stability score).

*Difference* is 1 - the highest cosine between the candidate's mean embedding and those of the labelled objects and of
the suggestions before it, at least 0 and at most 1. Embeddings are taken less their mean over the area, because they
have a large part in common.

The *rank* is the mean of both. Suggestions are chosen one after the other by it, so they differ from each other:
uncertainty sampling (Lewis and Gale, SIGIR 1994) mixed with the greedy core-set of k centres (Sener and Savarese, ICLR
2018). Nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHIFT = 1.0
"""By which the threshold of the logits is moved up and down, as in SAM's stability score."""


def uncertainty(masks: NDArray[np.float32], chosen: NDArray[np.float32], predicted: float) -> float:
    """Return how unsure the model is of a mask, 0 to 1.

    Args:
        masks: (k, h, w) logits of all masks that it offers.
        chosen: (h, w) logits of the one that counts.
        predicted: IoU that it expects of that.
    """
    pairs = [(i, j) for i in range(len(masks)) for j in range(i)]
    agreement = float(np.mean([_iou(masks[i] > 0, masks[j] > 0) for i, j in pairs])) if pairs else 1.0
    stability = _iou(chosen > SHIFT, chosen > -SHIFT)
    doubts = np.array([1.0 - predicted, 1.0 - agreement, 1.0 - stability])
    return float(doubts.clip(0.0, 1.0).mean())


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    either = int((one | other).sum())
    return float((one & other).sum() / either) if either else 1.0


def masked_mean(embedding: NDArray[np.float16], share: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the (C,) mean of an embedding over a mask; None where the mask is empty.

    Args:
        embedding: (C, h, w).
        share: (n h, n w) bool or float, how much of each place is in the mask.
    """
    height, width = embedding.shape[1:]
    fine = share.shape[0] // height
    weights = share.astype(np.float32).reshape(height, fine, width, fine).mean(axis=(1, 3))
    total = float(weights.sum())
    if total <= 0:
        return None
    return np.asarray((embedding.astype(np.float32) * weights).sum(axis=(1, 2)) / total, np.float32)


@dataclass(frozen=True)
class Ranked:
    """A suggestion.

    Attributes:
        index: of the candidate.
        rank: 0 to 1.
        difference: 0 to 1, from what was labelled and from the suggestions before it.
    """

    index: int
    rank: float
    difference: float


def ranked(
    doubts: NDArray[np.float64],
    vectors: NDArray[np.float32],
    labelled: NDArray[np.float32],
    common: NDArray[np.float32],
    count: int,
    excludes: Callable[[int], Sequence[int]],
) -> list[Ranked]:
    """Choose suggestions one after the other.

    Args:
        doubts: (N,) uncertainty of each candidate.
        vectors: (N, C) mean embeddings of the candidates.
        labelled: (M, C) of the labelled objects; M may be 0.
        common: (C,) what all embeddings have in common; taken off.
        count: suggestions at most.
        excludes: says which candidates are out once one is taken (those at the same place).

    Returns:
        The most useful first.
    """
    given, known = _directions(vectors - common), _directions(labelled - common)
    difference = np.ones(len(given))
    if len(known):
        difference = (1.0 - (given @ known.T).max(axis=1)).clip(0.0, 1.0).astype(np.float64)
    open_ = np.ones(len(given), bool)
    chosen: list[Ranked] = []
    while len(chosen) < count and open_.any():
        ranks = np.where(open_, (doubts + difference) / 2.0, -1.0)
        best = int(ranks.argmax())
        chosen.append(Ranked(best, float(ranks[best]), float(difference[best])))
        open_[best] = False
        open_[list(excludes(best))] = False
        difference = np.minimum(difference, (1.0 - given @ given[best]).clip(0.0, 1.0))
    return chosen


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), np.float32)
