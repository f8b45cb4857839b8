"""A linear model as arrays and back, bit for bit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.posterior.model import LinearModel
from reward_router.types import Float, State


def state_of(model: LinearModel) -> State:
    """Everything learned, as copies."""
    state: State = {
        "pulls_K": model.pulls_K.copy(),
        "evidence_K2": model.evidence_K2.copy(),
        "prior_KD": np.array(model.prior_K),
        "counts": np.array([model.clock], np.int64),
        "payoffs": np.array([model.payoff_sum, model.payoff_weight]),
        "dtype": np.array(model.dtype.name),
        "setup": _setup(model),
    }
    for k, arm in enumerate(model.arms):
        for c, component in enumerate(arm):
            state |= {f"{k}/{c}/{name}": value for name, value in component.state().items()}

    return state


def _setup(model: LinearModel) -> Float:
    """What the numbers in a state mean; -1 stands for an option that is off."""
    options = model.options
    # the order is part of the state's format
    listed = (
        options.discount,
        options.window,
        options.huber,
        float(options.center),
        options.intercept,
        options.trust,
        options.trust_discount,
    )
    numbers = [-1.0 if value is None else float(value) for value in listed]
    return np.array([*numbers, model.noise_var, model.payoff_sd, *model.precisions])


def loaded(like: LinearModel, state: Mapping[str, NDArray[Any]]) -> LinearModel:
    """A new model in this state and with the options of ``like``, which is untouched.

    InputError where the state does not fit.
    """
    dtype = str(np.asarray(state.get("dtype")))
    if dtype not in ("float32", "float64"):
        raise InputError(f"state 'dtype' must be float32 or float64, got {dtype}")

    stored_KD = checks.stored(state, "", "prior_KD", np.float64, (None, None))
    # before intercepts had prior means, D numbers were stored
    if stored_KD.shape[1] not in (like.dim, like.width):
        raise InputError(f"state 'prior_KD' must be (K, {like.width}), got {stored_KD.shape}")

    prior_KD = np.pad(stored_KD, ((0, 0), (0, like.width - stored_KD.shape[1])))
    checks.whole("arms in the state", len(prior_KD), 1, checks.MAX_ARMS)
    if not np.array_equal(checks.stored(state, "", "setup", np.float64, (None,)), _setup(like)):
        raise InputError(
            "this state was learned under other options (discount, window, huber, center, "
            "intercept, trust, noise or precision): "
            f"{np.asarray(state['setup']).tolist()} against {_setup(like).tolist()}"
        )

    args = like.precisions[0], like.noise_var, like.payoff_sd, np.dtype(dtype), like.options
    model = LinearModel(prior_KD, *args)
    model.pulls_K = checks.stored(state, "", "pulls_K", np.int64, (len(prior_KD),))
    model.evidence_K2 = checks.stored(state, "", "evidence_K2", np.float64, (len(prior_KD), 2))
    model.clock = int(checks.stored(state, "", "counts", np.int64, (1,))[0])
    payoffs = checks.stored(state, "", "payoffs", np.float64, (2,))
    model.payoff_sum, model.payoff_weight = payoffs.tolist()
    _load_arms(model, state)

    return model


def _load_arms(model: LinearModel, state: Mapping[str, NDArray[Any]]) -> None:
    expected = 0
    for k, arm in enumerate(model.arms):
        for c, component in enumerate(arm):
            component.load(state, f"{k}/{c}/")
            expected += len(component.state_names)

    arrays = sum("/" in name for name in state)
    if arrays != expected:
        raise InputError(f"the state holds {arrays} arm arrays, {expected} were expected")
