"""What the linear routers may switch on, and the checks of what they are made with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from reward_router import checks
from reward_router.errors import InputError
from reward_router.types import Float


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64, or InputError."""
    try:
        checked = np.dtype(dtype)
    except TypeError as error:
        raise InputError(f"dtype must be float32 or float64, got {dtype!r}") from error

    if checked not in (np.float32, np.float64):
        raise InputError(f"dtype must be float32 or float64, got {checked}")

    return checked


def checked_prior(
    prior_mean: object, n_arms: int, dim: int, intercept: float | None = None
) -> Float:
    """(K, D) finite prior means, zeros for None, or InputError.

    With ``intercept`` the means are (K, D + 1): the intercept's is the last, 0 where not given.
    """
    width = dim + (intercept is not None)
    out_KD = np.zeros((n_arms, width))
    if prior_mean is None:
        return out_KD

    mean_KD = np.asarray(prior_mean)
    expected = width if mean_KD.shape[-1:] == (width,) else dim
    prior_KD = checks.contexts(mean_KD, expected).astype(np.float64)
    if len(prior_KD) != n_arms:
        raise InputError(
            f"prior_mean must have one row an arm: ({n_arms}, {dim}), got {prior_KD.shape}"
        )

    out_KD[:, : prior_KD.shape[1]] = prior_KD
    return out_KD


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What the linear routers may switch on, as their constructors document it."""

    discount: float = 1.0
    window: int | None = None
    huber: float | None = None
    center: bool = False
    intercept: float | None = None
    trust: float | None = None
    trust_precision: float | None = None
    trust_discount: float = 0.99

    def __post_init__(self) -> None:
        """Check every range."""
        checks.real("discount", self.discount, 0.0, 1.0, above=True)
        for name in ("huber", "intercept", "trust_precision"):
            if (value := getattr(self, name)) is not None:
                checks.real(name, value, 0.0, 1e12, above=True)

        if self.window is not None:
            checks.whole("window", self.window, 1, 10**9)

        if self.trust is not None and not 0 < checks.real("trust", self.trust, 0.0, 1.0) < 1:
            raise InputError(
                f"trust is a prior probability strictly between 0 and 1, got {self.trust}"
            )

        checks.real("trust_discount", self.trust_discount, 0.0, 1.0, above=True)

    @property
    def fading(self) -> bool:
        """Whether evidence is ever forgotten."""
        return self.discount < 1 or self.window is not None
