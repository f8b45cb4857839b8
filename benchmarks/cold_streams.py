"""Cold streams for rules without contexts: recorded files in seeded orders, and made-up kinds.

All orders go side by side. Rows of one prompt are decided with what was known before it, as in
`replay`. A made-up kind draws its arms' means anew for every order, and every row is a prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reward_router.replay.protocols import visits


@dataclass(frozen=True)
class Streams:
    """Streams of one length, side by side.

    Args:
        name: of the file or the kind.
        mean_SK: what each arm is worth over the whole stream.
        ends_SP: whether a row is the last one of its prompt.
        payoff_at: step -> (S, K) what each arm pays there.
        absent_at: step -> (S, K) arms that have no score there.
    """

    name: str
    mean_SK: np.ndarray
    ends_SP: np.ndarray
    payoff_at: Callable
    absent_at: Callable

    @property
    def rows(self):
        """Length of a stream."""
        return self.ends_SP.shape[1]


def recorded(records, orders, first):
    """A file in the orders ``first``, ``first`` + 1, ... of `replay`."""
    visit_SP = np.array([visits(records, first + s) for s in range(orders)])
    group_SP = records.group_P[visit_SP]
    ends_SP = np.ones(visit_SP.shape, bool)
    ends_SP[:, :-1] = group_SP[:, 1:] != group_SP[:, :-1]
    assert (ends_SP.sum(axis=1) == records.n_groups).all()

    absent_PK = np.isnan(records.margins_PK)
    correct_PK = records.correct_PK
    mean_SK = np.tile(correct_PK.mean(axis=0), (orders, 1))
    return Streams(
        records.name,
        mean_SK,
        ends_SP,
        lambda step: correct_PK[visit_SP[:, step]],
        lambda step: absent_PK[visit_SP[:, step]],
    )


@dataclass(frozen=True)
class Kind:
    """Made-up streams: ``means(draw, orders)`` gives (S, K) arms' means.

    ``graded``: payoffs come from a Beta law of this size about the mean; 0: they are 0 or 1.
    """

    means: Callable
    rows: int = 500
    graded: float = 0.0


def led_by(best, low, high, others):
    """One arm at ``best``, the others between ``low`` and ``high``."""

    def means(draw, orders):
        mean_SK = draw.uniform(low, high, (orders, others + 1))
        mean_SK[:, 0] = best
        return mean_SK

    return means


def many_weak(draw, orders):
    """65 arms: five between .7 and .85, the others between .2 and .6."""
    mean_SK = draw.uniform(0.2, 0.6, (orders, 65))
    mean_SK[:, :5] = draw.uniform(0.7, 0.85, (orders, 5))
    return mean_SK


def between(low, high, arms):
    """Arms anywhere between ``low`` and ``high``."""
    return lambda draw, orders: draw.uniform(low, high, (orders, arms))


KINDS = {
    "one of four stands out": Kind(led_by(0.8, 0.55, 0.65, 3)),
    "65 arms, most weak": Kind(many_weak),
    "ten arms, all close": Kind(between(0.70, 0.74, 10)),
    "best of ten .97": Kind(led_by(0.97, 0.6, 0.95, 9)),
    "best of ten .6": Kind(led_by(0.6, 0.3, 0.55, 9)),
    "ten arms, graded payoffs": Kind(between(0.4, 0.7, 10), graded=8.0),
    "five arms, 4,000 rows": Kind(between(0.5, 0.8, 5), rows=4000),
    "30 arms between .6 and .97": Kind(between(0.6, 0.97, 30)),
    "65 arms, all strong, 1,500 rows": Kind(between(0.8, 0.97, 65), rows=1500),
}


def made_up(name, orders, first):
    """Streams of a kind; the same for every policy."""
    kind = KINDS[name]
    draw = np.random.default_rng([first, list(KINDS).index(name)])
    mean_SK = kind.means(draw, orders)
    shape = (kind.rows, *mean_SK.shape)
    if kind.graded:
        payoff_PSK = draw.beta(kind.graded * mean_SK, kind.graded * (1 - mean_SK), shape)
    else:
        payoff_PSK = (draw.random(shape, np.float32) < mean_SK).astype(np.float32)

    nothing_SK = np.zeros(mean_SK.shape, bool)
    return Streams(
        name,
        mean_SK,
        np.ones((orders, kind.rows), bool),
        lambda step: payoff_PSK[step],
        lambda step: nothing_SK,
    )


def lost(streams, policy, draw, by_row=False):
    """(S, rows) how far below the best arm the arm drawn is, in points.

    By what arms are worth over the whole stream, or ``by_row`` by what they pay on that row.
    """
    mean_SK = streams.mean_SK
    orders, n_arms = mean_SK.shape
    best_S = mean_SK.argmax(axis=1)
    known_SK3 = np.zeros((orders, n_arms, 3))
    paid_SK3 = known_SK3.copy()
    lost_SP = np.empty(streams.ends_SP.shape)
    each = np.arange(orders)
    for step in range(streams.rows):
        absent_SK = streams.absent_at(step)
        score_SK = np.where(absent_SK, -np.inf, policy(known_SK3, step))
        # ties are drawn evenly
        tie_SK = 1e-9 * draw.random(score_SK.shape)
        score_SK = np.where(np.isposinf(score_SK), 1e6, score_SK) + tie_SK
        arm_S = score_SK.argmax(axis=1)
        came_S = ~absent_SK[each, arm_S]
        payoff_SK = streams.payoff_at(step)
        payoff_S = payoff_SK[each, arm_S]
        paid_SK3[each, arm_S] += came_S[:, None] * np.stack(
            [np.ones(orders), payoff_S, payoff_S**2], axis=1
        )
        worth_SK = payoff_SK if by_row else mean_SK
        lost_SP[:, step] = 100 * (worth_SK[each, arm_S] - worth_SK[each, best_S])
        done_S = streams.ends_SP[:, step]
        known_SK3[done_S] = paid_SK3[done_S]
    return lost_SP
