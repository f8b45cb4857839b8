"""The configuration of a run: what each key means, its range and its default.

YAML goes in and is validated by pydantic; an error names the nearest key. Every default below is
the library's. The embedded default run lies in ``configs/default.yaml``, the paper's settings in
``configs/laser*.yaml``. Reading a file never loads a model.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reward_router.errors import InputError
from reward_router.kinds import (
    ARMS,
    PAYOFFS,
    ROUTERS,
    TRACKERS,
    OptionError,
    PayoffKind,
    did_you_mean,
    is_import_path,
)
from reward_router.secrecy import refuse_secrets
from reward_router.types import Truncated

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

DEFAULT_ROUTER = "adaptive"
"""Of a configuration that names none."""

AnySection = TypeVar("AnySection", bound=BaseModel)


class Section(BaseModel):
    """A part of the configuration.

    Unknown keys are refused, and values are never silently coerced to nonsense.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Where prompts come from: ``embedded`` (generated), a file, or a data set of the Hub.

    A file is JSON lines, a JSON array or CSV, each also gzipped, or Parquet.
    """

    source: str = "embedded"
    name: str | None = Field(
        default=None, description="configuration name of a Hub data set, e.g. `main` of gsm8k"
    )
    split: str = "train"
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "our name -> the data's column (prompt, answer, category, id; for `arms check` also "
            "chosen, rejected, source)"
        ),
    )
    preference: str | None = Field(
        default=None,
        description=(
            "for `arms check`: the column that says which response is better (see docs/data.md)"
        ),
    )
    template: str | None = Field(default=None, description="prompt template with {column} fields")
    limit: Count | None = None
    categories: list[str] | None = Field(default=None, description="keep only these categories")
    long_prompts: Literal["refuse", "skip"] = Field(
        default="refuse",
        description=(
            "what becomes of prompts longer than policy.max_prompt_tokens; skipped ones are counted"
        ),
    )
    answer_kind: Literal["number", "yes_no", "letter", "math", "exact"] | None = Field(
        default=None,
        description="how a response's answer is read and compared with the data's; none: no gold",
    )


class PolicyConfig(Section):
    """The language model being aligned and how it is sampled."""

    model: str = "smollm2-135m-instruct"
    dtype: Literal["float32", "bfloat16"] = "float32"
    sample_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    engine: Literal["transformers", "vllm"] = "transformers"
    device: str = "auto"
    system: str | None = None
    n_responses: Annotated[int, Field(ge=2)] = 6
    temperature: Positive = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Count = 96
    max_prompt_tokens: Count = 1024
    sample_batch: Count = 128
    trust_remote_code: bool = False


class ArmRayConfig(Section):
    """Where one arm runs under ``serve --ray``; other commands do not read it.

    ``ray: own`` is short for ``ray: {place: own}``. Arms on one model and in one place share its
    weights, and the largest of their numbers holds for all of them.
    """

    place: Literal["auto", "own", "shared", "router"] = Field(
        default="auto",
        description=(
            "a deployment of its model's own, the shared one, or the router's process; auto: own "
            "for language models and classifiers, router for services, shared for all others"
        ),
    )
    replicas: Count = Field(default=1, description="copies of a deployment of its own")
    cpus: NonNegative = Field(default=1.0, description="of each copy")
    gpus: NonNegative | None = Field(
        default=None, description="of each copy; null: 1 where Ray has GPUs"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"place": given} if isinstance(given, str) else given


class RayConfig(Section):
    """What ``serve --ray`` starts beside the deployments of single models."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")] = Field(
        default="reward-router", description="of the router in Ray"
    )
    replicas: Count = Field(default=1, description="copies of the shared deployment")
    models: Count = Field(default=3, description="loaded models of each copy")
    cpus: NonNegative = Field(default=1.0, description="of each copy")
    gpus: NonNegative = Field(default=0.0, description="of each copy")


class ArmConfig(BaseModel):
    """One reward model.

    Keys beyond these are the kind's own options (``reduction``, ``metric``, ``path``, ...).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    kind: str = Field(description="a kind of reward model, or package.module:Class")
    model: str | None = None
    cost: NonNegative = 1.0
    eval_only: bool = Field(
        default=False, description="whether it is only looked at: it never judges, trains or pays"
    )
    eval_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of the prompts that an arm with eval_only is asked about"
    )
    ray: ArmRayConfig = ArmRayConfig()

    @field_validator("kind")
    @classmethod
    def _kind_exists(cls, kind: str) -> str:
        # The table raises InputError, with the nearest kind, for one that it does not have.
        ARMS[kind]
        return kind

    @model_validator(mode="after")
    def _no_secrets(self) -> "ArmConfig":
        refuse_secrets({"model": self.model or "", **self.options}, f"arm {self.name!r}")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The kind's own options, as written."""
        return dict(self.model_extra or {})


class BreakerConfig(Section):
    """When an arm that fails rests, and when it is asked again.

    Pauses are counted in decisions of the run.

    ``breaker: off`` (or ``false``) is short for ``breaker: {enabled: false}``: a failing arm is
    asked as often as the router likes.
    """

    enabled: bool = True
    failures: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=2, description="failures running, and the arm rests"
    )
    recent: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=6, description="or so many failures among its last `window` answers"
    )
    window: Annotated[int, Field(ge=1, le=1000)] = 10
    pause: Annotated[int, Field(ge=1, le=40)] = Field(
        default=10, description="decisions of the first pause"
    )
    growth: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=4.0,
        description="how much longer the next pause is, where the probe that ends one fails",
    )
    longest: Annotated[int, Field(ge=1, le=40)] = Field(
        default=40, description="decisions of the longest pause"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        # YAML 1.1 reads `off` and `on` as truth values; YAML 1.2 as words.
        if isinstance(given, bool):
            return {"enabled": given}
        return {"enabled": given == "on"} if given in ("on", "off") else given

    @model_validator(mode="after")
    def _ordered(self) -> "BreakerConfig":
        if self.pause > self.longest:
            raise ValueError(
                f"pause={self.pause} is longer than longest={self.longest}; allowed at most that"
            )
        if self.recent > self.window:
            raise ValueError(
                f"recent={self.recent} of window={self.window}; allowed at most the window"
            )
        return self


class PoolConfig(Section):
    """How reward models are held in memory.

    At most ``resident`` are there at a time; the least recently used leaves.
    """

    resident: Count = 2
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    timeout: Positive | None = Field(
        default=300.0, description="seconds one request to an arm may take; null: no limit"
    )
    unready: Literal["refuse", "warn"] = Field(
        default="refuse",
        description=(
            "what becomes of a run with an arm that cannot answer a real row before the first step"
        ),
    )
    fallback: str | None = Field(
        default=None, description="arm that judges where the chosen one fails; none: the next arm"
    )
    breaker: BreakerConfig = Field(
        default=BreakerConfig(),
        description="when an arm that fails rests and is asked again; `off`: never",
    )


ROUTED = {"batch": "whole batches", "prompt": "prompts", "pair": "pairs of responses"}
"""Units of routing, in words."""
ONCE_EVERYWHERE = {"per": "decision", "init": "zeros"}
"""Options that configurations of earlier versions hold for every router, at these values.

A router without such an option needs none.
"""


class RouterConfig(BaseModel):
    """Which bandit chooses, and for which unit.

    Keys beyond these are the router's own options (``alpha``, ``prior``, ...). An option that is
    null takes the router's own default. The options of each router stand in docs/routers.md.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(default=DEFAULT_ROUTER, description="a router, or package.module:Class")
    unit: Literal["batch", "prompt", "pair"] = "prompt"
    mode: Literal["route", "ensemble"] = "route"
    ensemble: Literal["zscore", "raw", "majority", "uwo"] = Field(
        default="zscore",
        description=(
            "how all arms judge together: the mean of z-scores or of raw scores, a majority of "
            "votes on each pair of responses, or the mean of z-scores less their variance (UWO)"
        ),
    )
    ensemble_penalty: NonNegative = Field(
        default=1.0, description="of the variance, for `ensemble: uwo`"
    )

    @model_validator(mode="before")
    @classmethod
    def _options_fit_the_router(cls, section: Any) -> Any:
        name = section.get("name", DEFAULT_ROUTER) if isinstance(section, Mapping) else None
        if not isinstance(name, str):
            return section
        # An error of the table is told as one of the key `name`.
        try:
            kind = ROUTERS[name]
        except InputError as error:
            raise OptionError("name", str(error)) from None
        common = {key: value for key, value in section.items() if key in cls.model_fields}
        options = {
            key: value for key, value in section.items() if key not in common and value is not None
        }
        if options.get("prior") == "none":
            del options["prior"]
        # What earlier versions wrote for every router is dropped where it says nothing.
        for key, usual in ONCE_EVERYWHERE.items():
            belongs_here = key in kind.options or kind.own
            if not belongs_here and options.get(key) == usual:
                del options[key]
        return common | kind.checked(options)

    @model_validator(mode="after")
    def _the_penalty_has_a_variance(self) -> "RouterConfig":
        if self.ensemble_penalty != 1.0 and self.ensemble != "uwo":
            raise ValueError(
                f"ensemble_penalty={self.ensemble_penalty} belongs to ensemble: uwo, and ensemble "
                f"is {self.ensemble}"
            )
        return self

    @model_validator(mode="after")
    def _the_unit_can_be_routed(self) -> "RouterConfig":
        units = ROUTERS[self.name].units
        if self.unit not in units:
            routed = ", or ".join(ROUTED[unit] for unit in units)
            raise ValueError(
                f"{self.name} routes {routed}: unit is {self.unit!r}, give "
                f"unit: {' or '.join(units)}"
            )
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The router's own options, as written."""
        return dict(self.model_extra or {})

    @property
    def arm(self) -> str | None:
        """The arm of ``fixed``, None for a router that names no arm."""
        return self.options.get("arm")

    @property
    def prior(self) -> str | None:
        """The folder, or the packaged name, of a prior that was learned offline; None: no prior."""
        return self.options.get("prior")

    @property
    def without(self) -> str | None:
        """Which of BayesianRouter's parts is left out."""
        return self.options.get("without")

    @property
    def by_iteration(self) -> bool:
        """Whether one arm judges a whole iteration of training.

        Then the router's context is the iteration's number.
        """
        return self.options.get("per") == "iteration"


class ContextConfig(Section):
    """What the router sees of a prompt.

    That is the policy's own embedding (the paper), a frozen sentence encoder, or a hash (tests).
    """

    kind: Literal["policy", "sentence", "hashing"] = "policy"
    pooling: Literal["last_hidden", "mean_hidden", "mean_input"] = "last_hidden"
    model: str | None = Field(default=None, description="the sentence encoder; none: MiniLM")
    dim: Count = Field(default=256, description="dimensions of `hashing`")


class PayoffConfig(Section):
    """What the bandit learns from.

    ``neg_loss`` is the paper's; ``verifier`` and ``probe`` are anchored in truth.
    """

    name: str = Field(
        default="neg_loss", description="a payoff, or package.module:function of your own"
    )
    path: str | None = Field(default=None, description="module:function of `python`")
    arm: str | None = Field(
        default=None, description="the arm of `judge`: it pays, and judges no prompt itself"
    )
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of prompts whose gold is looked up"
    )
    low: Share = 0.2
    high: Share = 0.8
    history: Annotated[int, Field(ge=1)] = Field(
        default=5, description="values before scaling starts"
    )
    window: Count | None = Field(
        default=None, description="values the quantiles look back on; none: all"
    )
    per_iteration: bool = Field(
        default=False, description="quantiles forget at the start of an iteration"
    )
    hold_back: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="raw payoffs scaled together first"
    )

    @model_validator(mode="before")
    @classmethod
    def _an_import_path_is_the_users_function(cls, section: Any) -> Any:
        if not isinstance(section, Mapping):
            return section
        name = section.get("name")
        if isinstance(name, str) and is_import_path(name):
            return {"path": name, **section, "name": "python"}
        # An arm without a name of a payoff: the arm is the judge that pays.
        if section.get("arm") is not None and name is None:
            return {**section, "name": "judge"}
        return section

    @field_validator("name")
    @classmethod
    def _payoff_exists(cls, name: str) -> str:
        return PAYOFFS[name].name

    @model_validator(mode="after")
    def _consistent(self) -> "PayoffConfig":
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}")
        if self.kind.needs_path != (self.path is not None):
            raise ValueError("path names the function of name: python, and belongs to it alone")
        if self.kind.needs_arm != (self.arm is not None):
            raise ValueError("arm names the arm of name: judge, and belongs to it alone")
        return self

    @property
    def kind(self) -> PayoffKind:
        """What the name stands for."""
        return PAYOFFS[self.name]


GOLD = "gold"


class LabelConfig(Section):
    """What the committee learns from: labels of a share of its units.

    The share is drawn by key, and every arm scores what is labelled.
    """

    by: str = Field(
        default=GOLD,
        description=(
            "`gold` (the verifier), or an arm, a strong judge that is then no "
            "member of the committee"
        ),
    )
    start: Literal["vote", "dawid_skene"] = Field(
        default="vote",
        description=(
            "who judges before labels: arms drawn by key, or those that agree "
            "best on 50 pairs scored by all arms"
        ),
    )
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of units that are labelled"
    )
    full: Annotated[int, Field(ge=0)] = Field(
        default=400, description="so many labels are scored by every arm"
    )
    full_share: Share = Field(default=0.1, description="... and after those this share of them")
    extra_calls: NonNegative | None = Field(
        default=None,
        description=(
            "what that may cost in all beyond the judging, in calls (or arms' "
            "costs); none: no limit"
        ),
    )

    @property
    def arm(self) -> str | None:
        """The arm that labels; None where gold does."""
        return None if self.by == GOLD else self.by


EARLIER_DEFAULTS = {"gate": "lower95", "price": 0.01}
"""Defaults of the committee in earlier versions.

Every resolved configuration of those versions holds them.
"""


class JudgeConfig(Section):
    """Who judges what was routed: the arm drawn for it, or the committee.

    A committee asks another arm where that pays.

    ``judge: committee`` is short for ``judge: {mode: committee}``. Costs are the arms' ``cost``, a
    call each by default.
    """

    mode: Literal["single", "committee"] = "single"
    first: str = Field(
        default="order",
        description=(
            "who names the first arm: `order` (the committee), `router`, or the router by its name"
        ),
    )
    price: NonNegative = Field(
        default=0.0125, description="accuracy that one more call a response must buy"
    )
    budget: Positive | None = Field(
        default=None, description="cost a response to land on; moves the price"
    )
    max_calls: Count = Field(default=16, description="most arms asked about one unit")
    gate: Literal["auto", "lower95", "noninferior", "mean", "off"] = Field(
        default="auto",
        description=(
            "the test its gain must pass before the committee plays, not its best single arm"
        ),
    )
    weights: Literal["auto", "safe", "signed", "mean", "vote"] = Field(
        default="auto",
        description="what an arm's verdict may weigh; auto: what the labels speak for",
    )
    max_error: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        default=None,
        description=(
            "ask until P(wrong) is at most this, drop the pairs that stay "
            "unsure; in place of a price"
        ),
    )
    quorum: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5,
        description="share of (best, other) pairs of responses told apart before asking stops",
    )
    labels: LabelConfig = LabelConfig()
    min_confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        default=0.5,
        description="P(the winner is better) below which a pair is dropped or weighs less",
    )
    below: Literal["drop", "weight"] = "drop"
    vetoes: list[str] = Field(
        default_factory=list, description="arms that are always asked and can only say no"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        tree = {"mode": given} if isinstance(given, str) else given
        if isinstance(tree, dict) and tree.get("gate") is False:  # YAML 1.1 reads `off` so
            return {**tree, "gate": "off"}
        return tree

    @model_validator(mode="after")
    def _options_fit_the_mode(self) -> "JudgeConfig":
        changed = {name for name in JudgeConfig.model_fields if self._differs(name)}
        # A resolved configuration of an earlier version names the defaults of its time.
        changed -= {n for n, value in EARLIER_DEFAULTS.items() if getattr(self, n) == value}
        of_committee = sorted(self.model_fields_set & changed)
        if self.mode == "single" and of_committee:
            raise ValueError(
                f"{of_committee[0]} belongs to mode: committee; in mode: single one arm judges"
            )
        if self.max_error is not None and (self.budget is not None or self.below == "weight"):
            other = "budget" if self.budget is not None else "below: weight"
            raise ValueError(
                "max_error drops what stays unsure, whatever that costs: it "
                f"does not go with {other}"
            )
        return self

    def _differs(self, name: str) -> bool:
        """Whether an option of the committee has another value than its default."""
        if name == "mode":
            return False
        default = JudgeConfig.model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(self, name) != default)


class PairsConfig(Section):
    """How preference pairs are formed from one prompt's scored responses."""

    per_prompt: Count = 2
    pick: Literal["random", "widest"] = Field(
        default="widest",
        description=(
            "which of a prompt's pairs: drawn (the paper), or those with the widest score gaps"
        ),
    )
    margin: NonNegative = Field(
        default=0.0, description="smallest score gap, in the arm's own units"
    )
    tie: NonNegative | None = Field(
        default=None,
        description=(
            "smallest score gap as a share of the arm's own median gap so far, "
            "where the unit is a pair; none: 0.1 there"
        ),
    )
    truncated: Truncated = Field(
        default="lose",
        description=(
            "responses that policy.max_new_tokens cut: below every finished one whatever the arm "
            "says and equal to each other (lose), in no pair (drop), or as any other (keep)"
        ),
    )


class TrainConfig(Section):
    """The optimiser: LoRA, and the loss of the paper.

    By default there are eight short steps, which a laptop takes in minutes.

    The defaults are those of the embedded default run; the paper's (a GPU's) stand in the presets
    ``laser*``.
    """

    loss: Literal["dpo", "nll", "dpo+nll", "kto", "sft"] = Field(
        default="dpo+nll",
        description=(
            "`sft`: the data's own answers instead of preferences; nobody samples, no arm is asked"
        ),
    )
    beta: Positive = 0.1
    nll_weight: NonNegative = 1.0
    nll_reduction: Literal["response", "token"] = "response"
    desirable_weight: Positive = 1.0
    undesirable_weight: Positive = 1.0
    lr: Positive = 8e-4
    warmup: NonNegative = Field(
        default=2,
        description=(
            "optimiser steps over which lr rises linearly from 0 (1 or more), or their share of "
            "all of the run (below 1)"
        ),
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="linear",
        description="how lr falls from the end of the warm-up to the end of the run",
    )
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    lora_r: Count = 16
    lora_alpha: Positive = 32
    lora_targets: str | list[str] = "all-linear"
    iterations: Count = 1
    batch_prompts: Count = 8
    batches_per_iteration: Count | None = Field(
        default=8, description="null: one pass over the prompts"
    )
    steps_per_batch: Count = Field(default=1, description="optimiser epochs over a batch's pairs")
    mini_batch: Count | None = Field(
        default=None,
        description="pairs an optimiser step, of all processes together; none: all of the batch's",
    )
    micro_batch: Count = Field(default=4, description="pairs a forward pass")
    share_prompts: bool = Field(
        default=True,
        description=(
            "responses to one prompt in one row, where the model's attention "
            "allows it: the same loss in fewer tokens"
        ),
    )
    gradient_checkpointing: bool = False

    @property
    def supervised(self) -> bool:
        """Whether the data's own answers are trained on, so that nobody samples or judges."""
        return self.loss == "sft"

    @model_validator(mode="after")
    def _warmup_is_a_share_or_whole(self) -> "TrainConfig":
        if self.warmup > 1 and self.warmup != int(self.warmup):
            raise ValueError(
                f"warmup={self.warmup} is neither a share below 1 nor a whole "
                "number of optimiser steps; allowed either"
            )
        return self


class EvalConfig(Section):
    """What is measured: gold on held-out prompts before and after, and looks during training.

    Looks are at train prompts; they decide which adapter is kept.
    """

    data: DataConfig | None = None
    limit: Count | None = Field(
        default=96, description="held-out prompts at most, evenly from the categories; null: all"
    )
    max_new_tokens: Count | None = None
    batch: Count = Field(default=64, description="responses at a time")
    samples: Annotated[int, Field(ge=0)] = Field(
        default=2,
        description=(
            "responses a held-out prompt at policy.temperature: the headline; 0: greedy gold only"
        ),
    )
    arm: str | None = Field(
        default=None,
        description=(
            "an arm that takes no part in training: without gold, how often it likes the response "
            "after training better than the one before (win rate)"
        ),
    )
    greedy: bool = Field(
        default=True, description="whether gold of one greedy response a prompt is measured, too"
    )
    best_of: bool = Field(
        default=False,
        description=(
            "whether the router, frozen, also chooses among the `samples` responses to each "
            "held-out prompt: one call a response; nothing where there is one response to choose "
            "from, or where no router names single arms"
        ),
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description=(
            "the adapter a run ends with, or one that looks at labelled train prompts speak for, "
            "the base model included"
        ),
    )
    look: Count = Field(
        default=48, description="train prompts of a look; those that are not routed come first"
    )
    look_samples: Count = Field(
        default=2, description="responses a prompt of a look, at policy.temperature"
    )
    look_every: Count = Field(
        default=2, description="steps from one look to the next; the last step has one, too"
    )
    patience: Count | None = Field(
        default=None,
        description=(
            "with keep: best, looks without a better one after which the run "
            "ends early; none: never"
        ),
    )
    test: DataConfig | None = Field(
        default=None, description="an out-of-distribution set, measured after the run as well"
    )

    @model_validator(mode="after")
    def _something_is_measured(self) -> "EvalConfig":
        if not self.samples and not self.greedy:
            raise ValueError(
                "samples: 0 and greedy: false leave nothing to measure; "
                "allowed samples above 0, or greedy: true"
            )
        return self


class SplitConfig(Section):
    """How ``bestofn`` divides prompts.

    The router learns on the first part and chooses, frozen, for the rest.
    """

    train: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5,
        description="share of prompts that the router learns from, drawn by the prompt; 0: none",
    )


class Config(Section):
    """A whole run. See ``configs/default.yaml`` for one that works on a laptop."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    policy: PolicyConfig = PolicyConfig()
    arms: list[ArmConfig] = Field(default_factory=list, description="empty: the embedded arms")
    pool: PoolConfig = PoolConfig()
    ray: RayConfig = RayConfig()
    router: RouterConfig = RouterConfig()
    context: ContextConfig = ContextConfig()
    payoff: PayoffConfig = PayoffConfig()
    judge: JudgeConfig = JudgeConfig()
    pairs: PairsConfig = PairsConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    audit: Share = Field(
        default=0.0,
        description="share of prompts scored by every arm as well, for agreement figures",
    )
    noise: NonNegative = Field(
        default=0.0, description="sd of Gaussian noise on z-scored rewards (the paper's analysis)"
    )
    checkpoint_every: Count = 1
    durability: Literal["normal", "full"] = "normal"
    report_to: list[str] = Field(
        default_factory=list, description="trackers that a run's figures are sent to"
    )
    contexts: Literal["full", "f32", "none"] = "full"
    split: SplitConfig | None = Field(
        default=None,
        description="of `bestofn`; none: data to learn from and eval.data to choose for, or halves",
    )
    measure: Literal["gold", "f1", "rouge_l", "exact"] | None = Field(
        default=None,
        description=(
            "how `bestofn` measures a response; none: gold (golds of the rows, else the rule)"
        ),
    )

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_tracker_or_none(cls, given: Any) -> Any:
        if given is None or given == "none":
            return []
        return [given] if isinstance(given, str) else given

    @field_validator("report_to")
    @classmethod
    def _trackers_exist(cls, names: list[str]) -> list[str]:
        for name in names:
            # The table raises InputError, with the nearest tracker, for one that it does not have.
            TRACKERS[name]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"tracker {twice[0]!r} is listed twice; allowed once")
        return names

    @property
    def tie(self) -> float:
        """Share of an arm's median score gap below which its verdict on a pair is a tie."""
        # A verdict on one pair is worth little where the gap is far below what the arm usually
        # shows.
        usual = 0.1 if self.router.unit == "pair" and self.judge.mode == "single" else 0.0
        return usual if self.pairs.tie is None else self.pairs.tie

    @model_validator(mode="after")
    def _pairs_are_routed(self) -> "Config":
        payoff = self.payoff.name
        routed = self.router.unit == "pair" and self.router.mode == "route"
        if self.pairs.tie and not routed:
            raise ValueError(
                "pairs.tie needs router.unit: pair, where every verdict is about one pair"
            )
        # From here on: payoffs that set what one arm says against what another would have said.
        if not self.payoff.kind.compares_pairs:
            return self
        if not routed:
            raise ValueError(
                f"payoff.name: {payoff} compares routed pairs; it needs "
                "router.unit: pair, mode: route"
            )
        if self.train.loss not in ("dpo", "dpo+nll"):
            raise ValueError(
                f"payoff.name: {payoff} needs train.loss: dpo or dpo+nll, not {self.train.loss}"
            )
        if self.payoff.kind.asks_all_arms and self.noise:
            raise ValueError(
                f"payoff.name: {payoff} asks all arms, noise is put on the "
                "chosen one only; drop one"
            )
        return self

    @model_validator(mode="after")
    def _arms_are_distinct(self) -> "Config":
        listed = [arm.name for arm in self.arms]
        # Arms that are only looked at can neither judge nor be routed to.
        names = [arm.name for arm in self.arms if not arm.eval_only]
        twice = sorted({n for n in listed if listed.count(n) > 1})
        if twice:
            raise ValueError(f"arm {twice[0]!r} is listed twice; every arm has its own name")
        if listed and not names:
            raise ValueError(
                "every arm has eval_only: true, and none is left to judge; "
                "allowed at least one without it"
            )
        for key, arm in (("eval.arm", self.eval.arm), ("payoff.arm", self.payoff.arm)):
            if arm is None:
                continue
            if arm not in names:
                raise ValueError(
                    f"{key}={arm!r} is none of the arms that are free: "
                    f"{', '.join(names) or '(none are listed)'}"
                )
            names = [name for name in names if name != arm]
        # `fixed` names its one arm, and an ensemble of one arm is only a single arm.
        if len(names) == 1 and self.router.arm is None and self.router.mode == "route":
            raise ValueError(
                f"one arm only ({names[0]!r}): there is nothing to route; list "
                "two or more, or use router.name: fixed"
            )
        arms_by_key = {"router.arm": self.router.arm, "pool.fallback": self.pool.fallback}
        for key, arm in arms_by_key.items():
            if arm is not None and names and arm not in names:
                raise ValueError(f"{key}={arm!r} is none of the arms {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _the_committee_can_judge(self) -> "Config":
        judge = self.judge
        router = self.router
        if judge.mode == "single":
            return self
        excluded = {
            "train.loss: sft, where nobody judges": self.train.supervised,
            "router.mode: ensemble": router.mode == "ensemble",
            "router.unit: batch": router.unit == "batch",
            "noise": self.noise > 0,
            "pairs.tie (min_confidence does its work)": bool(self.pairs.tie),
            f"payoff.name: {self.payoff.name}": self.payoff.kind.asks_all_arms,
        }
        if judge.labels.arm and judge.first != "order":
            raise ValueError(
                f"judge.labels.by={judge.labels.by!r} needs judge.first: order; a router may name "
                "any arm, the one that labels too"
            )
        if wrong := [setting for setting, is_set in excluded.items() if is_set]:
            raise ValueError(
                "judge: committee judges prompts or pairs one by one; it does "
                f"not go with {wrong[0]}"
            )
        may_judge = {*judge.vetoes, self.pool.fallback} - {None}
        if judge.labels.arm in may_judge:
            raise ValueError(
                f"judge.labels.by={judge.labels.by!r} only labels; it cannot be "
                "a veto or pool.fallback, too"
            )
        if judge.first not in ("order", "router", router.name):
            raise ValueError(
                f"judge.first={judge.first!r}; allowed order, or the router "
                f"({router.name}, or just router)"
            )
        return self


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: ``5e-6`` is a number (PyYAML reads YAML 1.1, where it is a string)."""


_Loader.yaml_implicit_resolvers = {
    k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """YAML text as plain data; InputError names the line that cannot be read."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{where}{line}: not YAML: {problem}") from None


def presets() -> list[str]:
    """Names that ``--preset`` takes."""
    files = [file.name for file in resources.files("reward_router.configs").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML of a packaged configuration."""
    if name not in presets():
        raise InputError(f"preset {name!r} does not exist; {nearest_key(name, presets())}")
    return (resources.files("reward_router.configs") / f"{name}.yaml").read_text(encoding="utf-8")


def nearest_key(name: str, known: Iterable[str]) -> str:
    """'did you mean X?' where a known name is near, else the whole list in order."""
    return did_you_mean(name, sorted(known))


def _apply(tree: dict[str, Any], setting: str) -> None:
    """Put one ``a.b=v`` setting into plain data; sections on the way are made."""
    path, eq, text = setting.partition("=")
    if not eq or not path.strip():
        raise InputError(f"--set {setting!r}: write it as section.key=value")
    # `arms.NAME.key` names the item of a list; every other part is a key.
    *parents, last = path.strip().split(".")
    node: Any = tree
    for name in parents:
        node = (
            _list_item(node, name, setting) if isinstance(node, list) else node.setdefault(name, {})
        )
        if not isinstance(node, dict | list):
            raise InputError(f"--set {setting!r}: {name!r} is a plain value and has no keys")
    if not isinstance(node, dict):
        raise InputError(
            f"--set {setting!r}: set a key of a list's item, as in arms.NAME.{last}=..."
        )
    node[last] = parse_yaml(text, f"--set {path}")


def _list_item(node: list[Any], name: str, setting: str) -> Any:
    if name.isdigit() and int(name) < len(node):
        return node[int(name)]
    for item in node:
        if isinstance(item, dict) and item.get("name") == name:
            return item
    raise InputError(f"--set {setting!r}: the list has no item {name!r}")


def load(
    source: str | Path | None = None, preset: str | None = None, settings: Sequence[str] = ()
) -> Config:
    """Read a configuration file or a preset, with settings on top.

    Args:
        source: a YAML file; None: the preset.
        preset: the name of a packaged configuration; None: ``default``.
        settings: ``a.b=v`` texts, applied in their order.

    InputError for whatever cannot be read or is not allowed.
    """
    return validate(*read_plain(source, preset, settings))


def read_plain(
    source: str | Path | None = None, preset: str | None = None, settings: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """What `load` validates, as plain data, and its name for messages."""
    if source is not None and preset is not None:
        raise InputError(f"give a config file ({source}) or a preset ({preset}), not both")
    if source is not None:
        path = Path(source)
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(
                f"config {path}: no such file; presets: {', '.join(presets())}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"config {path}: cannot be read: {error}") from None
    else:
        where = preset or "default"
        text = preset_text(where)
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict):
        raise InputError(f"{where}: a mapping of sections is expected, found {type(tree).__name__}")
    # In their order: a later setting wins over an earlier one, and over the file.
    for setting in settings:
        _apply(tree, setting)
    return tree, where


def validate(tree: Mapping[str, Any], where: str) -> Config:
    """Plain data to a Config; InputError is one line: the key, the value and what is allowed."""
    return validated(Config, tree, where)


def validated(schema: type[AnySection], tree: Mapping[str, Any], where: str) -> AnySection:
    """Plain data to any schema; InputError as in `validate`."""
    try:
        return schema.model_validate(dict(tree))
    except ValidationError as error:
        faults = [_in_words(schema, fault) for fault in error.errors()]
        # Unions report the same fault once for each of their members.
        shown = "; ".join(dict.fromkeys(faults[:MOST_FAULTS]))
        more = ""
        if len(faults) > MOST_FAULTS:
            more = f" [and {len(faults) - MOST_FAULTS} more]"
        raise InputError(f"{where}: {shown}{more}") from None


MOST_FAULTS = 6
"""Faults of a configuration that one message names."""


def _in_words(schema: type[BaseModel], fault: Any) -> str:
    """One fault in words: the key, the value, and what is allowed or nearest."""
    parts = [str(part) for part in fault["loc"]]
    cause = fault.get("ctx", {}).get("error")
    # The options of a kind are checked by the kind, which knows the name of the wrong one.
    if isinstance(cause, OptionError) and cause.option:
        parts.append(cause.option)
    key = ".".join(parts)
    if fault["type"] == "extra_forbidden":
        fields = _fields_at(schema, fault["loc"][:-1])
        return f"unknown key {key!r}; {nearest_key(str(fault['loc'][-1]), fields)}"

    value = fault.get("input")
    details = ""
    if not isinstance(value, dict | list) and fault["type"] != "missing":
        details = f" (got {value!r})"
    if fault["type"] == "literal_error" and isinstance(value, str):
        allowed = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        close = difflib.get_close_matches(value, allowed, n=1, cutoff=0.5)
        details += f"; did you mean {close[0]!r}?" if close else ""
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {message}{details}" if key else f"{message}{details}"


def _fields_at(schema: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that a section of the schema has; ``path``: the keys that lead to it."""
    model: Any = schema
    for part in path:
        if isinstance(part, int):  # an item of a list: all items have the same keys
            continue
        annotation = model.model_fields[part].annotation
        # ``Section | None`` and ``list[Section]`` hold the section among their arguments.
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return list(model.model_fields)


def dump(config: Section) -> str:
    """The resolved configuration as YAML, every default written out."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text
