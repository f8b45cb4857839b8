"""Options stand beside ``name`` and are stored as written.

Resolved configurations of every version load.
"""

from typing import Any

import pytest

from reward_router import config
from reward_router.errors import InputError
from reward_router.kinds import PAYOFFS, ROUTERS

NULLS = (
    *(
        "arm",
        "alpha",
        "ridge",
        "warmup",
        "discount",
        "explore",
        "gamma",
        "eta",
        "prior_precision",
        "noise_sd",
        "window",
    ),
    *("huber", "center", "intercept", "prior", "without", "trust"),
)
"""What the resolved configuration of an earlier version held for every router.

It is null where it was not given.
"""


def router(**given: Any) -> config.RouterConfig:
    return config.validate({"router": given}, "run.yaml").router


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linucb", {"alpha": 0.05, "center": True}),
        ("linucb", {"init": "random"}),
        ("bayesian", {"prior": "embedded-prior", "intercept": 500.0, "without": "offline"}),
        ("exp3", {"eta": 0.5}),
        ("uniform", {}),
        ("round_robin", {"per": "iteration"}),
    ],
)
def test_a_resolved_configuration_of_an_earlier_version_loads(
    name: str, options: dict[str, Any]
) -> None:
    old = {"per": "decision", "init": "zeros", **dict.fromkeys(NULLS), **options}
    loaded = router(name=name, unit="prompt", mode="route", ensemble="zscore", **old)
    own = {
        key: value
        for key, value in loaded.options.items()
        if key not in config.ONCE_EVERYWHERE or key in options
    }
    assert own == options
    assert loaded.by_iteration == (old["per"] == "iteration")


@pytest.mark.parametrize("preset", config.presets())
def test_what_is_written_down_is_what_was_loaded(preset: str) -> None:
    loaded = config.load(None, preset)
    assert config.validate(config.parse_yaml(config.dump(loaded), preset), preset) == loaded


@pytest.mark.parametrize("name", ROUTERS.names())
def test_an_option_of_no_router_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(InputError, match=f"tastes is no option of {name}; it takes "):
        router(name=name, unit="prompt", tastes=1)


def test_a_value_out_of_range_is_found_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match=r"discount must lie in \(0, 1\], got 2"):
        router(name="thompson", discount=2)
    with pytest.raises(InputError, match=r"router.alpha: .*valid number.*got 'fast'"):
        router(name="linucb", alpha="fast")
    with pytest.raises(InputError, match="trust must lie in"):
        router(name="bayesian", prior="embedded-prior", trust=2)


def test_a_function_by_its_path_is_a_payoff() -> None:
    payoff = config.validate({"payoff": {"name": "my.payoffs:mine"}}, "run.yaml").payoff
    assert (payoff.name, payoff.path, payoff.kind) == (
        "python",
        "my.payoffs:mine",
        PAYOFFS["python"],
    )
    with pytest.raises(InputError, match="did you mean probe"):
        config.validate({"payoff": {"name": "prob"}}, "run.yaml")
