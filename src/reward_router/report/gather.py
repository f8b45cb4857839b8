"""What a run directory says, read once: configuration, summary, log and ledger, and the figures the report draws from them."""

import json
import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reward_router import config as configuration
from reward_router.errors import InputError
from reward_router.ledger import Ledger
from reward_router.ledger.columns import Calls, Decisions, Labels
from reward_router.ledger.rows import Failed
from reward_router.rundir import RunDir
from reward_router.strict_json import finite
from reward_router.types import By, Float, Int

Json = dict[str, Any]
JUDGED = ("ok", "audit", "fallback", "compared", "shared", "label")
NAN = float("nan")


@dataclass(frozen=True)
class Evidence:
    """A run as its directory tells it. ``records``: the lines of metrics.jsonl; ``failures``: (arm, reason); ``samples``: its
    held-out responses.

    Numbers that are not finite are None in ``summary`` and ``records``.
    """

    folder: Path
    config_text: str
    config: Json
    summary: Json
    records: list[Json]
    decisions: Decisions
    calls: Calls
    labels: Labels
    failures: list[tuple[str, str]]
    samples: list[Json] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether the run had not ended when this was written: its figures are those of its last checkpoint."""
        return bool(self.summary.get("running"))

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the order that gives their colours."""
        return list(self.summary["arms"])

    @property
    def ensemble(self) -> bool:
        """Whether all arms judged everything, so that nothing was routed."""
        return bool((self.config.get("router") or {}).get("mode") == "ensemble")

    @property
    def routed(self) -> bool:
        """Whether a router named arms, and not the committee or the ensemble."""
        return all(by is By.ROUTER for by in self.decisions.by)


def read(folder: Path) -> Evidence:
    """The evidence in ``folder``, of a run that ended or of one at its last checkpoint. InputError where it holds neither, LedgerError where its ledger cannot be read."""
    run = RunDir(folder)
    _check(run)
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    with Ledger(run.ledger, readonly=True) as ledger:
        decisions = ledger.decisions(contexts=False)
        calls = ledger.calls()
        labels = ledger.labels()
        failures = [
            (calls.arms[arm], reason) for _, arm, reason in ledger.fields(Failed, ("arm", "reason"))
        ]
    config = configuration.parse_yaml(text, str(folder / "config.yaml"))
    records = [
        r for r in finite(run.read_log()) if isinstance(r, dict) and isinstance(r.get("step"), int)
    ]
    summary = _summary(run.summary if run.summary.is_file() else run.progress)
    samples = [
        r
        for r in finite(run.read_samples())
        if isinstance(r, dict) and {"when", "id", "response"} <= r.keys()
    ]
    return Evidence(
        folder, text, config or {}, summary, records, decisions, calls, labels, failures, samples
    )


def _check(run: RunDir) -> None:
    if not (run.path / "config.yaml").is_file():
        raise InputError(
            f"{run.path}: no run here (no config.yaml); give the directory a run was written to with --out"
        )
    if not run.summary.is_file() and not run.progress.is_file():
        raise InputError(
            f"{run.path}: this run is unfinished (no summary.json) and has no checkpoint to tell of; go on with it by "
            f"`reward-router train {run.path / 'config.yaml'} --out {run.path} --resume`"
        )
    if not run.ledger.is_file():
        raise InputError(f"{run.path}: its ledger.sqlite is missing; the report is drawn from it")


def _summary(path: Path) -> Json:
    try:
        found = finite(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); a finished run's summary is") from None
    if not isinstance(found, dict) or not isinstance(found.get("arms"), dict):
        raise InputError(f"{path}: not a run's summary (no 'arms'); a finished training run's is")
    return found


def thin(items: Sequence[Any], limit: int = 400) -> list[Any]:
    """At most ``limit`` of the items, evenly spread, first and last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def trailing(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the ``window - 1`` before it.

    >>> trailing([0.0, 1.0, 1.0], 2)
    [0.0, 0.5, 1.0]
    """
    kept: deque[float] = deque(maxlen=window)
    means = []
    for value in values:
        kept.append(value)
        means.append(math.fsum(kept) / len(kept))
    return means


def rolling_shares(
    rows: Sequence[Mapping[str, float]], arms: Sequence[str], window: int
) -> dict[str, list[float]]:
    """Per arm its share of the last ``window`` rows, a row being a weight per arm; where these are all 0, nobody's."""
    sums = {
        arm: [m * 1.0 for m in trailing([float(row.get(arm) or 0.0) for row in rows], window)]
        for arm in arms
    }
    totals = [math.fsum(column) for column in zip(*sums.values(), strict=True)]
    return {
        arm: [v / t if t > 0 else 0.0 for v, t in zip(values, totals, strict=True)]
        for arm, values in sums.items()
    }


def places(decisions: Decisions) -> list[float]:
    """Where each decision stands on an axis of steps that counts from 1: those of one step are spread around it."""
    count: defaultdict[int, int] = defaultdict(int)
    order = []
    for step in decisions.step.tolist():
        order.append(count[step])
        count[step] += 1
    return [
        step + 0.6 + 0.8 * (i + 0.5) / count[step]
        for step, i in zip(decisions.step.tolist(), order, strict=True)
    ]


def gold_orders(evidence: Evidence) -> Float:
    """(B,) per decision: the share of its (right, wrong) response pairs that its arm put in the right order; NaN unknown."""
    labels = evidence.labels
    found = {(u, int(s)): v for u, s, v in zip(labels.unit, labels.step, labels.value, strict=True)}
    pairs = zip(evidence.decisions.unit, evidence.decisions.step, strict=True)
    return np.array([found.get((unit, int(step)), NAN) for unit, step in pairs], dtype=np.float64)


@dataclass(frozen=True)
class Agreement:
    """How arms order the response pairs that several of them scored.

    ``alike_KK``: share of the pairs both order that they order the same way (NaN: none); ``pairs_KK``: how many these are;
    ``ordered_K``: share of the pairs an arm scored that it does not tie; ``responses``: how many were scored by two or more.
    """

    alike_KK: Float
    pairs_KK: Int
    ordered_K: Float
    responses: int


def agreement(calls: Calls) -> Agreement:
    """Agreement within prompts over the responses that two or more arms scored (audits, ensembles). O(responses * N * K^2).

    Counting every pair in both orders, the share ordered alike equals the F1 of «the first is better» between two arms.
    """
    k = len(calls.arms)
    both_KK = np.zeros((k, k))
    dot_KK = np.zeros((k, k))
    seen_K = np.zeros(k)
    ordered_K = np.zeros(k)
    responses = 0
    for scores_KN in _shared(calls):
        i, j = np.triu_indices(scores_KN.shape[1], 1)
        sign_KP = np.sign(scores_KN[:, i] - scores_KN[:, j])
        known_KP = np.isfinite(sign_KP)
        s_KP = np.where(known_KP, sign_KP, 0.0)
        both_KK += np.abs(s_KP) @ np.abs(s_KP).T
        dot_KK += s_KP @ s_KP.T
        seen_K += known_KP.sum(axis=1)
        ordered_K += np.abs(s_KP).sum(axis=1)
        responses += int((np.isfinite(scores_KN).sum(axis=0) > 1).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        alike_KK = np.where(both_KK > 0, (both_KK + dot_KK) / (2 * both_KK), np.nan)
        share_K = np.where(seen_K > 0, ordered_K / seen_K, np.nan)
    return Agreement(alike_KK, both_KK.astype(np.int64), share_K, responses)


def _shared(calls: Calls) -> list[Float]:
    """(K, N) scores per prompt of a decision that two or more arms scored; NaN where an arm did not."""
    groups: defaultdict[tuple[int, str], dict[tuple[int, str], float]] = defaultdict(dict)
    for i in _several(calls):
        if calls.status[i] in JUDGED and np.isfinite(calls.score[i]):
            prompt = int(calls.decision[i]), calls.response[i].rpartition("/")[0]
            groups[prompt][int(calls.arm[i]), calls.response[i]] = float(calls.score[i])
    out = []
    for cells in groups.values():
        names = sorted({response for _, response in cells})
        if len({arm for arm, _ in cells}) > 1:
            scores_KN = np.full((len(calls.arms), len(names)), np.nan)
            for (arm, response), score in cells.items():
                scores_KN[arm, names.index(response)] = score
            out.append(scores_KN)
    return out


def _several(calls: Calls) -> list[int]:
    """Indices of the calls whose decision has calls of two or more arms."""
    asked = np.unique(np.stack([calls.decision, calls.arm]), axis=1)[0]
    decision, arms = np.unique(asked, return_counts=True)
    return np.flatnonzero(np.isin(calls.decision, decision[arms > 1])).tolist()
