"""The configuration of ``fit-prior``: what each key means, its range and its default.

Unknown keys name the nearest.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reward_router import config as configuration
from reward_router.config import ArmConfig, Count, NonNegative, PoolConfig, Positive, Section
from reward_router.errors import InputError
from reward_router.kinds import ARMS

Fraction = Annotated[float, Field(gt=0, lt=1)]
Ablation = Literal["cls", "offline", "online"]


class PairSource(Section):
    """Preference pairs: prompt, chosen, rejected, source?, category?

    They come from a file of any kind that is read, or from the Hub.
    """

    source: str
    name: str | None = Field(default=None, description="configuration name of a Hub data set")
    split: str = "train"
    columns: dict[str, str] = Field(
        default_factory=dict, description="our name -> the data's column"
    )
    preference: str | None = Field(
        default=None,
        description="column that says which is better: labels, an index, or signed numbers "
        "(below 0 chosen, 0 a tie)",
    )
    as_source: str | None = Field(
        default=None, description="the source's name in tables; none: the data's own"
    )
    sample: Count | None = Field(
        default=None, description="at most so many pairs, drawn by seed; none: all"
    )
    max_chars: Count | None = Field(
        default=None,
        description="longer pairs (prompt and both responses together) are left out and counted",
    )


class EncoderConfig(Section):
    """The language model whose states are the pair's features."""

    model: str = "smollm2-135m-instruct"
    tune: Literal["full", "lora", "frozen"] = "full"
    pooling: Literal["auto", "last", "mean"] = Field(
        default="auto", description="last non-pad token of a causal model, mean of an encoder"
    )
    max_tokens: Annotated[int, Field(ge=16)] = 1024
    with_prompt: bool = Field(
        default=False,
        description="the prompt's own vector beside those of the pair: "
        "kinds of prompts are told apart sooner",
    )
    batch: Count = Field(default=16, description="texts a forward pass of a frozen encoder")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="auto: bfloat16 on a GPU, and for a frozen encoder on a CPU that multiplies it "
        "itself",
    )
    device: str = "auto"
    trust_remote_code: bool = False
    lr: Positive = Field(
        default=2e-5, description="of the encoder's own weights, where they are tuned"
    )
    batch_pairs: Count = Field(
        default=8, description="pairs an optimiser step, where the encoder is tuned"
    )
    epochs: Count = Field(default=2, description="passes, where the encoder is tuned")
    max_steps: Count | None = Field(
        default=None, description="stops earlier, where the encoder is tuned"
    )
    check_every: Count = Field(default=500, description="steps between looks at the dev split")
    lora_r: Count = 16
    lora_alpha: Positive = 32

    @model_validator(mode="after")
    def _the_prompt_stands_still(self) -> "EncoderConfig":
        if self.with_prompt and self.tune != "frozen":
            raise ValueError(
                f"with_prompt needs tune: frozen, not {self.tune}: tuning learns from pairs alone"
            )
        return self


class StrengthsConfig(Section):
    """The head and the strengths: see `offline.strengths.fit_strengths`."""

    dim: Annotated[int, Field(ge=2, le=4096)] = 64
    epochs: Count = 60
    lr: Positive = 1e-3
    batch: Count = 128
    weight_decay: NonNegative = 0.01
    patience: Count = 8


class PriorConfig(Section):
    """Everything ``fit-prior`` does.

    ``scores`` names a file of recorded scores, used as it is instead of ``data`` and ``arms``.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: list[PairSource] = Field(default_factory=list)
    scores: list[str] = Field(
        default_factory=list, description="files that hold scores already, in replay's formats"
    )
    arms: list[ArmConfig] = Field(default_factory=list, description="empty: the embedded arms")
    pool: PoolConfig = PoolConfig()
    holdout_sources: list[str] = Field(
        default_factory=list,
        description="sources kept out of all fitting: the out-of-distribution test",
    )
    test: Fraction = Field(
        default=0.2, description="share of the other prompts kept for the in-distribution test"
    )
    dev: Fraction = Field(
        default=0.15, description="share of the training prompts that stops and calibrates"
    )
    encoder: EncoderConfig = EncoderConfig()
    strengths: StrengthsConfig = StrengthsConfig()
    lambda_cls: NonNegative = 0.2
    balance: bool = Field(
        default=False, description="the authors' levelling of each arm's wins and losses"
    )
    without: Ablation | None = Field(default=None, description="the paper's ablations")
    payoff: str = Field(
        default="correct", description="what the prior is calibrated for, in replay's words"
    )

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> "PriorConfig":
        if bool(self.data) == bool(self.scores):
            raise ValueError(
                "give data (preference pairs, scored with the arms) or scores (recorded), "
                "one of the two"
            )
        if self.scores and self.arms:
            raise ValueError("scores name their arms themselves; leave arms out, or give data")
        names = [arm.name for arm in self.arms]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"arm {twice[0]!r} is listed twice; every arm has its own name")
        blind = [arm.kind for arm in self.arms if ARMS[arm.kind].needs_gold]
        if blind:
            raise ValueError(f"an arm of kind {blind[0]} has no verifier here; leave it out")
        return self


def packaged_settings() -> list[str]:
    """Names of the packaged configurations of ``fit-prior``."""
    folder = resources.files("reward_router.configs") / "prior"
    files = [path.name for path in folder.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def load_settings(source: str | Path, settings: Sequence[str] = ()) -> PriorConfig:
    """A configuration file, or a packaged one by name, with ``a.b=v`` settings on top.

    InputError is one line.
    """
    packaged = packaged_settings()
    if str(source) in packaged:
        path = resources.files("reward_router.configs") / "prior" / f"{source}.yaml"
        with resources.as_file(path) as file:
            tree, _ = configuration.read_plain(file, None, settings)
        return configuration.validated(PriorConfig, tree, str(source))

    if not Path(source).exists():
        raise InputError(f"config {source}: no such file; packaged: {', '.join(packaged)}")
    tree, where = configuration.read_plain(source, None, settings)
    return configuration.validated(PriorConfig, tree, where)
