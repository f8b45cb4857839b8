"""Can this file be won by counting characters, and which arms do nothing else?

An arm that only reads lengths is a judge of how a benchmark was built: it wins where the right
answers happen to be shorter (or longer) and loses elsewhere. Lengths are characters; an arm that
counts words or tokens is recognised as well.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.replay.intervals import bootstrap, percentile_interval
from reward_router.replay.records import Records
from reward_router.types import Float

Json = dict[str, Any]

# Lower bound of the share of right answers on one side of length, above which the file can be won
# by length.
BIASED = 0.55
# Share of an arm's verdicts, or of its scores' variance, that length explains.
READS_LENGTHS = 0.95
FEWEST_ROWS = 30
_NEIGHBOURS = 9


def lengths(records: Records) -> Json | None:
    """{rows, shorter, ci95, winner, text, arms}; None where responses are not recorded.

    ``shorter`` is the share of right answers that are shorter, of the rows whose lengths differ.
    ``winner`` is "shorter" or "longer" where that side is right more often than BIASED with 95 %
    confidence. ``arms`` holds those that only read lengths: {arm: {prefers, agrees, explained,
    accuracy}}. O(P K log P).
    """
    if records.length_P2 is None:
        return None
    gap_P = records.length_P2[:, 0] - records.length_P2[:, 1]
    unequal_P = np.isfinite(gap_P) & (gap_P != 0)
    if unequal_P.sum() < FEWEST_ROWS:
        return None
    shorter_P = 0.5 - 0.5 * np.sign(np.nan_to_num(gap_P)) * records.label_P
    boot = bootstrap(records.group_P)
    share = float(shorter_P[unequal_P].mean())
    low, high = percentile_interval(boot.replicate([shorter_P], unequal_P.astype(np.float64)))
    winner = "shorter" if low > BIASED else "longer" if high < 1 - BIASED else None
    result: Json = {
        "rows": int(unequal_P.sum()),
        "shorter": share,
        "ci95": (low, high),
        "winner": winner,
        "arms": _readers(records, gap_P, unequal_P),
    }
    result["text"] = _words(result)
    return result


def _readers(records: Records, gap_P: Float, unequal_P: NDArray[np.bool_]) -> Json:
    """Arms whose verdicts or scores follow from lengths alone."""
    readers = {}
    for k, arm in enumerate(records.arms):
        agrees = _agreement_with_shorter(records.margins_PK[:, k], gap_P, unequal_P)
        explained = _explained(records, k)
        follows = max(agrees, 1 - agrees)
        if max(follows, explained) < READS_LENGTHS:
            continue
        prefers = "shorter" if agrees > 0.5 else "longer"
        readers[arm] = {
            "prefers": prefers if follows >= READS_LENGTHS else "some lengths",
            "agrees": follows,
            "explained": explained,
            "accuracy": float(records.correct_PK[:, k].mean()),
        }
    return readers


def _agreement_with_shorter(margin_P: Float, gap_P: Float, unequal_P: NDArray[np.bool_]) -> float:
    """Share of an arm's verdicts that name the shorter response; 1/2 where it gives too few."""
    decided_P = unequal_P & (np.nan_to_num(margin_P) != 0)
    if decided_P.sum() < FEWEST_ROWS:
        return 0.5
    named_P = np.sign(margin_P[decided_P])
    shorter_P = -np.sign(gap_P[decided_P])
    return float((named_P == shorter_P).mean())


def _explained(records: Records, k: int) -> float:
    """Share of the variance of an arm's scores that length foretells, whatever the shape.

    Each response's score is predicted by the mean of those of nearly the same length.
    """
    assert records.length_P2 is not None
    length_Q = records.length_P2.T.ravel()
    score_Q = np.concatenate([records.first_PK[:, k], records.second_PK[:, k]])
    scored_Q = np.isfinite(length_Q) & np.isfinite(score_Q)
    score_S = score_Q[scored_Q]
    length_S = length_Q[scored_Q]
    too_few = len(score_S) < 2 * FEWEST_ROWS
    if too_few or len(np.unique(score_S)) < _NEIGHBOURS:
        return 0.0  # verdicts and coarse scales: their sides were looked at

    # Ranks instead of scores: one far score would hide that all others follow the length.
    order_S = np.argsort(score_S, kind="stable")
    rank_S = np.argsort(order_S, kind="stable").astype(np.float64)
    by_length_S = np.argsort(length_S, kind="stable")
    in_order_S = rank_S[by_length_S]

    # The mean of the neighbours in length, by a window that slides over them.
    window_W = np.ones(2 * _NEIGHBOURS + 1)
    window_W[_NEIGHBOURS] = 0.0  # a response does not foretell itself
    total_S = np.convolve(in_order_S, window_W, mode="same")
    count_S = np.convolve(np.ones_like(in_order_S), window_W, mode="same")
    foretold_S = total_S / count_S

    error = float(np.mean((in_order_S - foretold_S) ** 2))
    variance = max(float(in_order_S.var()), 1e-12)
    return max(0.0, 1.0 - error / variance)


def _words(result: Json) -> str:
    winner = result["winner"]
    share = 1 - result["shorter"] if winner == "longer" else result["shorter"]
    sentences = []
    if winner:
        sentences.append(
            "This benchmark can be won by length: "
            f"{100 * share:.0f} % of right answers are {winner}."
        )
    for arm, entry in result["arms"].items():
        sentences.append(
            f"{arm} only reads lengths (prefers {entry['prefers']}), "
            f"and is right on {100 * entry['accuracy']:.0f} % here."
        )
    return " ".join(sentences)
