from collections.abc import Callable

import numpy as np
import pytest

Made = tuple[np.ndarray, np.ndarray]


def make(n: int, strength: list[float], shared: float = 0.0, seed: int = 0) -> Made:
    """Margins of arms with given signal strengths (in noise sd) and a shared error.

    Labels are a fair coin.
    """
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.5
    noise = rng.normal(size=(n, len(strength))) + shared * rng.normal(size=(n, 1))
    return np.where(label, 1.0, -1.0)[:, None] * np.array(strength) + noise, label


@pytest.fixture
def made() -> Callable[..., Made]:
    return make
