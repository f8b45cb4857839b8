"""What a run directory says, read once.

Configuration, summary, log and ledger, and the figures that the report draws from them.
"""

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
    """A run as its directory tells it.

    Numbers that are not finite are None in ``summary`` and ``records``.

    Args:
        folder: the run's directory.
        config_text: config.yaml as it is.
        config: what it says.
        summary: summary.json.
        records: the lines of metrics.jsonl.
        decisions: of the ledger.
        calls: of the ledger.
        labels: of the ledger.
        failures: (arm, reason).
        samples: its held-out responses.
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
        """Whether the run had not ended when this was written.

        Its figures are then those of its last checkpoint.
        """
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


def read_evidence(folder: Path) -> Evidence:
    """The evidence in ``folder``, of a run that ended or of one at its last checkpoint.

    InputError where it holds neither, LedgerError where its ledger cannot be read.
    """
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
    records = [r for r in finite(run.read_log()) if _is_record(r)]
    samples = [r for r in finite(run.read_samples()) if _is_sample(r)]
    return Evidence(
        folder=folder,
        config_text=text,
        config=config or {},
        summary=_summary(run.summary if run.summary.is_file() else run.progress),
        records=records,
        decisions=decisions,
        calls=calls,
        labels=labels,
        failures=failures,
        samples=samples,
    )


def _is_record(line: Any) -> bool:
    """Whether a line of the log can be drawn; a line that was cut off cannot."""
    return isinstance(line, dict) and isinstance(line.get("step"), int)


def _is_sample(line: Any) -> bool:
    return isinstance(line, dict) and {"when", "id", "response"} <= line.keys()


def _check(run: RunDir) -> None:
    if not (run.path / "config.yaml").is_file():
        raise InputError(
            f"{run.path}: no run here (no config.yaml); "
            "give the directory a run was written to with --out"
        )
    if not run.summary.is_file() and not run.progress.is_file():
        raise InputError(
            f"{run.path}: this run is unfinished (no summary.json) and has no checkpoint to tell "
            f"of; go on with it by `reward-router train {run.path / 'config.yaml'} "
            f"--out {run.path} --resume`"
        )
    if not run.ledger.is_file():
        raise InputError(f"{run.path}: its ledger.sqlite is missing; the report is drawn from it")


def _summary(path: Path) -> Json:
    try:
        summary = finite(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); a finished run's summary is") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("arms"), dict):
        raise InputError(f"{path}: not a run's summary (no 'arms'); a finished training run's is")
    return summary


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
    """Of each arm its share of the last ``window`` rows.

    A row is a weight for each arm; where these are all 0, nobody has a share.
    """
    sums = {}
    for arm in arms:
        weights = [float(row.get(arm) or 0.0) for row in rows]
        sums[arm] = trailing(weights, window)
    totals = [math.fsum(column) for column in zip(*sums.values(), strict=True)]
    shares = {}
    for arm, values in sums.items():
        pairs = zip(values, totals, strict=True)
        shares[arm] = [value / total if total > 0 else 0.0 for value, total in pairs]
    return shares


def steps_of_decisions(decisions: Decisions) -> list[float]:
    """Where each decision stands on an axis of steps that counts from 1.

    Those of one step are spread around it.
    """
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
    """(B,) the share of a decision's (right, wrong) response pairs that its arm ordered rightly.

    NaN where it is not known.
    """
    labels = evidence.labels
    orders = {}
    for unit, step, value in zip(labels.unit, labels.step, labels.value, strict=True):
        orders[unit, int(step)] = value

    # A unit's id comes again in other steps, so both name the decision.
    decisions = evidence.decisions
    decided = zip(decisions.unit, decisions.step, strict=True)
    shares = [orders.get((unit, int(step)), NAN) for unit, step in decided]
    return np.array(shares, np.float64)


@dataclass(frozen=True)
class Agreement:
    """How arms order the response pairs that several of them scored.

    Args:
        alike_KK: share of the pairs both order that they order the same way; NaN: none.
        pairs_KK: how many these are.
        ordered_K: share of the pairs an arm scored that it does not tie.
        responses: how many were scored by two or more.
    """

    alike_KK: Float
    pairs_KK: Int
    ordered_K: Float
    responses: int


def agreement_within_prompts(calls: Calls) -> Agreement:
    """Agreement within prompts over the responses that two or more arms scored.

    Those are audits and ensembles. Counting every pair in both orders, the share ordered alike
    equals the F1 of «the first is better» between two arms. O(responses * N * K^2).
    """
    n_arms = len(calls.arms)
    both_KK = np.zeros((n_arms, n_arms))
    dot_KK = np.zeros((n_arms, n_arms))
    seen_K = np.zeros(n_arms)
    ordered_K = np.zeros(n_arms)
    responses = 0
    for scores_KN in _shared(calls):
        # Every pair of the prompt's responses once: 1, -1, or 0 for a tie or without a score.
        i, j = np.triu_indices(scores_KN.shape[1], 1)
        sign_KP = np.sign(scores_KN[:, i] - scores_KN[:, j])
        scored_KP = np.isfinite(sign_KP)
        order_KP = np.where(scored_KP, sign_KP, 0.0)
        ordered_KP = np.abs(order_KP)

        both_KK += ordered_KP @ ordered_KP.T
        dot_KK += order_KP @ order_KP.T
        seen_K += scored_KP.sum(axis=1)
        ordered_K += ordered_KP.sum(axis=1)
        arms_N = np.isfinite(scores_KN).sum(axis=0)
        responses += int((arms_N > 1).sum())

    # The dot product counts pairs alike less pairs contrary, of all that both order.
    with np.errstate(invalid="ignore", divide="ignore"):
        alike_KK = np.where(both_KK > 0, (both_KK + dot_KK) / (2 * both_KK), np.nan)
        share_K = np.where(seen_K > 0, ordered_K / seen_K, np.nan)
    return Agreement(alike_KK, both_KK.astype(np.int64), share_K, responses)


def _shared(calls: Calls) -> list[Float]:
    """(K, N) scores of each prompt of a decision that two or more arms scored.

    NaN where an arm did not.
    """
    groups: defaultdict[tuple[int, str], dict[tuple[int, str], float]] = defaultdict(dict)
    for i in _several(calls):
        score = float(calls.score[i])
        if calls.status[i] in JUDGED and math.isfinite(score):
            response = calls.response[i]
            # A response's id is its prompt's with a number behind the last slash.
            prompt, _, _ = response.rpartition("/")
            cells = groups[int(calls.decision[i]), prompt]
            cells[int(calls.arm[i]), response] = score

    tables = []
    for cells in groups.values():
        arms = {arm for arm, _ in cells}
        if len(arms) < 2:
            continue
        names = sorted({response for _, response in cells})
        scores_KN = np.full((len(calls.arms), len(names)), np.nan)
        for (arm, response), score in cells.items():
            scores_KN[arm, names.index(response)] = score
        tables.append(scores_KN)
    return tables


def _several(calls: Calls) -> list[int]:
    """Indices of the calls whose decision has calls of two or more arms."""
    decision_arms = np.unique(np.stack([calls.decision, calls.arm]), axis=1)[0]
    decision, n_arms = np.unique(decision_arms, return_counts=True)
    return np.flatnonzero(np.isin(calls.decision, decision[n_arms > 1])).tolist()
