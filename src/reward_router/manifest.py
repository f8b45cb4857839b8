"""What a run is made of beside its options, written when it begins and compared when it is resumed.

A run whose prompts, weights, code or packages change in the middle is two runs in one directory,
and no figure of it means anything. So ``manifest.json`` holds a digest of each, and `changes` names
what differs. Options are compared by `RunDir.check`.
"""

import functools
import hashlib
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from reward_router import config as configuration
from reward_router.assemble import arm_specs, judge_specs
from reward_router.config import Config, DataConfig
from reward_router.errors import InputError
from reward_router.examples import EMBEDDED_TASKS, Example, load_examples
from reward_router.offline.prior import TENSORS, prior_folder
from reward_router.rewards.identity import arm_identity, weights_identity
from reward_router.rewards.loading import MINILM
from reward_router.rewards.spec import ArmSpec

PACKAGES = (
    "reward-router",
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "safetensors",
    "sentence-transformers",
    "math-verify",
)
"""Packages whose versions can change what a run comes out at."""
Json = dict[str, Any]


def manifest(config: Config, examples: Sequence[Example]) -> Json:
    """Versions, seed and digests: what has to be equal for a run to come out equal.

    ``examples`` are its training prompts.
    """
    specs = (*arm_specs(config), *judge_specs(config))
    identities = {spec.name: arm_identity(spec) for spec in specs}
    # Held-out prompts count as well: with others, gold before and after would not compare.
    held_out = dev_set(config)
    sets = {"held_out": held_out, "test": config.eval.test}
    data = {"train": data_digest(examples)}
    data |= {
        name: data_digest(load_examples(section))
        for name, section in sets.items()
        if section is not None
    }
    return {
        "versions": {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()} {platform.system()}",
        "threads": _threads(),
        "seed": config.seed,
        "config": text_digest(configuration.dump(config)),
        "data": data,
        "prior": prior_digest(config),
        "policy": weights_identity(config.policy.model),
        "context": context_digest(config),
        "arms": {
            name: identity["weights"]
            for name, identity in identities.items()
            if "weights" in identity
        },
        "code": {
            name: identity["code"] for name, identity in identities.items() if "code" in identity
        },
        "payoff_code": payoff_digest(config),
    }


def dev_set(config: Config) -> DataConfig | None:
    """The held-out prompts of a run; None where it has none.

    They are its own, else the dev split of the embedded ones.
    """
    if config.eval.data is not None:
        return config.eval.data
    return (
        config.data.model_copy(update={"split": "dev"})
        if config.data.source == EMBEDDED_TASKS
        else None
    )


def data_digest(examples: Sequence[Example]) -> str:
    """How many prompts, and one hash of all of them in order.

    The hash covers ids, categories, texts, and what counts as right.
    """
    rows = (f"{e.id}\x1f{e.category}\x1f{e.prompt}\x1f{e.truth}" for e in examples)
    return f"{len(examples)} prompts, {text_digest(chr(0x1E).join(rows))}"


def prior_digest(config: Config) -> str | None:
    """The hash of the prior's strengths as fit-prior wrote it.

    None without a prior, or where the file is gone.
    """
    if config.router.prior is None:
        return None
    try:
        tensors = prior_folder(config.router.prior) / TENSORS
    except InputError:
        return None
    if not tensors.is_file():
        return None
    return file_digest(tensors)


def file_digest(path: Path) -> str:
    """The hash of a file's bytes, which are read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def context_digest(config: Config) -> str | None:
    """The weights of the sentence encoder behind the contexts.

    None where it is another's, or a hash.
    """
    if config.context.kind != "sentence":
        return None
    return weights_identity(config.context.model or MINILM)


def payoff_digest(config: Config) -> str | None:
    """The hash of the module behind ``payoff.path``; None for a payoff of this package."""
    path = config.payoff.path
    return (
        None
        if path is None
        else arm_identity(ArmSpec("payoff", "python", None, {"path": path}))["code"]
    )


def text_digest(text: str) -> str:
    """BLAKE2 of a text."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


@functools.cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _threads() -> int:
    import torch

    return torch.get_num_threads()
