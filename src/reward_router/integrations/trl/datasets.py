"""Data sets judged by a router, for TRL's offline trainers: preferences, labels and margins.

Every row gets ``router_decision``, the id its payoff is given to, and ``router_arm``.
"""

from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.integrations.trl.build import Source
from reward_router.integrations.trl.offline import (
    judged_prompts,
    pairs,
    rows_of,
    session_of,
    with_columns,
)
from reward_router.session import Session


def relabel(dataset: Any, source: Source | Session, *, drop_ties: bool = True) -> Any:
    """Preferences (``prompt``, ``chosen``, ``rejected``) as the routed arms see them, for
    DPOTrainer.

    ``chosen`` and ``rejected`` change places where the arm likes ``rejected`` better
    (``router_swapped``). ``margin`` is the gap between both in standard deviations of the arm's
    scores. Ties, and pairs that nobody could judge, are left out; with ``drop_ties=False`` they
    stay as they are, with margin 0. Two calls a pair.
    """
    kept: list[int] = []
    columns: dict[str, list[Any]] = {"chosen": [], "rejected": [], "margin": []}
    columns |= {"router_swapped": [], "router_arm": [], "router_decision": []}
    for n, (scores_N, arm, decision_id) in enumerate(pairs(dataset, session_of(source))):
        gap = float(scores_N[0] - scores_N[1])
        gap = gap if np.isfinite(gap) else 0.0
        if gap == 0.0 and drop_ties:
            continue
        kept.append(n)
        row = dataset[n]
        swapped = gap < 0.0
        columns["chosen"].append(row["rejected"] if swapped else row["chosen"])
        columns["rejected"].append(row["chosen"] if swapped else row["rejected"])
        columns["margin"].append(abs(gap))
        columns["router_swapped"].append(swapped)
        columns["router_arm"].append(arm)
        columns["router_decision"].append(decision_id)
    return with_columns(dataset.select(kept), columns)


def score(dataset: Any, source: Source | Session) -> Any:
    """Preferences with the ``margin`` that RewardTrainer reads, in the order they came in.

    ``margin`` is the routed arm's gap from ``chosen`` to ``rejected`` in standard deviations: below
    0 where the arm disagrees, 0 where it has nothing to say. No row is left out.
    """
    columns: dict[str, list[Any]] = {"margin": [], "router_arm": [], "router_decision": []}
    for scores_N, arm, decision_id in pairs(dataset, session_of(source)):
        gap = float(scores_N[0] - scores_N[1])
        columns["margin"].append(gap if np.isfinite(gap) else 0.0)
        columns["router_arm"].append(arm)
        columns["router_decision"].append(decision_id)
    return with_columns(dataset, columns)


def label(dataset: Any, source: Source | Session, *, threshold: float = 0.0) -> Any:
    """Completions (``prompt``, ``completion``) with the ``label`` that KTOTrainer reads.

    Rows of one prompt are judged by one arm; True where the score is ``threshold`` standard
    deviations above the arm's mean over its whole share of the data. Prompts need two completions
    or more; rows without a score are left out.
    """
    groups: dict[str, list[int]] = {}
    for n, row in enumerate(rows_of(dataset, ("prompt", "completion"))):
        groups.setdefault(repr(row["prompt"]), []).append(n)
    alone = [rows[0] for rows in groups.values() if len(rows) < 2]
    if alone:
        raise InputError(
            f"dataset: row {alone[0]} has the only completion of its prompt ({len(alone)} such "
            "rows); allowed two completions or more for each prompt"
        )
    session = session_of(source)
    members = list(groups.values())
    prompts = [dataset[rows[0]]["prompt"] for rows in members]
    responses = [[dataset[n]["completion"] for n in rows] for rows in members]
    # All groups are judged before the first label: an arm's mean is that of its whole share.
    verdicts = list(judged_prompts(session, prompts, responses))
    labels: dict[int, tuple[bool, str, str]] = {}
    for numbers, (scores_N, arm, decision_id) in zip(members, verdicts, strict=True):
        for n, value in zip(numbers, scores_N, strict=True):
            if np.isfinite(value):
                labels[n] = (bool(value > threshold), arm, decision_id)
    # In the order of the data set, and not of the groups.
    kept = sorted(labels)
    names = ("label", "router_arm", "router_decision")
    columns = {name: [labels[n][i] for n in kept] for i, name in enumerate(names)}
    return with_columns(dataset.select(kept), columns)
