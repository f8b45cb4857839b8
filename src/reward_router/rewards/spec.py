"""What an arm is, as data, and how it is built; the kinds lie in ``kinds/``, one file each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reward_router.errors import InputError
from reward_router.kinds import ARMS
from reward_router.rewards import loading
from reward_router.rewards.names import check_options, nearest
from reward_router.rewards.noise import noisy
from reward_router.rewards.weights import HeadKind as HeadOf
from reward_router.types import RewardModel


@dataclass(frozen=True)
class ArmSpec:
    """One reward model, as written in a configuration.

    Args:
        name: what the arm is called.
        kind: a name of the table, or ``package.module:Class``.
        model: a name for `reward_router.rewards.loading`, for kinds with weights, of which some
            have a default.
        options: the kind's own, and of every kind ``noise`` (the standard deviation of what is
            added to the scores) and ``noise_seed``; of kinds with weights also ``dtype`` and
            ``trust_remote_code``.
        cost: the price of one call, in the run's own unit.
    """

    name: str
    kind: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0


@dataclass(frozen=True)
class ModelSource:
    """What has to be loaded for an arm; arms with equal sources share one copy."""

    loader: str
    model: str
    dtype: str
    device: str
    trust_remote_code: bool = False


HEADS: dict[str, HeadOf] = {"causal": "causal", "classifier": "classifier", "encoder": "body"}
"""What each loader needs of a checkpoint."""
_EVERY = ("noise", "noise_seed")
_WEIGHTS = ("dtype", "trust_remote_code")


def needs_gold(spec: ArmSpec) -> bool:
    """Whether an arm is given the prompts' rules.

    Then its scores depend on the data, too, and are not kept on disk.
    """
    return ARMS[spec.kind].needs_gold


def check_spec(spec: ArmSpec) -> None:
    """InputError, with the nearest name, where kind, option or model of an arm cannot be right.

    Nothing is loaded.
    """
    what = f"arm {spec.name!r}"
    try:
        kind = ARMS[spec.kind]
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    options = _own_options(spec)
    if kind.loader is None and spec.model is not None and not kind.names_model:
        raise InputError(f"{what}: kind {spec.kind} takes no model, given {spec.model!r}")
    if kind.loader is not None and not (spec.model or kind.default_model):
        raise InputError(
            f"{what}: kind {spec.kind} needs a model: a directory, a Hub name, "
            f"or {', '.join(loading.PACKAGED_MODELS)}"
        )
    check_options(f"{what} (kind {spec.kind})", kind.make, options, kind.hidden)
    if kind.check is not None:
        try:
            kind.check(options)
        except InputError as error:
            raise InputError(f"{what}: {error}") from None
    dtype = spec.options.get("dtype", "auto")
    if kind.loader is not None and dtype not in loading.DTYPES:
        raise InputError(f"{what}: dtype {dtype!r} is unknown{nearest(str(dtype), loading.DTYPES)}")


def source_of(spec: ArmSpec, *, dtype: str = "auto", device: str = "cpu") -> ModelSource | None:
    """What an arm has to load; None for an arm without weights.

    The arm's own ``dtype`` wins over the pool's.
    """
    kind = ARMS[spec.kind]
    if kind.loader is None:
        return None
    name = spec.model or kind.default_model or ""
    trusted = bool(spec.options.get("trust_remote_code", False))
    own_dtype = str(spec.options.get("dtype", dtype))
    return ModelSource(kind.loader, name, own_dtype, device, trusted)


def load_model(source: ModelSource) -> tuple[Any, ...]:
    """(model, tokenizer), or (encoder,); InputError where it cannot be had."""
    trusted = source.trust_remote_code
    loaders: dict[str, Callable[..., Any]] = {
        "causal": loading.load_causal_lm,
        "classifier": loading.load_classifier,
        "encoder": loading.load_encoder,
    }
    model = loaders[source.loader](
        source.model, dtype=source.dtype, device=source.device, trust_remote_code=trusted
    )
    if source.loader == "encoder":
        return (model,)
    return model, loading.load_tokenizer(source.model, trust_remote_code=trusted)


def build_arm(
    spec: ArmSpec,
    loaded: Sequence[Any] | None = None,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    gold: Any = None,
) -> RewardModel:
    """The reward model of a spec.

    InputError for an unknown kind or option, or a model or package that is not there.

    Args:
        spec: the arm.
        loaded: what `load` returned for its source; None: it is loaded now.
        dtype: of what is loaded, where the arm names none.
        device: where that runs.
        gold: the known prompts, for kinds that need them.

    >>> arm = build_arm(ArmSpec("brief", "metric", options={"metric": "length"}))
    >>> arm.score(["x"], [["one two"]]).tolist()
    [[-2.0]]
    """
    check_spec(spec)
    kind = ARMS[spec.kind]
    source = source_of(spec, dtype=dtype, device=device)
    if loaded is None:
        loaded = () if source is None else load_model(source)
    options = _own_options(spec)
    if source is not None and kind.check_loaded is not None:
        kind.check_loaded(options, source.model)
    if kind.needs_gold:
        options["gold"] = gold
    model = kind.make(*loaded, **options)
    if not isinstance(model, RewardModel):
        raise InputError(
            f"arm {spec.name!r}: kind {spec.kind} has no method score(prompts, responses)"
        )
    if "noise" in spec.options:
        sd = float(spec.options["noise"])
        seed = int(spec.options.get("noise_seed", 0))
        return noisy(model, sd, seed, spec.name)
    return model


def _own_options(spec: ArmSpec) -> dict[str, Any]:
    kind = ARMS[spec.kind]
    common = _EVERY if kind.loader is None else _EVERY + _WEIGHTS
    options = {name: value for name, value in spec.options.items() if name not in common}
    if kind.names_model and spec.model is not None:
        options["model"] = spec.model
    return options
