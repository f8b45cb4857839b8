"""Rules about texts: length, readability, grammar, a pattern, all from ``rewards.metric``."""

from collections.abc import Mapping
from typing import Any

from reward_router.errors import InputError
from reward_router.kinds import ArmKind, nearest
from reward_router.rewards.identity import metric_code
from reward_router.rewards.metric import METRICS, Metric
from reward_router.rewards.names import check_options


def _check(options: Mapping[str, Any]) -> None:
    name = options["metric"]
    if name not in METRICS:
        raise InputError(f"metric {name!r} is unknown{nearest(str(name), METRICS)}")
    # All others go to the metric's own function.
    own = {option: value for option, value in options.items() if option != "metric"}
    function = METRICS[name]
    check_options(f"metric {name}", function, own)


KIND = ArmKind(
    "metric",
    Metric,
    "a text function by name",
    ragged=True,
    check=_check,
    code=metric_code,
)
