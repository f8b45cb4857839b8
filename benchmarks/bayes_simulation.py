"""BayesianRouter's controlled simulation.

Recorded labels as the online stream, each stage left out in turn.

    python benchmarks/bayes_simulation.py FILE [--scenario in|out|drift|stale]...
        [--train-source NAME,...] [--features auto|prompt|pair] [--drop-arms GLOB]
        [--shuffles 20] [--trust W]... [--payoff correct]
                                          [--json OUT]

in     half of the prompts (by the shuffle's own key) for the offline stage, the other half is the
stream out    the rows of --train-source for the offline stage, the rows of all other sources are
the stream drift  as ``in``; the stream's categories are split in two halves of about equal size,
one after the other stale  as ``in``; the arms of the prior are permuted: the best one's strengths
and intercept go to the worst, and so on

A row's accuracy is the mean over the router's own probabilities, ties and abstentions 1/2. Regret
is in rows, against the arm that is best over the stream in hindsight. Intervals: 95 % by bootstrap
over shuffles, so they say what order and split do, on this file.
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.keyed import rng
from reward_router.replay import baselines, bayesian
from reward_router.replay.columns import collect
from reward_router.replay.embed import build
from reward_router.replay.feedback import parse_feedback
from reward_router.replay.offline_stage import Fitted, no_prior, offline_stage, with_prior
from reward_router.replay.protocols import Split
from reward_router.replay.records import Records
from reward_router.replay.weighted import WeightedScore, best_of_scores
from reward_router.routers import LinearThompson, LinUCB
from reward_router.routers.trusted import NO_PRIOR
from reward_router.types import Float, Int, Router

POINTS, SPLITS = 40, 4  # points of a curve; how many splits the shuffles take turns with
Json = dict[str, Any]


def read(path: str, with_responses: bool) -> tuple[Records, list[str]]:
    """The records and each row's source."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
        rows = [
            row for row in map(json.loads, lines) if row.get("response_a") or not with_responses
        ]
    records = collect(Path(path).name, ((f"row {i}", row) for i, row in enumerate(rows)))
    if records.n_broken:
        raise SystemExit(f"{path}: {records.n_broken} broken rows, first: {records.problems[0]}")
    return records, [str(row.get("source")) for row in rows]


def halves(records: Records, key: int) -> tuple[Int, Int]:
    """Training rows and stream rows: half of the prompts each."""
    first_G = np.zeros(records.n_groups, dtype=bool)
    first_G[
        rng(key, "data", 0, "simulation").permutation(records.n_groups)[: records.n_groups // 2]
    ] = True
    return np.flatnonzero(first_G[records.group_P]), np.flatnonzero(~first_G[records.group_P])


def ordered(split: Split, shuffle: int, drift: bool) -> list[Int]:
    """The stream's prompts in the shuffle's order.

    With ``drift`` one half of the categories comes first.
    """
    groups = bayesian.judged_groups(split)
    groups = [groups[g] for g in rng(shuffle, "order", 3, "simulation").permutation(len(groups))]
    if not drift:
        return groups
    category_P = split.records.category_P
    kinds = rng(shuffle, "order", 4, "categories").permutation(len(split.records.categories))
    rows = np.bincount(category_P[split.test_P], minlength=len(kinds))
    early = set(kinds[np.cumsum(rows[kinds]) <= rows.sum() / 2].tolist())
    return sorted(groups, key=lambda g: int(category_P[g[0]]) not in early)


def permuted(fitted: Fitted, right_K: Float) -> Fitted:
    """A stale prior: the arm of rank r is taken for the arm of rank K - 1 - r."""
    rank = right_K.argsort()
    other = np.empty_like(rank)
    other[rank] = rank[::-1]
    return replace(
        fitted,
        score_PK=fitted.score_PK[:, other],
        strength_KD=fitted.strength_KD[other],
        offset_K=fitted.offset_K[other],
    )


def routers(
    fitted: Fitted, weights: Sequence[float]
) -> dict[str, tuple[Callable[[], Router], int]]:
    """Everything that learns on the stream, and how many prompts share a decision.

    ``weights``: trusts beside the default.
    """
    n_arms, dim = fitted.strength_KD.shape
    return {
        "ours": (lambda: with_prior(fitted), 0),
        **{f"ours, trust={w:g}": (partial(with_prior, fitted, w), 0) for w in weights},
        "w/o offline": (lambda: no_prior(fitted), 0),
        "no strengths, calibrated lambda0": (partial(flat, fitted), 0),
        "weighted_score a=0.5": (
            lambda: WeightedScore(no_prior(fitted), fitted.strength_KD, 0.5),
            0,
        ),
        "LASER (LinUCB per 16 prompts)": (lambda: LinUCB(n_arms, dim), 16),
    }


def flat(fitted: Fitted) -> LinearThompson:
    """A zero prior as tight as the calibrated one, with wide intercepts.

    It shows what of a prior's worth is not in its strengths.
    """
    told = NO_PRIOR | {"prior_precision": fitted.precision, "noise_sd": fitted.noise_sd}
    return LinearThompson(*fitted.strength_KD.shape, **told)


def one_shuffle(
    split: Split, shuffle: int, scenario: str, weights: Sequence[float]
) -> dict[str, tuple[Float, Float]]:
    """(T,) accuracies in the order of the stream, by method.

    Beside them stand the (T,) flags of the rows that have an arm that is right.
    """
    fitted, without_cls = (offline_stage(split, 64, weight, False) for weight in (0.2, 0.0))
    right_PK = split.records.correct_PK
    if scenario == "stale":
        fitted, without_cls = (
            permuted(f, right_PK[split.train_P].mean(axis=0)) for f in (fitted, without_cls)
        )
    blocks = ordered(split, shuffle, scenario == "drift")
    visit_V = np.searchsorted(split.test_P, np.concatenate(blocks))
    runs = routers(fitted, weights) | {"ours w/o CLS": (lambda: with_prior(without_cls), 0)}
    found = {
        name: (
            bayesian.one_pass(
                split,
                fitted.h_PD if name != "ours w/o CLS" else without_cls.h_PD,
                make(),
                blocks,
                shuffle,
                batch,
            )
        )
        for name, (make, batch) in runs.items()
    }
    found["w/o online"] = best_of_scores(fitted.score_PK[split.test_P])
    found["w/o online, w/o CLS"] = best_of_scores(without_cls.score_PK[split.test_P])
    truth_TK = right_PK[split.test_P]
    accuracy = {name: np.einsum("tk,tk->t", p_TK, truth_TK) for name, p_TK in found.items()}
    accuracy |= {"majority": baselines.majority(split)[0], "random": truth_TK.mean(axis=1)}
    accuracy["best arm of the offline rows"] = baselines.best_train(split)[0]
    accuracy |= {f"arm {arm}": truth_TK[:, k] for k, arm in enumerate(split.records.arms)}
    return {name: (a[visit_V], truth_TK.max(axis=1)[visit_V] > 0.5) for name, a in accuracy.items()}


def splits(
    records: Records, source_P: list[str], args: argparse.Namespace, out: bool
) -> list[Split]:
    """The splits that shuffles take turns with; strengths are learned once for each."""
    features = (
        args.features if args.features != "auto" else ("pair" if records.responses else "prompt")
    )
    contexts = build(records, features)
    keys = [0] if out else range(min(SPLITS, args.shuffles))
    rows = [
        by_source(records, source_P, args.train_source) if out else halves(records, key)
        for key in keys
    ]
    return [
        Split(records, contexts, *r, parse_feedback(args.payoff), key, carried=out)
        for key, r in zip(keys, rows, strict=True)
    ]


def by_source(records: Records, source_P: list[str], names: str) -> tuple[Int, Int]:
    """Rows of the named sources for training, all others as the stream."""
    train_P = np.isin(source_P, names.split(","))
    shared_P = np.isin(
        records.group_P, np.unique(records.group_P[train_P])
    )  # a prompt of both is never in the stream
    return np.flatnonzero(train_P), np.flatnonzero(~shared_P)


def simulate(kept: list[Split], n_shuffles: int, scenario: str, weights: Sequence[float]) -> Json:
    """All shuffles of one scenario -> accuracies, regrets, ratios to no prior, curves."""
    shuffles = [
        one_shuffle(kept[shuffle % len(kept)], shuffle, scenario, weights)
        for shuffle in range(n_shuffles)
    ]
    rows = {"stream_rows": len(kept[0].test_P), "offline_rows": len(kept[0].train_P)}
    return (
        summary(shuffles, kept[0].records.arms) | rows | {"features": list(kept[0].contexts.blocks)}
    )


def summary(shuffles: list[dict[str, tuple[Float, Float]]], arms: tuple[str, ...]) -> Json:
    names = list(shuffles[0])
    best = [
        max((s[f"arm {arm}"][0] for arm in arms), key=lambda a: float(a.mean())) for s in shuffles
    ]
    value: dict[str, Json] = {}
    plain = np.array([(b - s["w/o offline"][0]).sum() for b, s in zip(best, shuffles, strict=True)])
    for name in names:
        regret_S = np.array([(b - s[name][0]).sum() for b, s in zip(best, shuffles, strict=True)])
        curves = np.stack([_curve(b - s[name][0]) for b, s in zip(best, shuffles, strict=True)])
        value[name] = {
            "accuracy": _interval([float(s[name][0].mean()) for s in shuffles]),
            "accuracy_some_right": _interval(
                [float(s[name][0][s[name][1]].mean()) for s in shuffles]
            ),
            "regret": _interval(regret_S),
            "regret_less_than_no_prior": _interval(plain - regret_S),
            "regret_ratio": _interval(regret_S, plain),
            "curve": curves.mean(axis=0).round(3).tolist(),
            "curve_ci95": np.quantile(_means(curves), [0.025, 0.975], axis=0).round(3).tolist(),
        }
    return {"methods": value, "shuffles": len(shuffles)}


def _curve(gap_V: Float) -> Float:
    ends = np.linspace(0, len(gap_V), POINTS + 1).round().astype(int)[1:]
    return np.cumsum(gap_V)[ends - 1]


def _means(value_S: Float) -> Float:
    drawn = rng(0, "bootstrap", 5, "simulation").integers(len(value_S), size=(2000, len(value_S)))
    return value_S[drawn].mean(axis=1)


def _interval(value_S: Any, over_S: Float | None = None) -> list[float]:
    """[mean, low, high]; with ``over_S`` the ratio of the means."""
    value_S = np.asarray(value_S, dtype=np.float64)
    point, means = float(value_S.mean()), _means(value_S)
    if over_S is not None:
        point, means = point / float(over_S.mean()), means / _means(over_S)
    return [point, *map(float, np.quantile(means, [0.025, 0.975]))]


def show(scenario: str, result: Json) -> None:
    print(
        f"\n{scenario}: {result['stream_rows']} rows a stream, {result['shuffles']} shuffles, "
        f"features {result['features']}\n"
    )
    print(
        "| method | accuracy | where some arm is right | regret, rows | regret / w/o offline |\n"
        "|---|---|---|---|---|"
    )
    for name, m in sorted(result["methods"].items(), key=lambda item: -item[1]["accuracy"][0]):
        cells = [_percent(m["accuracy"]), _percent(m["accuracy_some_right"])]
        cells += [f"{m['regret'][0]:.1f} [{m['regret'][1]:.1f}, {m['regret'][2]:.1f}]"]
        cells += [
            f"{m['regret_ratio'][0]:.2f} [{m['regret_ratio'][1]:.2f}, {m['regret_ratio'][2]:.2f}]"
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _percent(v: list[float]) -> str:
    return f"{100 * v[0]:.1f} [{100 * v[1]:.1f}, {100 * v[2]:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--scenario", action="append", choices=("in", "out", "drift", "stale"))
    parser.add_argument("--train-source", default="")
    parser.add_argument(
        "--features", default="auto", choices=("auto", "prompt", "pair", "category")
    )
    parser.add_argument("--drop-arms")
    parser.add_argument(
        "--with-responses", action="store_true", help="only rows whose responses are recorded"
    )
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument(
        "--trust", action="append", type=float, help="weights of the prior beside the default one"
    )
    parser.add_argument(
        "--payoff",
        default="correct",
        help="what routers learn from, in replay's words; accuracy is always truth",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    records, source_P = read(args.file, args.with_responses)
    records, done = records.select(None, args.drop_arms), {}
    kept: dict[bool, list[Split]] = {}
    for scenario in args.scenario or ["in", "drift", "stale"]:
        cpu, wall = time.process_time(), time.perf_counter()
        out = scenario == "out"
        if out not in kept:
            kept[out] = splits(records, source_P, args, out)
        done[scenario] = simulate(kept[out], args.shuffles, scenario, args.trust or [1.0])
        show(scenario, done[scenario])
        print(
            f"\n{time.process_time() - cpu:.0f} s CPU, {time.perf_counter() - wall:.0f} s wall",
            flush=True,
        )
    if args.json:
        args.json.write_text(
            json.dumps({"file": Path(args.file).name, "scenarios": done}, indent=1)
        )


if __name__ == "__main__":
    main()
