"""On recorded scores of real judges; skipped where the data folder is not given."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from reward_router.committee import Committee, DawidSkene, LabelPolicy, OnlineCommittee
from reward_router.committee.online import CONFIRMED_UNTIL

pytestmark = pytest.mark.skipif(
    not os.environ.get("REWARD_ROUTER_DATA"),
    reason="needs the recorded scores of REWARD_ROUTER_DATA",
)
VERDICT = {"a": 1.0, "b": -1.0, "tie": 0.0}


def recorded(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = Path(os.environ["REWARD_ROUTER_DATA"]) / "replay" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    arms = sorted(
        {arm for row in rows for arm in {**row.get("scores", {}), **row.get("verdicts", {})}}
    )
    margins = np.full((len(rows), len(arms)), np.nan)
    for p, row in enumerate(rows):
        for k, arm in enumerate(arms):
            if arm in row.get("scores", {}):
                margins[p, k] = row["scores"][arm][0] - row["scores"][arm][1]
            elif arm in row.get("verdicts", {}):
                margins[p, k] = VERDICT[row["verdicts"][arm]]
    group = np.array([row["prompt"] or row["id"].rsplit("-", 1)[0] for row in rows])
    return (
        margins,
        np.array([row["label"] == "a" for row in rows]),
        np.unique(group, return_inverse=True)[1],
    )


def test_the_label_free_start_is_dropped_on_llmbar():
    margins, label, _ = recorded("llmbar")
    margins = margins[:, : margins.shape[1] * 3 // 4]
    wrong = np.random.default_rng(0)
    model = DawidSkene(margins.shape[1]).fit(margins)
    assert np.abs(model.posterior(margins) - 0.5).mean() > 0.4
    dropped = 0
    for _ in range(20):
        rows = wrong.choice(len(label), 40, replace=False)
        dropped += model.fit(margins).audit(margins[rows], label[rows]) == "dropped"
    assert dropped >= 18


def test_an_online_committee_drops_it_on_llmbar():
    margins, label, _ = recorded("llmbar_casestudy")
    online = OnlineCommittee(
        Committee(np.ones(margins.shape[1]), gate="off"),
        LabelPolicy(share=0.4),
        start="dawid_skene",
    )
    for step, (m, y) in enumerate(zip(margins, label, strict=True)):
        if online.wants_unlabelled():
            online.add_unlabelled(m)
        if online.policy.draws(str(step), step):
            online.add_label(m, bool(y), str(step), step)
        if online.store.n_random >= CONFIRMED_UNTIL:
            break  # no audit comes later: the guess is out of use by now
    assert online.guess.status == "dropped"


def test_real_judges_gain_from_a_second_opinion():
    margins, label, group = recorded("triviaqa_judges")
    train = group % 2 == 0
    committee = Committee(np.ones(margins.shape[1])).fit(margins[train], label[train], group[train])
    prob, calls, _ = committee.judge(margins[~train])
    single = (
        0.5 + 0.5 * np.sign(margins[~train][:, committee.single]) * np.where(label[~train], 1, -1)
    ).mean()
    assert committee.playing
    assert ((prob > 0.5) == label[~train]).mean() > single + 0.06
    assert calls.mean() < 2.5


def test_labels_of_one_source_do_not_free_negative_weights():
    margins, label, group = recorded("rewardbench_math_prm")
    committee = Committee(np.ones(margins.shape[1]), gate="off").fit(
        margins, label, group, sources=["one"] * len(label)
    )
    assert committee.free is None
