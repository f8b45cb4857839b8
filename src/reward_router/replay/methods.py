"""Every name ``--router`` knows: what it is, which options it takes, how it is run.

Arms go by their own names.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, get_args

import numpy as np

from reward_router.errors import InputError
from reward_router.kinds import ROUTERS, RouterKind, is_import_path
from reward_router.replay import baselines, bayesian
from reward_router.replay.embed import RowContexts
from reward_router.replay.feedback import Feedback
from reward_router.replay.joined import Parts
from reward_router.replay.offline_stage import Fitted
from reward_router.replay.protocols import (
    Method,
    MethodScores,
    Run,
    crossfit,
    one_arm_each,
    online,
    online_on_parts,
    passage,
    scheduled,
    splits,
)
from reward_router.replay.records import Records
from reward_router.replay.spec import parse_options, split_name
from reward_router.routers.binding import bound
from reward_router.types import Float, Router

MethodKind = str  # arm | online | one call | committee | K calls | bound
LASER_BATCH = 16  # prompts that share one decision, as in the paper


@dataclass(frozen=True)
class MethodPlan:
    """How one table row is produced.

    ``seeds`` runs of an online router; everything else runs once.
    """

    label: str
    name: str
    kind: MethodKind
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def learns_online(self) -> bool:
        """Whether it is run once a seed."""
        return self.kind == "online" and not self.cross_fitted

    @property
    def cross_fitted(self) -> bool:
        """Whether it learns on other folds."""
        return self.name in _CROSSFIT and self.prior is None

    @property
    def prior(self) -> str | None:
        """The folder of a prior artifact, where strengths come from there."""
        folder = dict(self.options).get("prior")
        return str(folder) if folder else None

    @property
    def learns_strengths(self) -> bool:
        """Whether it has BayesianRouter's offline stage."""
        return self.name in _BAYES and self.prior is None


@dataclass(frozen=True)
class Conditions:
    """What all runs of one replay share.

    Args:
        feedback: what pays online routers.
        folds: folds of the cross-fitted methods.
        repeats: how often those folds are drawn anew.
        pairs: contexts of pairs, where strengths are learned from pairs.
        priors: what was read from each prior artifact, by its folder.
        parts: rows to learn from and rows to judge, instead of folds.
    """

    feedback: Feedback
    folds: int
    repeats: int
    pairs: RowContexts | None = None
    priors: Mapping[str, Fitted] = field(default_factory=dict)
    parts: Parts | None = None


_LASER = "laser"
_SAME_AS = {_LASER: "linucb"}
"""Names that replay has beside the table's.

LASER is LinUCB with one decision for a batch of prompts.
"""


def _is_online(name: str) -> bool:
    """Whether a name is that of a router that learns while it goes through the file.

    The others have ways of their own.
    """
    if name in _CROSSFIT or name in _SCHEDULES:
        return False
    return name in _SAME_AS or is_import_path(name) or (name in ROUTERS and ROUTERS[name].learns)


def _kind(name: str) -> RouterKind:
    return ROUTERS[_SAME_AS.get(name, name)]


def router_of(
    name: str, arms: Sequence[str], dim: int, options: Mapping[str, Any], seed: int
) -> Router:
    """The router of this name, checked.

    Options that are not given have replay's own defaults.
    """
    own = {key: value for key, value in options.items() if key != "batch" or name != _LASER}
    kind = _kind(name)
    return bound(kind.build(arms, dim, {**kind.in_replay, **own}, seed=seed))


_STRENGTHS = {"dim": int, "lambda_cls": float, "balance": bool, "prior": str}

_BAYES: dict[str, Callable[..., bayesian.LearnedVariant]] = {
    "bayesian": bayesian.bayesian_method,
    "weighted_score": bayesian.weighted_score,
}

_CROSSFIT: dict[str, tuple[MethodKind, dict[str, type], Callable[..., Method]]] = {
    "best_train": ("one call", {}, lambda: baselines.best_train),
    "category_best": ("one call", {}, lambda: baselines.category_best),
    "by": ("one call", {"column": str, "prior": float}, baselines.by_column),
    "logistic": ("one call", {"penalty": float}, baselines.logistic),
    "ridge": ("one call", {"penalty": float}, baselines.ridge),
    "committee": (
        "committee",
        {"price": float, "max_calls": int, "gate": str, "weights": str, "max_error": float},
        baselines.committee_method,
    ),
    "majority": ("K calls", {}, lambda: baselines.majority),
    "weighted_vote": ("K calls", {}, lambda: baselines.weighted_vote),
    "stacking": ("K calls", {"penalty": float}, baselines.stacking),
    "mean": ("K calls", {"scores": str}, lambda **o: baselines.aggregate("mean", **o)),
    "median": ("K calls", {"scores": str}, lambda **o: baselines.aggregate("median", **o)),
    "wco": ("K calls", {"scores": str}, lambda **o: baselines.aggregate("wco", **o)),
    "uwo": (
        "K calls",
        {"scores": str, "penalty": float},
        lambda **o: baselines.aggregate("uwo", **o),
    ),
    "bayesian": (
        "online",
        {
            "without": str,
            "trust": float,
            "width": float,
            "worth": float,
            "decision_margin": float,
            **_STRENGTHS,
        },
        _BAYES["bayesian"],
    ),
    "weighted_score": ("online", {"a": float, **_STRENGTHS}, _BAYES["weighted_score"]),
}
# The order is that of the docs: rules, routers, committees, the bound.
DEFAULT = (
    *("best_train", "category_best", "by", "logistic", "ridge", "uniform", "round_robin"),
    *("adaptive", "linucb", "laser", "discounted", "exp3", "thompson"),
    *("committee", "majority", "weighted_vote", "stacking", "mean", "median", "wco", "uwo"),
    *("mean:scores=raw", "median:scores=raw", "wco:scores=raw", "uwo:scores=raw", "oracle"),
)


NOT_ROUTING = ("uniform", "round_robin", "best_train", "oracle")
"""What a verdict never recommends: baselines and the bound."""


def comparisons(labels: Sequence[str]) -> list[int]:
    """For each method of a table by how many comparisons its claim is corrected.

    So all claims together hold at 95 %. The error is shared equally among the names of the full
    table and those that are cross-fitted (arms, baselines and the bound aside), listed or not, and
    any other router that is listed. A name's share is shared among its variants: those of the full
    table, or those listed where they are more. So what is said of a method does not change with
    which of them stand in the table.
    """
    names = [split_name(text)[0] for text in labels]
    listed = Counter(names)
    usual = Counter(split_name(text)[0] for text in DEFAULT)

    # The names among which the error is shared.
    own = {name for name in listed if name in ROUTERS or name in ROUTERS.own}
    family = ({*usual, *_CROSSFIT} | own) - set(NOT_ROUTING)

    # And the variants of each name, among which its share is shared.
    counts = []
    for name in names:
        variants = max(listed[name], usual[name], 1)
        counts.append(len(family) * variants)
    return counts


def column_of(text: str) -> str | None:
    """The column that ``by:column=NAME`` reads; None for every other method."""
    name, options = split_name(text)
    if name != "by":
        return None
    allowed = _CROSSFIT["by"][1]
    return str(parse_options("router by", options, allowed).get("column", "category"))


def router_names() -> list[str]:
    """Every router name, arms aside."""
    learning = [kind.name for kind in ROUTERS if _is_online(kind.name)]
    return [*learning, *_SAME_AS, *_CROSSFIT, *_SCHEDULES, "oracle"]


def plan(requested: Sequence[str] | None, records: Records) -> list[MethodPlan]:
    """The table's rows: every arm, then the methods asked for (default: all).

    ``InputError`` for an unknown name or option, or a method that is named twice.
    """
    arms = [MethodPlan(arm, arm, "arm") for arm in records.arms]
    plans = [_plan(text, records) for text in requested or DEFAULT]
    # Arms stand in the table anyway.
    plans = [method for method in plans if method.kind != "arm"]

    count = Counter(method.label for method in plans)
    doubled = sorted(label for label, times in count.items() if times > 1)
    if doubled:
        raise InputError(f"--router {', '.join(doubled)} is given twice")
    return arms + plans


def _plan(text: str, records: Records) -> MethodPlan:
    if text in records.arms:
        return MethodPlan(text, text, "arm")
    name, options = split_name(text)
    if _is_online(name):
        kind = "online"
        allowed = _option_types(name) | ({"batch": int} if name == _LASER else {})
    elif name in _CROSSFIT:
        kind = _CROSSFIT[name][0]
        allowed = _CROSSFIT[name][1]
    elif name in _SCHEDULES or name == "oracle":
        kind = "bound" if name == "oracle" else _SCHEDULES[name][0]
        allowed = {}
    else:
        close = get_close_matches(name, [*router_names(), *records.arms], 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"unknown router {name!r}{hint} allowed: {', '.join(router_names())}, "
            f"or an arm of {records.name}"
        )
    chosen = parse_options(f"router {name}", options, allowed)
    # Without its online part the router is a rule that was learned elsewhere.
    if name == "bayesian" and chosen.get("without") == "online":
        kind = "one call"
    method = MethodPlan(text, name, kind, tuple(chosen.items()))
    _check_options(method)
    return method


def _check_options(method: MethodPlan) -> None:
    """Build the method once, so that a bad value is an error before the first run."""
    options = dict(method.options)
    if _is_online(method.name):
        if method.name == _LASER and options.get("batch", LASER_BATCH) < 1:
            raise InputError(
                f"router {_LASER}: batch={options['batch']} prompts, allowed: 1 or more"
            )
        # A user's own class may ask for the real arms and contexts: it is built in its run only.
        if not _kind(method.name).own:
            router_of(method.name, ["first", "second"], 1, options, 0)
    elif method.name in _CROSSFIT:
        make = _CROSSFIT[method.name][2]
        make(**options)


def _option_types(name: str) -> dict[str, type]:
    """The options of a router with the types that text is read as; without a type: as text."""
    types: dict[str, type] = {}
    for option, parameter in _kind(name).options.items():
        annotation = parameter.annotation
        # `float | None` is a float here; without an annotation text stays text.
        kinds = get_args(annotation) or (annotation,)
        plain = [kind for kind in (bool, int, float) if kind in kinds]
        types[option] = plain[0] if plain else str
    return types


def forced_rows(method: MethodPlan, n_arms: int) -> int:
    """Rows whose arm a router's warm-up names rather than the router: ``warmup`` payoffs an arm."""
    if not _is_online(method.name):
        return 0
    options = dict(method.options)
    arms = [str(k) for k in range(n_arms)]
    router = router_of(method.name, arms, 1, options, 0)
    decisions = router.warmup * n_arms
    if method.name != _LASER:
        return decisions
    # A decision of LASER's stands for a batch of rows.
    return decisions * int(options.get("batch", LASER_BATCH))


def run(
    method: MethodPlan,
    records: Records,
    contexts: RowContexts,
    conditions: Conditions,
    seed: int,
) -> Run:
    """One run of an arm, a schedule, an online router or the bound.

    It is deterministic in its arguments.
    """
    name = method.name
    parts = conditions.parts
    judged = records if parts is None else parts.judged
    # What learns nothing has its arm by rule.
    if method.kind == "arm":
        arm_P = np.full(len(judged), judged.arms.index(name))
        return one_arm_each(judged, arm_P)
    if name == "oracle":
        return one_arm_each(judged, baselines.oracle(judged))
    if name in _SCHEDULES:
        probs_of = _SCHEDULES[name][1]
        return scheduled(judged, probs_of, seed)

    options = dict(method.options)
    feedback = conditions.feedback
    # A prior artifact takes the place of the folds that would teach the strengths.
    if method.prior is not None:
        fitted = conditions.priors[method.prior]
        variant = _BAYES[name](**options)
        return variant.run(fitted, records, contexts, feedback, seed)

    router = router_of(name, records.arms, contexts.width, options, seed)
    batch = options.get("batch", LASER_BATCH) if name == _LASER else 0
    if parts is None:
        return online(records, contexts, router, feedback, seed, batch)
    rows = passage(records, feedback, seed, parts)
    return online_on_parts(records, contexts, router, rows, parts, batch)


def run_crossfit(
    plans: Sequence[MethodPlan],
    records: Records,
    contexts: RowContexts,
    conditions: Conditions,
    repeat: int,
) -> dict[str, MethodScores]:
    """One folding of all cross-fitted plans together: they share contexts and calibration."""
    chosen = {}
    for method in plans:
        make = _CROSSFIT[method.name][2]
        chosen[method.label] = make(**dict(method.options))
    folding = [
        replace(split, feedback=conditions.feedback, pairs=conditions.pairs)
        for split in splits(records, contexts, conditions.folds, repeat, conditions.parts)
    ]
    return crossfit(folding, chosen, conditions.parts)


def _uniform(n_rows: int, n_arms: int) -> Float:
    return np.full((n_rows, n_arms), 1 / n_arms)


def _round_robin(n_rows: int, n_arms: int) -> Float:
    return np.eye(n_arms)[np.arange(n_rows) % n_arms]


_SCHEDULES: dict[str, tuple[MethodKind, Callable[[int, int], Float]]] = {
    "uniform": ("one call", _uniform),
    "round_robin": ("online", _round_robin),
}
