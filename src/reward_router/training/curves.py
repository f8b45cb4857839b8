"""What a step says of the training itself: reward margin, pair accuracy, KL, share finished.

The figures come from numbers that the step's own forward pass made anyway. The model is not run
again for them, and no gradient, random number or weight depends on them. Left out: these figures
where the loss has no reference (``nll``).
"""

from collections.abc import Sequence

import numpy as np


def training_curves(
    moved_P2: Sequence[Sequence[float]], beta: float, finished_N: Sequence[bool]
) -> dict[str, float | None]:
    """Keys of a line of metrics.jsonl; a value is None where the step cannot say.

    Args:
        moved_P2: the log-probability under the policy less that under the reference, of the chosen
            and the rejected response of each pair, before the step, in nats a response.
        beta: the strength of the loss's pull to the reference.
        finished_N: whether each sampled response came to its own end.

    Returns:
        ``margin``: the mean implicit reward of the chosen response less that of the rejected one,
        in nats (Rafailov et al. 2023, eq. 5).
        ``reward_chosen``, ``reward_rejected``: the means of those two rewards themselves, which
        are beta (log pi - log pi_ref).
        ``pair_accuracy``: the share of pairs whose chosen response has the higher implicit reward;
        a tie counts one half.
        ``kl``: the mean of log pi - log pi_ref over the responses of the pairs, in nats a response.
        They were sampled from pi, so this estimates KL(pi || pi_ref) as far as the pairs are like
        all samples; a small estimate may be below zero.
        ``finished``: the share of responses that came to their own end.

    >>> said = training_curves([[1.0, -1.0], [0.0, 1.0]], 0.5, [True, False])
    >>> said["margin"], said["reward_chosen"], said["pair_accuracy"], said["finished"]
    (0.25, 0.25, 0.5, 0.5)
    """
    log_ratio_P2 = np.asarray(moved_P2, dtype=np.float64).reshape(-1, 2)
    # Rows that are not finite belong to a step that was not taken.
    log_ratio_P2 = log_ratio_P2[np.isfinite(log_ratio_P2).all(axis=1)]
    finished = float(np.mean(finished_N)) if len(finished_N) else None
    if not len(log_ratio_P2):
        unknown = ("margin", "reward_chosen", "reward_rejected", "pair_accuracy", "kl")
        return {**dict.fromkeys(unknown), "finished": finished}

    gap_P = log_ratio_P2[:, 0] - log_ratio_P2[:, 1]
    # The partition function of DPO eq. 5 depends on the prompt alone: it cancels in the gap.
    margin = beta * gap_P.mean()
    # The sign is -1, 0 or 1, so a tie becomes one half.
    win_P = (np.sign(gap_P) + 1) / 2
    return {
        "margin": float(margin),
        "reward_chosen": float(beta * log_ratio_P2[:, 0].mean()),
        "reward_rejected": float(beta * log_ratio_P2[:, 1].mean()),
        "pair_accuracy": float(win_P.mean()),
        "kl": float(log_ratio_P2.mean()),
        "finished": finished,
    }
