"""What an arm is, as data, and how it is built: the table of kinds and their options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reward_router.errors import InputError
from reward_router.rewards import loading
from reward_router.rewards.classifier import Classifier
from reward_router.rewards.embedding import Embedding
from reward_router.rewards.head import Head, check_encoder, head_name
from reward_router.rewards.kinds.http import Http
from reward_router.rewards.kinds.judge import Judge
from reward_router.rewards.loglik import REDUCTIONS, LogLik
from reward_router.rewards.metric import METRICS, Metric
from reward_router.rewards.names import check_options, nearest
from reward_router.rewards.noise import Noisy
from reward_router.rewards.python import load_python
from reward_router.rewards.weights import Head as HeadOf
from reward_router.types import RewardModel


@dataclass(frozen=True)
class ArmSpec:
    """One reward model, as written in a configuration.

    ``model`` is a name for `reward_router.rewards.loading` (kinds with weights only; embedding has a default), ``options``
    the kind's own, ``cost`` the price of one call in the run's own unit. Options of every kind: ``noise`` (standard
    deviation added to the scores) and ``noise_seed``; of kinds with weights: ``dtype`` and ``trust_remote_code``.
    """

    name: str
    kind: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0


@dataclass(frozen=True)
class Source:
    """What has to be loaded for an arm; arms with equal sources share one copy."""

    loader: str
    model: str
    dtype: str
    device: str
    trust_remote_code: bool = False


def _loglik(loaded: Any, **options: Any) -> RewardModel:
    return LogLik(*loaded, **options)


def _classifier(loaded: Any, **options: Any) -> RewardModel:
    return Classifier(*loaded, **options)


def _embedding(loaded: Any, **options: Any) -> RewardModel:
    return Embedding(loaded, **options)


def _head(loaded: Any, **options: Any) -> RewardModel:
    return Head(loaded, **options)


def _metric(_: Any, **options: Any) -> RewardModel:
    return Metric(**options)


def _http(_: Any, **options: Any) -> RewardModel:
    return Http(**options)


def _judge(_: Any, **options: Any) -> RewardModel:
    return Judge(**options)


def _python(_: Any, **options: Any) -> RewardModel:
    return load_python(**options)


@dataclass(frozen=True)
class _Kind:
    build: Callable[..., RewardModel]
    signature: Callable[..., Any]
    loader: str | None = None
    hidden: tuple[str, ...] = ()
    default_model: str | None = None
    served: bool = False


KINDS: dict[str, _Kind] = {
    "loglik": _Kind(_loglik, LogLik, "causal", ("model", "tokenizer", "share")),
    "classifier": _Kind(_classifier, Classifier, "classifier", ("model", "tokenizer")),
    "embedding": _Kind(_embedding, Embedding, "encoder", ("encoder",), loading.MINILM),
    "head": _Kind(_head, Head, "encoder", ("encoder",), loading.MINILM),
    "metric": _Kind(_metric, Metric),
    "http": _Kind(_http, Http, hidden=("transport",), served=True),
    "judge": _Kind(_judge, Judge, hidden=("transport",), served=True),
    "python": _Kind(_python, load_python),
}
HEADS: dict[str, HeadOf] = {"causal": "causal", "classifier": "classifier", "encoder": "body"}
"""What each loader needs of a checkpoint."""
_EVERY = ("noise", "noise_seed")
_WEIGHTS = ("dtype", "trust_remote_code")


def check_spec(spec: ArmSpec) -> None:
    """InputError where kind, option or model of an arm cannot be right; loads nothing. The nearest name is offered."""
    what = f"arm {spec.name!r}"
    if spec.kind not in KINDS:
        raise InputError(f"{what}: kind {spec.kind!r} is unknown{nearest(spec.kind, KINDS)}")
    kind, own = KINDS[spec.kind], _own_options(spec)
    if kind.loader is None and spec.model is not None and not kind.served:
        raise InputError(f"{what}: kind {spec.kind} takes no model, given {spec.model!r}")
    if kind.loader is not None and not (spec.model or kind.default_model):
        raise InputError(
            f"{what}: kind {spec.kind} needs a model: a directory, a Hub name, or {', '.join(loading.EMBEDDED)}"
        )
    check_options(f"{what} (kind {spec.kind})", kind.signature, own, kind.hidden)
    reduction = own.get("reduction")
    if spec.kind == "loglik" and reduction is not None and reduction not in REDUCTIONS:
        raise InputError(f"{what}: reduction {reduction!r} is unknown{nearest(str(reduction), REDUCTIONS)}")
    if spec.kind == "metric":
        _check_metric(what, own)
    if spec.kind == "head":
        _check_head(what, own)
    if kind.loader is not None and (dtype := spec.options.get("dtype", "auto")) not in loading.DTYPES:
        raise InputError(f"{what}: dtype {dtype!r} is unknown{nearest(str(dtype), loading.DTYPES)}")


def source_of(spec: ArmSpec, *, dtype: str = "auto", device: str = "cpu") -> Source | None:
    """What an arm has to load, None for an arm without weights; the arm's own ``dtype`` wins over the pool's."""
    kind = KINDS[spec.kind]
    if kind.loader is None:
        return None
    trusted = bool(spec.options.get("trust_remote_code", False))
    name = spec.model or kind.default_model or ""
    return Source(kind.loader, name, str(spec.options.get("dtype", dtype)), device, trusted)


def load(source: Source) -> Any:
    """(model, tokenizer), or the encoder; InputError where it cannot be had."""
    options: dict[str, Any] = {"trust_remote_code": source.trust_remote_code}
    where: dict[str, Any] = {"dtype": source.dtype, "device": source.device, **options}
    if source.loader == "encoder":
        return loading.load_encoder(source.model, **where)
    models = {"causal": loading.load_causal_lm, "classifier": loading.load_classifier}
    return models[source.loader](source.model, **where), loading.load_tokenizer(source.model, **options)


def build(spec: ArmSpec, loaded: Any = None, *, dtype: str = "auto", device: str = "cpu") -> RewardModel:
    """The reward model of a spec, on what `load` returned for its source (loaded now where None is given).

    InputError for an unknown kind or option, or a model or package that is not there.

    >>> build(ArmSpec("brief", "metric", options={"metric": "length"})).score(["x"], [["one two"]]).tolist()
    [[-2.0]]
    """
    check_spec(spec)
    source = source_of(spec, dtype=dtype, device=device)
    if loaded is None and source is not None:
        loaded = load(source)
    if spec.kind == "head" and source is not None:
        check_encoder(str(spec.options["weights"]), source.model, loading.model_identity(source.model))
    model = KINDS[spec.kind].build(loaded, **_own_options(spec))
    if "noise" in spec.options:
        return Noisy(model, float(spec.options["noise"]), int(spec.options.get("noise_seed", 0)), spec.name)
    return model


def _own_options(spec: ArmSpec) -> dict[str, Any]:
    common = _EVERY if KINDS[spec.kind].loader is None else _EVERY + _WEIGHTS
    own = {name: value for name, value in spec.options.items() if name not in common}
    return {**own, "model": spec.model} if KINDS[spec.kind].served and spec.model is not None else own


def _check_head(what: str, own: dict[str, Any]) -> None:
    weights, head = own["weights"], own.get("head")
    if not isinstance(weights, str) or not isinstance(head, str | None):
        raise InputError(
            f"{what}: weights is a folder or a packaged name, and head a name; given {weights!r} and {head!r}"
        )
    try:
        head_name(weights, head)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _check_metric(what: str, own: dict[str, Any]) -> None:
    name = own["metric"]
    if name not in METRICS:
        raise InputError(f"{what}: metric {name!r} is unknown{nearest(str(name), METRICS)}")
    check_options(f"{what} (metric {name})", METRICS[name], {k: v for k, v in own.items() if k != "metric"})
