"""One verdict in words: what routing could gain here at most, what it gains now, and what to do.

The winner of a table is chosen after looking, so its gain is judged by bounds that hold for all
methods at once: Bonferroni over the whole table that replay knows, however many of its methods were
listed (see `methods.comparisons`), so that what is said of one method does not depend on the
others. Methods that the user listed are marked as named beforehand.

``route`` and ``committee`` are said only where the lower bound against the best arm in hindsight is
above 0. Of several that pay, the most accurate wins after 0.1 percentage points are taken off for
each call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.replay.intervals import confidences, lower_bounds
from reward_router.replay.methods import NOT_ROUTING, comparisons, names
from reward_router.types import Float

CALL_PRICE = 0.001  # what one more call a row must buy in accuracy to be worth naming
_SEVERAL = ("committee", "K calls")
Json = dict[str, Any]


def verdict(result: Json, gains: Mapping[str, Float], named: Sequence[str] = ()) -> Json:
    """What to do, from one file's result.

    {action: arm|route|committee, method, text, headroom, gain, ci95, confidence, tied_arms,
    cautions, ...}.

    Args:
        result: what `evaluate.summarise` gives.
        gains: method -> (R,) paired bootstrap differences against the best single arm.
        named: what the user listed before looking; none: the whole table was compared.
    """
    routers = result["routers"]
    labels = [m for m in gains if m not in NOT_ROUTING]
    best = result["best_single"]
    bound_M, confidence_M = _bounds(labels, result, gains)
    lower = dict(zip(labels, bound_M, strict=True))
    confidence = dict(zip(labels, confidence_M, strict=True))
    one_call = [m for m in labels if routers[m]["kind"] not in _SEVERAL]
    several = [m for m in labels if routers[m]["kind"] in _SEVERAL]
    action, method = _decide(labels, lower, routers, best)
    conclusion: Json = {
        "action": action,
        "method": method,
        "best_single": best,
        "headroom": result["headroom"],
        "gain": routers[method]["vs_best_single"]["diff"],
        "ci95": routers[method]["vs_best_single"]["ci95"],
        "lower_bound": float(lower[method]) if method in lower else None,
        "confidence": float(confidence[method]) if method in confidence else None,
        "compared": len(labels),
        "correction": f"Bonferroni over the {_family()} methods that replay knows",
        "named": [m for m in named if m in labels],
        "best_router": _top(one_call, lower),
        "best_committee": _top(several, lower),
        "tied_arms": _tied(result),
        "cautions": _cautions(result, action, method),
    }
    conclusion["text"] = _words(conclusion, result)
    return conclusion


def _family() -> int:
    return sum(name not in NOT_ROUTING for name in names())


def _bounds(labels: list[str], result: Json, gains: Mapping[str, Float]) -> tuple[Float, Float]:
    if not labels:
        return np.zeros(0), np.zeros(0)
    gain_RM = np.stack([gains[m] for m in labels], axis=1)
    point_M = np.array([result["routers"][m]["vs_best_single"]["diff"] for m in labels])
    tests_M = np.array(comparisons(labels), dtype=np.float64)
    prompts = result["prompts"]
    lower_M = lower_bounds(gain_RM, point_M, tests_M, prompts)
    return lower_M, confidences(gain_RM, point_M, tests_M, prompts)


def _top(labels: list[str], lower: Mapping[str, float]) -> str | None:
    return max(labels, key=lambda m: lower[m], default=None)


def _decide(
    labels: list[str], lower: Mapping[str, float], routers: Json, best: str
) -> tuple[str, str]:
    """Of the methods that pay, the one with the highest accuracy less CALL_PRICE a call.

    Where none pays: the best arm alone.
    """

    def worth(label: str) -> float:
        entry = routers[label]
        return float(entry["accuracy"] - CALL_PRICE * entry["calls_per_row"])

    paying = [m for m in labels if lower[m] > 0]
    if not paying:
        return "arm", best
    method = max(paying, key=worth)
    return "committee" if routers[method]["kind"] in _SEVERAL else "route", method


def _tied(result: Json) -> list[str]:
    """Arms whose difference to the best one lies inside its interval."""
    routers = result["routers"]
    return [
        arm
        for arm in result["arms"]
        if arm != result["best_single"] and routers[arm]["vs_best_single"]["ci95"][1] >= 0
    ]


def _cautions(result: Json, action: str, method: str) -> list[str]:
    cautions = []
    if result["prompts"] < 200:
        cautions.append(f"only {result['prompts']} prompts: differences of a few points are noise")
    if action == "committee" and method.startswith("stacking"):
        cautions.append(
            "stacking can fit what is peculiar to one benchmark: "
            "measured on folds of this file only, so try it on another source first"
        )
    if result["missing"] and max(result["missing"].values()) > 0.05:
        cautions.append("some arms are missing on more than 5 % of the rows and count 1/2 there")
    for label, rows in result.get("warmup_too_long", {}).items():
        cautions.append(
            f"{label} never came to choose: its warm-up takes {rows} rows of {result['rows']}"
        )
    if result["broken_rows"]:
        cautions.append(f"{result['broken_rows']} broken rows were left out")
    return cautions


def points(x: float) -> str:
    """A difference of accuracies in percentage points, signed."""
    return f"{100 * x:+.1f} pp"


def percent(x: float) -> str:
    """An accuracy in per cent."""
    return f"{100 * x:.1f} %"


def _words(conclusion: Json, result: Json) -> str:
    best = conclusion["best_single"]
    accuracy = percent(result["routers"][best]["accuracy"])
    sentences = [
        _what_to_do(conclusion, result),
        "At most: always picking an arm that is right would gain "
        f"{points(conclusion['headroom'])} over the best single arm, {best} ({accuracy}).",
        _now("one-call router", conclusion, conclusion["best_router"], result),
        _now("committee", conclusion, conclusion["best_committee"], result),
    ]
    if conclusion["tied_arms"]:
        sentences.append(f"Not separable from {best}: {_list(conclusion['tied_arms'])}.")
    sentences += [f"Caution: {caution}." for caution in conclusion["cautions"]]
    return " ".join(sentence for sentence in sentences if sentence)


def _what_to_do(conclusion: Json, result: Json) -> str:
    method = conclusion["method"]
    correction = conclusion["correction"]
    if conclusion["action"] == "arm":
        return f"Use {method} alone: no method here beats it reliably (95 %, {correction})."
    confidence = conclusion["confidence"]
    # Never 100 %: replicates without a loss are no proof.
    sure = f"{100 * min(confidence, 0.999):.3g} % confidence by {correction}" if confidence else ""
    entry = result["routers"][method]
    what = (
        f"{percent(entry['accuracy'])} at {entry['calls_per_row']:.3g} calls a row, "
        f"{points(conclusion['gain'])} over {conclusion['best_single']} alone, {sure}."
    )
    if conclusion["action"] == "route":
        return f"Route with {_marked(conclusion, method)}: {what}"
    return f"Ask a committee ({_marked(conclusion, method)}): {what}"


def _marked(conclusion: Json, method: str) -> str:
    """A method's name, and whether the user named it before looking."""
    return f"{method}, named beforehand" if method in conclusion["named"] else method


def _now(what: str, conclusion: Json, label: str | None, result: Json) -> str:
    """Where the best method of a kind stands now; empty where there is none."""
    if label is None:
        return ""
    entry = result["routers"][label]
    difference = entry["vs_best_single"]["diff"]
    low, high = entry["vs_best_single"]["ci95"]
    subject = f"Now: the best {what}, {_marked(conclusion, label)}"
    if difference == low == high == 0:
        return f"{subject}, picks {result['best_single']} everywhere: no gain."
    ci95 = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
    inside = ", inside its interval" if low <= 0 <= high else ""
    calls = f" at {entry['calls_per_row']:.3g} calls a row" if what == "committee" else ""
    return f"{subject}, stands at {points(difference)} {ci95}{inside}{calls}."


def _list(arms: list[str], limit: int = 4) -> str:
    more = f" and {len(arms) - limit} more" if len(arms) > limit else ""
    return ", ".join(arms[:limit]) + more
