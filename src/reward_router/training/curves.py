"""What a step says of the training itself, as people watch it: reward margin, pair accuracy, KL to the reference, share finished.

Computed from numbers that the step's own forward pass made anyway: nothing is asked of the model again, and no gradient, no
random number and no weight depends on it. Left out: these figures where the loss has no reference (``nll``).
"""

from collections.abc import Sequence

import numpy as np


def training_curves(
    moved_P2: Sequence[Sequence[float]], beta: float, finished_N: Sequence[bool]
) -> dict[str, float | None]:
    """Keys of a line of metrics.jsonl; None where the step cannot say.

    ``moved_P2``: log-probability under the policy less that under the reference, of the chosen and the rejected response of each
    pair, before the step (nats a response). ``finished_N``: whether each sampled response came to its own end.

    ``margin``: mean of beta times (chosen less rejected), the implicit reward of DPO (Rafailov et al. 2023, eq. 5), nats.
    ``pair_accuracy``: share of pairs whose chosen response has the higher implicit reward; a tie counts one half.
    ``kl``: mean of log pi - log pi_ref over the responses of the pairs, nats a response. They were sampled from pi, so that this
    estimates KL(pi || pi_ref), as far as the pairs are like all samples; a small estimate may be below zero.

    >>> training_curves([[1.0, -1.0], [0.0, 1.0]], 0.5, [True, False])
    {'margin': 0.25, 'pair_accuracy': 0.5, 'kl': 0.25, 'finished': 0.5}
    """
    moved = np.asarray(moved_P2, dtype=np.float64).reshape(-1, 2)
    known = moved[np.isfinite(moved).all(axis=1)]
    gap_P = known[:, 0] - known[:, 1]
    wins_P = (np.sign(gap_P) + 1) / 2
    return {
        "margin": float(beta * gap_P.mean()) if len(gap_P) else None,
        "pair_accuracy": float(wins_P.mean()) if len(gap_P) else None,
        "kl": float(known.mean()) if len(gap_P) else None,
        "finished": float(np.mean(finished_N)) if len(finished_N) else None,
    }
