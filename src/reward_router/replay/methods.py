"""Every name ``--router`` knows: what it is, which options it takes, how it is run. Arms go by their own names."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, get_args

import numpy as np

from reward_router.errors import InputError
from reward_router.kinds import ROUTERS, RouterKind, is_import_path
from reward_router.replay import baselines, bayesian
from reward_router.replay.embed import Contexts
from reward_router.replay.feedback import Feedback
from reward_router.replay.joined import Parts
from reward_router.replay.offline_stage import Fitted
from reward_router.replay.protocols import (
    Judged,
    Method,
    Run,
    crossfit,
    one_arm_each,
    online,
    scheduled,
)
from reward_router.replay.records import Records
from reward_router.replay.spec import parse_options, split_name
from reward_router.routers.binding import bound
from reward_router.types import Float, Router

Kind = str  # arm | online | one call | committee | K calls | bound
LASER_BATCH = 16  # prompts that share one decision, as in the paper


@dataclass(frozen=True)
class Plan:
    """How one table row is produced. ``seeds`` runs of an online router; everything else runs once."""

    label: str
    name: str
    kind: Kind
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
        found = dict(self.options).get("prior")
        return str(found) if found else None

    @property
    def learns_strengths(self) -> bool:
        """Whether it has BayesianRouter's offline stage."""
        return self.name in _BAYES and self.prior is None


@dataclass(frozen=True)
class Protocol:
    """What all runs of one replay share."""

    feedback: Feedback
    folds: int
    repeats: int
    pairs: Contexts | None = None
    priors: Mapping[str, Fitted] = field(default_factory=dict)
    parts: Parts | None = None


_LASER = "laser"
_SAME_AS = {_LASER: "linucb"}
"""Names that replay has beside the table's: LASER is LinUCB with one decision a batch of prompts."""


def _is_online(name: str) -> bool:
    """Whether a name is that of a router that learns while it goes through the file; others have ways of their own."""
    if name in _CROSSFIT or name in _SCHEDULES:
        return False
    return name in _SAME_AS or is_import_path(name) or (name in ROUTERS and ROUTERS[name].learns)


def _kind(name: str) -> RouterKind:
    return ROUTERS[_SAME_AS.get(name, name)]


def _router(
    name: str, arms: Sequence[str], dim: int, options: Mapping[str, Any], seed: int
) -> Router:
    """The router of this name, checked; its options are replay's own defaults where they are not given."""
    own = {key: value for key, value in options.items() if key != "batch" or name != _LASER}
    kind = _kind(name)
    return bound(kind.build(arms, dim, {**kind.in_replay, **own}, seed=seed))


_STRENGTHS = {"dim": int, "lambda_cls": float, "balance": bool, "prior": str}

_BAYES: dict[str, Callable[..., bayesian.Variant]] = {
    "bayesian": bayesian.bayesian,
    "weighted_score": bayesian.weighted_score,
}

_CROSSFIT: dict[str, tuple[Kind, dict[str, type], Callable[..., Method]]] = {
    "best_train": ("one call", {}, lambda: baselines.best_train),
    "category_best": ("one call", {}, lambda: baselines.category_best),
    "by": ("one call", {"column": str, "prior": float}, baselines.by_column),
    "logistic": ("one call", {"penalty": float}, baselines.logistic),
    "ridge": ("one call", {"penalty": float}, baselines.ridge),
    "committee": (
        "committee",
        {"price": float, "max_calls": int, "gate": str, "weights": str, "max_error": float},
        baselines.committee,
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
        {"without": str, "trust": float, "width": float, **_STRENGTHS},
        _BAYES["bayesian"],
    ),
    "weighted_score": ("online", {"a": float, **_STRENGTHS}, _BAYES["weighted_score"]),
}
DEFAULT = (
    *("best_train", "category_best", "by", "logistic", "ridge", "uniform", "round_robin"),
    *("adaptive", "linucb", "laser", "discounted", "exp3", "thompson"),
    *("committee", "majority", "weighted_vote", "stacking", "mean", "median", "wco", "uwo"),
    *("mean:scores=raw", "median:scores=raw", "wco:scores=raw", "uwo:scores=raw", "oracle"),
)


NOT_ROUTING = ("uniform", "round_robin", "best_train", "oracle")
"""What a verdict never recommends: baselines and the bound."""


def comparisons(labels: Sequence[str]) -> list[int]:
    """For each method of a table by how many comparisons its claim is corrected, so that all claims together hold at 95 %.

    The error is shared equally among the names of the full table and those that are cross-fitted (arms, baselines and the bound
    aside), listed or not, and any other router that is listed; a name's share among its variants: those of the full table, or
    those listed where they are more. So what is said of a method does not change with which of them stand in the table.
    """
    listed, usual = (Counter(split_name(text)[0] for text in given) for given in (labels, DEFAULT))
    known = {*usual, *_CROSSFIT} - set(NOT_ROUTING)
    known |= {name for name in listed if name in ROUTERS or name in ROUTERS.own} - set(NOT_ROUTING)
    variants = [
        max(listed[name], usual[name], 1) for name in (split_name(text)[0] for text in labels)
    ]
    return [len(known) * count for count in variants]


def column_of(text: str) -> str | None:
    """The column that ``by:column=NAME`` reads; None for every other method."""
    name, options = split_name(text)
    if name != "by":
        return None
    return str(parse_options("router by", options, _CROSSFIT["by"][1]).get("column", "category"))


def names() -> list[str]:
    """Every router name, arms aside."""
    learning = [kind.name for kind in ROUTERS if _is_online(kind.name)]
    return [*learning, *_SAME_AS, *_CROSSFIT, *_SCHEDULES, "oracle"]


def plan(requested: Sequence[str] | None, records: Records) -> list[Plan]:
    """The table's rows: every arm, then the methods asked for (default: all). ``InputError`` for an unknown name or key."""
    arms = [Plan(arm, arm, "arm") for arm in records.arms]
    plans = [p for p in (_plan(text, records) for text in requested or DEFAULT) if p.kind != "arm"]
    doubled = {p.label for p in plans if sum(q.label == p.label for q in plans) > 1}
    if doubled:
        raise InputError(f"--router {', '.join(sorted(doubled))} is given twice")
    return arms + plans


def _plan(text: str, records: Records) -> Plan:
    if text in records.arms:
        return Plan(text, text, "arm")
    name, options = split_name(text)
    if _is_online(name):
        kind, allowed = "online", _option_types(name) | ({"batch": int} if name == _LASER else {})
    elif name in _CROSSFIT:
        kind, allowed = _CROSSFIT[name][0], _CROSSFIT[name][1]
    elif name in _SCHEDULES or name == "oracle":
        kind, allowed = ("bound" if name == "oracle" else _SCHEDULES[name][0]), {}
    else:
        close = get_close_matches(name, [*names(), *records.arms], 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"unknown router {name!r}{hint} allowed: {', '.join(names())}, or an arm of {records.name}"
        )
    chosen = parse_options(f"router {name}", options, allowed)
    if name == "bayesian" and chosen.get("without") == "online":
        kind = "one call"
    found = Plan(text, name, kind, tuple(chosen.items()))
    _try(found)
    return found


def _try(found: Plan) -> None:
    """Build it once, so that a bad value is an error before the first run."""
    if _is_online(found.name):
        _check_batch(found)
        if not _kind(found.name).own:
            _router(found.name, ["first", "second"], 1, dict(found.options), 0)
    elif found.name in _CROSSFIT:
        _CROSSFIT[found.name][2](**dict(found.options))


def _check_batch(found: Plan) -> None:
    batch = dict(found.options).get("batch", LASER_BATCH)
    if found.name == _LASER and batch < 1:
        raise InputError(f"router {_LASER}: batch={batch} prompts, allowed: 1 or more")


def _option_types(name: str) -> dict[str, type]:
    """The options of a router with the types that text is read as; None is not typed but left out."""
    types: dict[str, type] = {}
    for option, parameter in _kind(name).options.items():
        kinds = get_args(parameter.annotation) or (parameter.annotation,)
        plain = [kind for kind in (bool, int, float) if kind in kinds]
        types[option] = plain[0] if plain else str
    return types


def forced_rows(found: Plan, n_arms: int) -> int:
    """Rows whose arm a router's warm-up names rather than the router: ``warmup`` payoffs an arm."""
    if not _is_online(found.name):
        return 0
    options = dict(found.options)
    arms = [str(k) for k in range(n_arms)]
    rows = _router(found.name, arms, 1, options, 0).warmup * n_arms
    return rows * int(options.get("batch", LASER_BATCH)) if found.name == _LASER else rows


def run(found: Plan, records: Records, contexts: Contexts, protocol: Protocol, seed: int) -> Run:
    """One run of an arm, a schedule, an online router or the bound; deterministic in its arguments."""
    judged = records if protocol.parts is None else protocol.parts.judged
    if found.kind == "arm":
        return one_arm_each(judged, np.full(len(judged), judged.arms.index(found.name)))
    if found.name == "oracle":
        return one_arm_each(judged, baselines.oracle(judged))
    if found.name in _SCHEDULES:
        return scheduled(judged, _SCHEDULES[found.name][1], seed)
    options = dict(found.options)
    if found.prior is not None:
        variant = _BAYES[found.name](**options)
        return variant.run(protocol.priors[found.prior], records, contexts, protocol.feedback, seed)
    router = _router(found.name, records.arms, contexts.width, options, seed)
    batch = options.get("batch", LASER_BATCH) if found.name == _LASER else 0
    return online(records, contexts, router, protocol.feedback, seed, batch, protocol.parts)


def run_crossfit(
    plans: Sequence[Plan], records: Records, contexts: Contexts, protocol: Protocol, repeat: int
) -> dict[str, Judged]:
    """One folding of all cross-fitted plans together: they share contexts and calibration."""
    chosen = {p.label: _CROSSFIT[p.name][2](**dict(p.options)) for p in plans}
    told = protocol.feedback, protocol.pairs, protocol.parts
    return crossfit(records, contexts, chosen, protocol.folds, repeat, *told)


def _uniform(n_rows: int, n_arms: int) -> Float:
    return np.full((n_rows, n_arms), 1 / n_arms)


def _round_robin(n_rows: int, n_arms: int) -> Float:
    return np.eye(n_arms)[np.arange(n_rows) % n_arms]


_SCHEDULES: dict[str, tuple[Kind, Callable[[int, int], Float]]] = {
    "uniform": ("one call", _uniform),
    "round_robin": ("online", _round_robin),
}
