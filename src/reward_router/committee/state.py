"""A plan as arrays and back: what `state_dict` writes, bit for bit, without pickles."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.committee.calibrate import Calibrator
from reward_router.committee.plan import CommitteePlan
from reward_router.types import State

ARRAYS = (
    "z_GK",
    "corr_KK",
    "sd_K",
    "order_GT",
    "weight_GTT",
    "temperature_T",
    "bound_TL",
    "prices_L",
    "cost_L",
)


def plan_arrays(plan: CommitteePlan) -> State:
    """Every array of a plan, its curves prefixed ``curve.``."""
    arrays: State = {}
    for name in ARRAYS:
        arrays[name] = getattr(plan, name).copy()
    for name, value in plan.calibrator.state_dict().items():
        arrays[f"curve.{name}"] = value
    arrays["intensity"] = np.array(plan.intensity)
    arrays["by_category"] = np.array(plan.by_category)
    arrays["weights"] = np.array(plan.weights)
    return arrays


def plan_from(state: Mapping[str, NDArray[Any]], n_arms: int) -> CommitteePlan | None:
    """The plan of a state, or None where the state was saved before a fit."""
    if "z_GK" not in state:
        return None

    calibrator = Calibrator(n_arms)
    curves = {
        name.removeprefix("curve."): value
        for name, value in state.items()
        if name.startswith("curve.")
    }
    calibrator.load_state_dict(curves)
    arrays = {name: np.array(state[name]) for name in ARRAYS}

    if "weights" in state:
        weights = str(state["weights"])
    else:  # as states said it before there were four kinds of weights
        weights = "signed" if state["signed"] else "safe"

    return CommitteePlan(
        calibrator,
        **arrays,
        intensity=float(state["intensity"]),
        by_category=bool(state["by_category"]),
        weights=weights,
    )
