"""Which of a prompt's pairs are trained on: drawn, or those of the widest score gaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reward_router.pairs import form_pairs

SCORES = st.lists(st.floats(-5, 5), min_size=2, max_size=7)


@given(SCORES, st.integers(1, 6), st.data())
def test_no_pair_left_out_has_a_wider_gap(
    scores: list[float], most: int, data: st.DataObject
) -> None:
    texts = [f"response {n}" for n in range(len(scores))]
    finished = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    )
    score_N, rng = np.array(scores), np.random.default_rng(0)

    every = form_pairs(score_N, texts, 100, rng, finished_N=finished)
    widest = form_pairs(score_N, texts, most, rng, finished_N=finished, pick="widest")

    def gap(pair: tuple[int, int]) -> tuple[bool, float]:
        winner, loser = pair
        cut = bool(finished[winner] and not finished[loser])
        return cut, score_N[winner] if cut else score_N[winner] - score_N[loser]

    assert len(widest) == min(most, len(every))
    assert set(widest) <= set(every)
    left_out = [gap(pair) for pair in every if pair not in widest]
    assert not left_out or max(left_out) <= min(map(gap, widest))


def test_the_widest_pair_is_top_against_bottom() -> None:
    pairs = form_pairs(
        np.array([0.0, 3.0, 1.0, 2.0]), list("abcd"), 2, np.random.default_rng(0), pick="widest"
    )
    assert pairs == [(1, 0), (1, 2)] or pairs == [(1, 0), (3, 0)]
