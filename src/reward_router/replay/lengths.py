"""Can this file be won by counting characters, and which arms do nothing else?

An arm that only reads lengths is a judge of how a benchmark was built: it wins where the right answers happen to be shorter (or
longer) and loses elsewhere. Lengths are characters; an arm that counts words or tokens is recognised as well.
"""

from typing import Any

import numpy as np

from reward_router.replay.intervals import bootstrap, interval
from reward_router.replay.records import Records
from reward_router.types import Float

Json = dict[str, Any]

BIASED = 0.55  # lower bound of the share of right answers on one side of length, above which the file can be won by length
READS_LENGTHS = 0.95  # share of an arm's verdicts, or of its scores' variance, that length explains
FEWEST_ROWS = 30
_NEIGHBOURS = 9


def lengths(records: Records) -> Json | None:
    """{rows, shorter, ci95, winner, text, arms: {arm: {prefers, agrees, explained, accuracy}}}; None where responses are not recorded.

    ``shorter``: share of right answers that are shorter, of the rows whose lengths differ. ``winner``: "shorter" or "longer" where that
    side is right more often than BIASED with 95 % confidence. ``arms``: those that only read lengths. O(P K log P).
    """
    if records.length_P2 is None:
        return None
    gap_P = records.length_P2[:, 0] - records.length_P2[:, 1]
    known_P = np.isfinite(gap_P) & (gap_P != 0)
    if known_P.sum() < FEWEST_ROWS:
        return None
    shorter_P = 0.5 - 0.5 * np.sign(np.nan_to_num(gap_P)) * records.label_P
    boot = bootstrap(records.group_P)
    share = float(shorter_P[known_P].mean())
    low, high = interval(boot.replicate([shorter_P], known_P.astype(np.float64)))
    winner = "shorter" if low > BIASED else "longer" if high < 1 - BIASED else None
    found: Json = {
        "rows": int(known_P.sum()),
        "shorter": share,
        "ci95": (low, high),
        "winner": winner,
        "arms": _readers(records, gap_P, known_P),
    }
    found["text"] = _words(found)
    return found


def _readers(records: Records, gap_P: Float, known_P: Float) -> Json:
    """Arms whose verdicts or scores follow from lengths alone."""
    found = {}
    for k, arm in enumerate(records.arms):
        agrees = _agreement_with_shorter(records.margins_PK[:, k], gap_P, known_P)
        explained = _explained(records, k)
        follows = max(agrees, 1 - agrees)
        if max(follows, explained) < READS_LENGTHS:
            continue
        prefers = "shorter" if agrees > 0.5 else "longer"
        found[arm] = {
            "prefers": prefers if follows >= READS_LENGTHS else "some lengths",
            "agrees": follows,
            "explained": explained,
            "accuracy": float(records.correct_PK[:, k].mean()),
        }
    return found


def _agreement_with_shorter(margin_P: Float, gap_P: Float, known_P: Float) -> float:
    """Share of an arm's verdicts that name the shorter response; 1/2 where it gives too few."""
    said_P = known_P & (np.nan_to_num(margin_P) != 0)
    if said_P.sum() < FEWEST_ROWS:
        return 0.5
    return float((np.sign(margin_P[said_P]) == -np.sign(gap_P[said_P])).mean())


def _explained(records: Records, k: int) -> float:
    """Share of the variance of an arm's scores that the scores of responses of nearly the same length foretell."""
    assert records.length_P2 is not None
    length_Q = records.length_P2.T.ravel()
    score_Q = np.concatenate([records.first_PK[:, k], records.second_PK[:, k]])
    known_Q = np.isfinite(length_Q) & np.isfinite(score_Q)
    if known_Q.sum() < 2 * FEWEST_ROWS or len(np.unique(score_Q[known_Q])) < _NEIGHBOURS:
        return 0.0  # verdicts and coarse scales: their sides were looked at
    rank_Q = np.argsort(np.argsort(score_Q[known_Q], kind="stable"), kind="stable").astype(
        np.float64
    )
    in_order_Q = rank_Q[np.argsort(length_Q[known_Q], kind="stable")]
    window_W = np.ones(2 * _NEIGHBOURS + 1)
    window_W[_NEIGHBOURS] = 0.0  # a response does not foretell itself
    total_Q = np.convolve(in_order_Q, window_W, mode="same")
    count_Q = np.convolve(np.ones_like(in_order_Q), window_W, mode="same")
    error = float(np.mean((in_order_Q - total_Q / count_Q) ** 2))
    return max(0.0, 1.0 - error / max(float(in_order_Q.var()), 1e-12))


def _words(found: Json) -> str:
    share = found["shorter"] if found["winner"] != "longer" else 1 - found["shorter"]
    parts = []
    if found["winner"]:
        parts.append(
            f"This benchmark can be won by length: {100 * share:.0f} % of right answers are {found['winner']}."
        )
    for arm, entry in found["arms"].items():
        parts.append(
            f"{arm} only reads lengths (prefers {entry['prefers']}), and is right on {100 * entry['accuracy']:.0f} % here."
        )
    return " ".join(parts)
