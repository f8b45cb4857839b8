"""One verdict in words: what routing could gain here at most, what it gains now, and what to do.

The winner of a table is chosen after looking, so its gain is judged by bounds that hold for all
methods at once: Bonferroni over the whole table that replay knows, however many of its methods were
listed (see `methods.comparisons`), so that what is said of one method does not depend on the
others. Methods that the user listed are marked as named beforehand.

``route`` and ``committee`` are said only where the lower bound against the best arm in hindsight is
above 0. Of several that pay, the most accurate wins after 0.1 percentage points are taken off for
each call.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.replay.intervals import confidences, lower_bounds
from reward_router.replay.methods import NOT_ROUTING, comparisons, router_names
from reward_router.types import Float

CALL_PRICE = 0.001  # what one more call a row must buy in accuracy to be worth naming
_SEVERAL = ("committee", "K calls")
Json = dict[str, Any]


def file_verdict(result: Json, gains: Mapping[str, Float], named: Sequence[str] = ()) -> Json:
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
    conclusion["sentences"] = _words(conclusion, result)
    conclusion["text"] = " ".join(conclusion["sentences"])
    return conclusion


def _family() -> int:
    return sum(name not in NOT_ROUTING for name in router_names())


def _bounds(labels: list[str], result: Json, gains: Mapping[str, Float]) -> tuple[Float, Float]:
    if not labels:
        return np.zeros(0), np.zeros(0)
    gain_RM = np.stack([gains[label] for label in labels], axis=1)
    routers = result["routers"]
    point_M = np.array([routers[label]["vs_best_single"]["diff"] for label in labels])
    tests_M = np.array(comparisons(labels), dtype=np.float64)

    prompts = result["prompts"]
    lower_M = lower_bounds(gain_RM, point_M, tests_M, prompts)
    confidence_M = confidences(gain_RM, point_M, tests_M, prompts)
    return lower_M, confidence_M


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
    if result["prompts"] == 1:
        cautions.append("all rows are of one prompt: no interval can be told")
    elif result["prompts"] < 200:
        cautions.append(f"only {result['prompts']} prompts: differences of a few points are noise")
    wrong = [arm for arm in result["arms"] if result["routers"][arm]["ci95"][1] < 0.5]
    if 2 * len(wrong) > len(result["arms"]):
        cautions.append(
            f"{len(wrong)} of {len(result['arms'])} arms are wrong more often than right: "
            "see whether the labels name the better response, and not the other one "
            "(of the numbers 0 and 1, 0 is response_a)"
        )
    if action == "committee" and method.startswith("stacking"):
        cautions.append(
            "stacking can fit what is peculiar to one benchmark: "
            "measured on folds of this file only, so try it on another source first"
        )
    taken = [arm for arm in result["arms"] if arm in router_names()]
    if taken:
        cautions.append(
            f"{_list(taken)}: an arm has the name of a method, which is not in the table then; "
            "rename the arm to compare with the method"
        )
    if result["missing"] and max(result["missing"].values()) > 0.05:
        cautions.append(
            "some arms are missing on more than 5 % of the rows, and count as half right there"
        )
    for label, rows in result.get("warmup_too_long", {}).items():
        cautions.append(
            f"{label} never came to choose: its warm-up takes {rows} rows of {result['rows']}"
        )
    if result["broken_rows"]:
        cautions.append(f"{result['broken_rows']} broken rows were left out")
    return cautions


_IN_TRAINING = (
    "uniform",
    "round_robin",
    "adaptive",
    "linucb",
    "exp3",
    "laser",
    "thompson",
    "bayesian",
    "discounted",
    "committee",
)
"""Methods that a training run can be given, by the first word of their label.

The others need all arms, or the answers, first.
"""


def in_training(result: Json, label: str) -> bool:
    """Whether a run can judge as this method of a replay does.

    It can as an arm alone, a router, or the committee.
    """
    entry = result["routers"][label]
    return entry["kind"] == "arm" or _first_word(label).startswith(_IN_TRAINING)


def _first_word(label: str) -> str:
    return label.split(":")[0].split("(")[0].strip()


def next_commands(result: Json) -> list[str]:
    """What to run next: a training run that judges as the verdict says."""
    v = result["verdict"]
    router = _first_word(v["method"])
    arm = json.dumps(v["best_single"], ensure_ascii=False)
    setting = f"router={{name: fixed, arm: {arm}}}"
    if in_training(result, v["method"]) and v["action"] == "committee":
        setting = "judge=committee"
    elif in_training(result, v["method"]) and v["action"] == "route":
        # laser is LinUCB with one decision a batch.
        setting = f"router.name={'linucb --set router.unit=batch' if router == 'laser' else router}"
    quoted = shlex.quote(setting) if "{" in setting else setting
    commands = [
        "reward-router init --out my.yaml",
        f"reward-router train my.yaml --set {quoted} --out runs/mine",
    ]
    if _committee_instead(result, v["method"]):
        commands.append("reward-router train my.yaml --set judge=committee --out runs/committee")
    return commands


def _committee_instead(result: Json, method: str) -> bool:
    """Whether a run can ask the committee where it cannot ask the verdict's method."""
    entry = result["routers"].get("committee")
    asked = not in_training(result, method)
    return asked and entry is not None and entry["vs_best_single"]["ci95"][0] > 0


def next_lead(result: Json) -> str:
    """What stands before `next_commands`."""
    v = result["verdict"]
    lead = "Next, with your prompts, and in my.yaml these reward models under the names here"
    if in_training(result, v["method"]):
        return f"{lead}:"
    instead = " and with the committee" if _committee_instead(result, v["method"]) else ""
    return (
        f"{v['method']} judges recorded scores, and a training run cannot judge so. {lead}, "
        f"with {v['best_single']} alone{instead}:"
    )


def accuracy_points(x: float) -> str:
    """A difference of accuracies in percentage points, signed."""
    return f"{signed(x)} pp"


def signed(x: float) -> str:
    """The same without its unit; what rounds to nothing is +0.0, not -0.0.

    >>> signed(0.0123), signed(-0.0001)
    ('+1.2', '+0.0')
    """
    # Adding 0.0 takes the sign from a negative zero.
    return f"{round(100 * x, 1) + 0.0:+.1f}"


def accuracy_percent(x: float) -> str:
    """An accuracy in per cent."""
    return f"{100 * x:.1f} %"


def _words(conclusion: Json, result: Json) -> list[str]:
    best = conclusion["best_single"]
    accuracy = accuracy_percent(result["routers"][best]["accuracy"])
    most = accuracy_points(at_most(conclusion, result))
    sentences = [
        _what_to_do(conclusion, result),
        f"At most: always picking an arm that is right would gain {most} over the best single arm, "
        f"{best} ({accuracy}).",
        *standing(conclusion, result),
    ]
    sentences += [f"Caution: {caution}." for caution in conclusion["cautions"]]
    return [sentence for sentence in sentences if sentence]


def at_most(conclusion: Json, result: Json) -> float:
    """What always picking an arm that is right would gain: the oracle's, where it was listed."""
    bound = result["routers"].get("oracle")
    # An arm may be called so, and is no bound.
    is_bound = bound is not None and bound["kind"] == "bound"
    return float(bound["vs_best_single"]["diff"] if is_bound else conclusion["headroom"])


def standing(conclusion: Json, result: Json) -> list[str]:
    """Where the methods stand that are surest to gain, and which arms the best one is close to."""
    sentences = [
        _now("one arm", conclusion, conclusion["best_router"], result),
        _now("several arms", conclusion, conclusion["best_committee"], result),
    ]
    if _committee_instead(result, conclusion["method"]):
        entry = result["routers"]["committee"]
        low, high = entry["vs_best_single"]["ci95"]
        sentences.append(
            "The committee, which a training run can ask, stands at "
            f"{accuracy_points(entry['vs_best_single']['diff'])} [{signed(low)}, {signed(high)}] "
            f"at {entry['calls_per_row']:.3g} calls a row."
        )
    if conclusion["tied_arms"]:
        tied = _list(conclusion["tied_arms"])
        sentences.append(
            f"These rows do not tell {conclusion['best_single']} apart from {tied}; "
            "the cheapest of them may do."
        )
    return [sentence for sentence in sentences if sentence]


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
        f"{accuracy_percent(entry['accuracy'])} at {entry['calls_per_row']:.3g} calls a row, "
        f"{accuracy_points(conclusion['gain'])} over {conclusion['best_single']} alone, {sure}."
    )
    if conclusion["action"] == "route":
        return f"Route with {_marked(conclusion, method)}: {what}"
    return f"Ask a committee ({_marked(conclusion, method)}): {what}"


def _marked(conclusion: Json, method: str) -> str:
    """A method's name, and whether the user named it before looking."""
    return f"{method}, named beforehand" if method in conclusion["named"] else method


def _now(what: str, conclusion: Json, label: str | None, result: Json) -> str:
    """Where the method of a kind that is surest to gain stands; empty where there is none."""
    if label is None or label == conclusion["method"]:
        return ""
    entry = result["routers"][label]
    difference = entry["vs_best_single"]["diff"]
    low, high = entry["vs_best_single"]["ci95"]
    subject = f"Asking {what}, the method {_marked(conclusion, label)} comes closest to a gain"
    if difference == low == high == 0:
        method = _marked(conclusion, label)
        return f"Asking {what}, the method {method} takes {result['best_single']} everywhere."
    ci95 = f"[{signed(low)}, {signed(high)}]"
    shown = ", so no gain is shown" if low <= 0 else ""
    calls = f" at {entry['calls_per_row']:.3g} calls a row" if what == "several arms" else ""
    return f"{subject}: {accuracy_points(difference)} {ci95}{calls}{shown}."


def _list(arms: list[str], limit: int = 4) -> str:
    more = f" and {len(arms) - limit} more" if len(arms) > limit else ""
    return ", ".join(arms[:limit]) + more
