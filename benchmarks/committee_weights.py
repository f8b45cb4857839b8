"""Which weights and which gate.

`python benchmarks/committee_weights.py rows POOL... --out DIR`, then `table DIR`, or `weak`.
``rows`` keeps, for each of five outer folds by prompt, what every candidate said on the test rows
and, out of fold, on the training rows (two foldings; one where there are 1,500 rows and more).
``table`` plays gates and choices against each other on those, in seconds. ``weak`` joins 18 weak
arms to 9 judges and compares the fitted committee with the aggregates of all 27.
"""

import argparse
import pickle
import time
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from committee_pools import POOLS, Pool, load
from reward_router.committee import Committee
from reward_router.committee.fit import WEIGHTS, FitShape, fit_plan
from reward_router.committee.gate import opens
from reward_router.committee.labelled import LabelledRows, assign_folds, labelled_rows
from reward_router.committee.plan import walk
from reward_router.committee.trial import best_single, clustered_error, signed_credit

PRICES = np.array([0.0005, 0.004, 0.0125, 0.02])
Judged = dict[str, np.ndarray]
"""(2, rows): right, calls."""


def rows_of(pool: Pool) -> LabelledRows:
    code = {name: c for c, name in enumerate(sorted(set(pool.category_P)))}
    category_P = np.array([code[name] for name in pool.category_P])
    return labelled_rows(pool.margins_PK, pool.label_P, pool.group_P, category_P, None, None)


def of_all(kind: str, train: LabelledRows, test: LabelledRows) -> np.ndarray:
    """The mean of margins over their scale, or the weighted vote, of all K arms."""
    if kind == "mean":
        scale_K = np.sqrt(
            np.nanmean(np.where(train.margins_PK == 0, np.nan, train.margins_PK) ** 2, axis=0)
        )
        return np.nan_to_num(test.margins_PK / scale_K).sum(axis=1)
    verdict_PK = np.sign(np.nan_to_num(train.margins_PK)) * train.sign_P[:, None]
    share_K = ((0.5 + 0.5 * verdict_PK).sum(axis=0) + 1) / (len(verdict_PK) + 2)
    return np.sign(np.nan_to_num(test.margins_PK)) @ np.log(share_K / (1 - share_K))


def judged(train: LabelledRows, test: LabelledRows, seed: int) -> Judged:
    """Every candidate at every price, the best single arm and the aggregates of all arms."""
    n_arms = train.margins_PK.shape[1]
    cost_K, n = np.ones(n_arms), len(test.label_P)
    arm = best_single(train.margins_PK, train.sign_P, cost_K, 0.0)
    found = {
        "single": np.stack(
            [signed_credit(np.nan_to_num(test.margins_PK[:, arm]), test.sign_P), np.ones(n)]
        )
    }
    for kind in ("mean", "vote"):
        found[f"{kind} of all"] = np.stack(
            [signed_credit(of_all(kind, train, test), test.sign_P), np.full(n, n_arms)]
        )
    for weights in WEIGHTS:
        plan = fit_plan(train, FitShape(cost_K, min(16, n_arms), weights), seed, PRICES)
        for price in PRICES:
            log_odds, asked = walk(plan, test.margins_PK, test.category_P, price)
            found[f"{weights}@{price:g}"] = np.stack(
                [signed_credit(log_odds, test.sign_P), asked.sum(1)]
            )
    return found


def nested(data: LabelledRows, foldings: int) -> list[Judged]:
    """Out of fold on the training rows, a folding at a time."""
    out = []
    for number in range(foldings):
        fold_P, total = assign_folds(data.group_P, 5, 1000 + number), dict[str, np.ndarray]()
        for f in range(5):
            held_P = fold_P == f
            for name, part in judged(data.take(~held_P), data.take(held_P), number).items():
                total.setdefault(name, np.zeros((2, len(fold_P))))[:, held_P] = part
        out.append(total)
    return out


def rows(names: list[str], out: Path) -> None:
    for name in names:
        start, data = time.process_time(), rows_of(load(name))
        fold_P, found = assign_folds(data.group_P, 5, 0), []
        for f in range(5):
            train, test = data.take(fold_P != f), data.take(fold_P == f)
            foldings = 2 if len(train.label_P) < 1500 else 1
            found.append((nested(train, foldings), judged(train, test, 0), train.group_P))
        (out / f"{name}.pkl").write_bytes(pickle.dumps(found))
        print(name, f"cpu {time.process_time() - start:.0f}s", flush=True)


def chosen(
    trials: list[Judged], group_P: np.ndarray, candidates: tuple[str, ...], price: float
) -> str:
    """The choice as in `gate.chosen_weights`: the highest utility.

    Signed weights are taken only where they are better with confidence.
    """
    utility = {
        c: np.mean([t[f"{c}@{price:g}"][0] - price * t[f"{c}@{price:g}"][1] for t in trials], 0)
        for c in candidates
    }
    best = max((c for c in candidates if c != "signed"), key=lambda c: utility[c].mean())
    if "signed" in candidates:
        gap = utility["signed"] - utility[best]
        if gap.mean() - 1.645 * clustered_error(gap, group_P) > 0:
            return "signed"
    return best


def played(
    name: str, folder: Path, candidates: tuple[str, ...], rule: str, price: float
) -> tuple[float, float]:
    """Gain over the best single arm in points, and calls, on the outer folds."""
    gain, calls = [], []
    for trials, test, group_P in pickle.loads((folder / f"{name}.pkl").read_bytes()):
        key = f"{chosen(trials, group_P, candidates, price)}@{price:g}"
        gap = np.mean([t[key][0] - t["single"][0] for t in trials], axis=0)
        lower = gap.mean() - 1.645 * max(clustered_error(gap, group_P), 0.5 / len(gap))
        key = key if rule == "off" or opens(rule, gap.mean(), lower, len(gap)) else "single"
        gain.append(test[key][0] - test["single"][0])
        calls.append(test[key][1])
    return 100 * float(np.concatenate(gain).mean()), float(np.concatenate(calls).mean())


COLUMNS = (
    ("safe, lower95", ("safe",), "lower95", 0.0125),
    ("safe, noninferior", ("safe",), "noninferior", 0.0125),
    ("safe, auto", ("safe",), "auto", 0.0125),
    ("auto without signed", ("safe", "mean", "vote"), "auto", 0.0125),
    ("auto", WEIGHTS, "auto", 0.0125),
    ("auto, price .02", WEIGHTS, "auto", 0.02),
)


def table(folder: Path) -> None:
    names = [name for name in POOLS if (folder / f"{name}.pkl").is_file()]
    print(
        "| pool | " + " | ".join(title for title, *_ in COLUMNS) + " | mean of all | vote of all |"
    )
    print("|" + "---|" * (len(COLUMNS) + 3))
    every = []
    for name in names:
        cells = [played(name, folder, *column[1:]) for column in COLUMNS]
        parts = pickle.loads((folder / f"{name}.pkl").read_bytes())
        for kind in ("mean of all", "vote of all"):
            gain = np.concatenate(
                [test[kind][0] - test["single"][0] for _, test, _ in parts]
            ).mean()
            cells.append((100 * float(gain), float(parts[0][1][kind][1][0])))
        every.append(cells)
        print(
            f"| {name} | "
            + " | ".join(f"{gain:+.1f} @ {calls:.2f}" for gain, calls in cells)
            + " |"
        )
    means = np.mean(every, axis=0)
    print("| mean | " + " | ".join(f"{gain:+.2f} @ {calls:.2f}" for gain, calls in means) + " |")
    print("| lowest | " + " | ".join(f"{gain:+.1f}" for gain in np.min(every, axis=0)[:, 0]) + " |")


def weak_arms(sign_P: np.ndarray, seed: int, many: int = 18) -> np.ndarray:
    """Normal margins, right on 50 to 56 %, errors correlated at .3."""
    random = np.random.default_rng(seed)
    accuracy_K = random.uniform(0.5, 0.56, many)
    noise = np.sqrt(0.7) * random.normal(size=(len(sign_P), many)) + np.sqrt(0.3) * random.normal(
        size=(len(sign_P), 1)
    )
    return sign_P[:, None] * ndtri(accuracy_K) + noise


def weak(names: list[str], draws: int) -> None:
    """9 judges of a pool and 18 weak arms, about 300 rows to learn from, the rest to judge."""
    for name in names:
        data = rows_of(load(name))
        for draw in range(draws):
            random = np.random.default_rng(draw)
            arms = random.permutation(data.margins_PK.shape[1])[:9]
            margins_PK = np.column_stack([data.margins_PK[:, arms], weak_arms(data.sign_P, draw)])
            wide = data._replace(margins_PK=margins_PK)
            groups = random.permutation(np.unique(wide.group_P))
            size_G = np.bincount(wide.group_P, minlength=groups.max() + 1)[groups]
            upto = int(np.searchsorted(np.cumsum(size_G), min(300, len(margins_PK) * 2 // 3)))
            drawn_P = np.isin(wide.group_P, groups[: upto + 1])
            print(name, draw, compared(wide.take(drawn_P), wide.take(~drawn_P)), flush=True)


def compared(train: LabelledRows, test: LabelledRows) -> str:
    names = [[str(c) for c in part.category_P] for part in (train, test)]
    committee = Committee(np.ones(train.margins_PK.shape[1]))
    committee.fit(train.margins_PK, train.label_P, train.group_P, names[0], origin="stream")
    prob, calls, _ = committee.judge(test.margins_PK, names[1])
    right = {
        "mean of all": signed_credit(of_all("mean", train, test), test.sign_P).mean(),
        "vote of all": signed_credit(of_all("vote", train, test), test.sign_P).mean(),
        "single": signed_credit(
            np.nan_to_num(test.margins_PK[:, committee.single]), test.sign_P
        ).mean(),
    }
    ours = signed_credit(prob - 0.5, test.sign_P).mean()
    cells = ", ".join(f"{name} {x:.3f}" for name, x in right.items())
    gap = 100 * (ours - max(right.values()))
    return (
        f"{cells}, committee {ours:.3f} @ {calls.mean():.2f} ({committee.summary['weights']}): "
        f"{gap:+.1f} to the best"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["rows", "table", "weak"])
    parser.add_argument("pools", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    if args.what == "rows":
        rows(args.pools or list(POOLS), args.out)
    elif args.what == "table":
        table(args.out)
    else:
        weak(args.pools or ["rb2_k1", "rewardmath_all31", "triviaqa"], args.draws)


if __name__ == "__main__":
    main()
