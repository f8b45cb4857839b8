"""One verdict in words: what routing could gain here at most, what it gains now, how sure that is, and what to do.

The winner of a table is chosen after looking, so its gain is judged by bounds that hold for all methods at once: Bonferroni over
the whole table that replay knows, however many of its methods were listed (see `methods.comparisons`), so that what is said of
one method does not depend on the others. Methods that the user listed are marked as named beforehand. ``route`` and
``committee`` are said only where the lower bound against the best arm in hindsight is above 0; of several that pay, the most accurate wins after 0.1 percentage points are taken off for each call.
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
    """{action: arm|route|committee, method, text, headroom, gain, ci95, confidence, tied_arms, cautions} from one file's result.

    ``gains``: method -> (R,) paired bootstrap differences against the best single arm. ``named``: what the user listed before
    looking; none: the whole table was compared.
    """
    routers = result["routers"]
    labels = [m for m in gains if m not in NOT_ROUTING]
    best = result["best_single"]
    bound_M, confidence_M = _bounds(labels, result, gains)
    lower, sure = (
        dict(zip(labels, bound_M, strict=True)),
        dict(zip(labels, confidence_M, strict=True)),
    )
    routed = _top([m for m in labels if routers[m]["kind"] not in _SEVERAL], lower)
    asked = _top([m for m in labels if routers[m]["kind"] in _SEVERAL], lower)
    action, method = _decide(labels, lower, routers, best)
    found: Json = {
        "action": action,
        "method": method,
        "best_single": best,
        "headroom": result["headroom"],
        "gain": routers[method]["vs_best_single"]["diff"],
        "ci95": routers[method]["vs_best_single"]["ci95"],
        "lower_bound": float(lower[method]) if method in lower else None,
        "confidence": float(sure[method]) if method in sure else None,
        "compared": len(labels),
        "correction": f"Bonferroni over the {_family()} methods that replay knows",
        "named": [m for m in named if m in labels],
        "best_router": routed,
        "best_committee": asked,
        "tied_arms": _tied(result),
        "cautions": _cautions(result, action, method),
    }
    found["text"] = _words(found, result)
    return found


def _family() -> int:
    return sum(name not in NOT_ROUTING for name in names())


def _bounds(labels: list[str], result: Json, gains: Mapping[str, Float]) -> tuple[Float, Float]:
    if not labels:
        return np.zeros(0), np.zeros(0)
    gain_RM = np.stack([gains[m] for m in labels], axis=1)
    point_M = np.array([result["routers"][m]["vs_best_single"]["diff"] for m in labels])
    tests_M, prompts = np.array(comparisons(labels), dtype=np.float64), result["prompts"]
    return lower_bounds(gain_RM, point_M, tests_M, prompts), confidences(
        gain_RM, point_M, tests_M, prompts
    )


def _top(labels: list[str], lower: Mapping[str, float]) -> str | None:
    return max(labels, key=lambda m: lower[m], default=None)


def _decide(
    labels: list[str], lower: Mapping[str, float], routers: Json, best: str
) -> tuple[str, str]:
    """Of the methods that pay, the one with the highest accuracy less CALL_PRICE a call; none: the best arm alone."""
    paying = [m for m in labels if lower[m] > 0]
    if not paying:
        return "arm", best
    method = max(
        paying, key=lambda m: routers[m]["accuracy"] - CALL_PRICE * routers[m]["calls_per_row"]
    )
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
    found = []
    if result["prompts"] < 200:
        found.append(f"only {result['prompts']} prompts: differences of a few points are noise")
    if action == "committee" and method.startswith("stacking"):
        found.append(
            "stacking can fit what is peculiar to one benchmark: measured on folds of this file only, so try it on another source first"
        )
    if result["missing"] and max(result["missing"].values()) > 0.05:
        found.append("some arms are missing on more than 5 % of the rows and count 1/2 there")
    for label, rows in result.get("warmup_too_long", {}).items():
        found.append(
            f"{label} never came to choose: its warm-up takes {rows} rows of {result['rows']}"
        )
    if result["broken_rows"]:
        found.append(f"{result['broken_rows']} broken rows were left out")
    return found


def points(x: float) -> str:
    """A difference of accuracies in percentage points, signed."""
    return f"{100 * x:+.1f} pp"


def percent(x: float) -> str:
    """An accuracy in per cent."""
    return f"{100 * x:.1f} %"


def _words(found: Json, result: Json) -> str:
    best = result["routers"][found["best_single"]]
    parts = [_do(found, result)]
    parts.append(
        f"At most: always picking an arm that is right would gain {points(found['headroom'])} over the best single arm, "
        f"{found['best_single']} ({percent(best['accuracy'])})."
    )
    parts.append(_now("one-call router", found, found["best_router"], result))
    parts.append(_now("committee", found, found["best_committee"], result))
    if found["tied_arms"]:
        parts.append(f"Not separable from {found['best_single']}: {_list(found['tied_arms'])}.")
    return " ".join([p for p in parts if p] + [f"Caution: {c}." for c in found["cautions"]])


def _do(found: Json, result: Json) -> str:
    method, entry = found["method"], result["routers"][found["method"]]
    sure = (
        f"{100 * min(found['confidence'], 0.999):.3g} % confidence by {found['correction']}"
        if found["confidence"]
        else ""
    )
    if found["action"] == "arm":
        return (
            f"Use {method} alone: no method here beats it reliably (95 %, {found['correction']})."
        )
    gain = f"{points(found['gain'])} over {found['best_single']} alone, {sure}"
    if found["action"] == "route":
        return f"Route with {_marked(found, method)}: {percent(entry['accuracy'])} at {entry['calls_per_row']:.3g} calls a row, {gain}."
    return f"Ask a committee ({_marked(found, method)}): {percent(entry['accuracy'])} at {entry['calls_per_row']:.3g} calls a row, {gain}."


def _marked(found: Json, method: str) -> str:
    """A method's name, and whether the user named it before looking."""
    return f"{method}, named beforehand" if method in found["named"] else method


def _now(what: str, found: Json, label: str | None, result: Json) -> str:
    if label is None:
        return ""
    entry = result["routers"][label]
    diff, (low, high) = entry["vs_best_single"]["diff"], entry["vs_best_single"]["ci95"]
    if diff == low == high == 0:
        return f"Now: the best {what}, {_marked(found, label)}, picks {result['best_single']} everywhere: no gain."
    inside = ", inside its interval" if low <= 0 <= high else ""
    calls = f" at {entry['calls_per_row']:.3g} calls a row" if what == "committee" else ""
    return f"Now: the best {what}, {_marked(found, label)}, stands at {points(diff)} [{100 * low:+.1f}, {100 * high:+.1f}]{inside}{calls}."


def _list(arms: list[str], limit: int = 4) -> str:
    return ", ".join(arms[:limit]) + (f" and {len(arms) - limit} more" if len(arms) > limit else "")
