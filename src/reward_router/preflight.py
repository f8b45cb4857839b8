"""What cannot work is said before the first step, in one line.

It is not found out by a traceback after minutes.

Checked are the policy (EOS, roles, context, vocabulary, weights that its checkpoint lacks), the
arms (weights, outputs to be chosen, templates, one real row), and the disk. All of it but the real
row needs no weights in memory, so that ``--dry-run`` can do it too. Left out: whether a model fits
the memory, which `estimate` reckons.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reward_router.chat import Prompt
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.examples import Example
from reward_router.kinds import ARMS
from reward_router.policy import PolicyText
from reward_router.rewards.loading import (
    check_model,
    load_tokenizer,
    resolve_model,
    skeleton,
    torch_device,
)
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.rewards.spec import HEADS, ArmSpec, build_arm, source_of
from reward_router.rewards.weights import context_of

ROWS = 3
"""Real prompts that an arm is asked about: the first, the middle one and the last.

It must be able to answer one of them.
"""
RESPONSES = ["Yes, it is 4.", "I do not know."]
_AWAY = re.compile(r"(Connection\w*|\w*Timeout\w*|URLError|HTTPError|RemoteDisconnected): ")
"""What an arm raises whose server is away.

That may pass, and the run goes on without the arm until then.
"""
CHECKPOINTS = 3  # two are kept, and a third is written before the oldest goes
ADAPTER_COPIES = 4  # policy, reference, and the two moments of the optimiser


def check_policy(config: Config) -> PolicyText:
    """How the policy reads prompts.

    InputError where its tokenizer or its checkpoint cannot serve. Loads no weights.
    """
    policy = config.policy
    torch_device(policy.device)
    tokenizer = load_tokenizer(policy.model, trust_remote_code=policy.trust_remote_code)
    try:
        check_model(policy.model, trust_remote_code=policy.trust_remote_code, head="causal")
    except InputError as error:
        raise InputError(f"policy.model: {error}") from None
    return PolicyText(
        policy, tokenizer, context_of(model_config(policy.model, policy.trust_remote_code))
    )


def check_prompts(config: Config, text: PolicyText, examples: Sequence[Example]) -> None:
    """Check the prompts against the model's vocabulary and its context.

    InputError where a token is none of the model's, or a held-out answer could outgrow the context.
    """
    if not examples:
        return
    own = model_config(config.policy.model, config.policy.trust_remote_code)
    size = getattr(own.get_text_config(), "vocab_size", None)
    longest = 0
    pad = text.tokenizer.pad_token_id
    if size is not None and pad is not None and pad >= size:
        raise InputError(
            f"policy.model={config.policy.model!r}: its pad token {text.tokenizer.pad_token!r} has "
            f"the number {pad}, its embeddings have "
            f"{size}: it was added to the tokenizer alone; name a pad_token "
            "that the model has, as its EOS, or none"
        )
    for example in examples:
        ids = text.prompt_ids(example.prompt)
        longest = max(longest, len(ids))
        if size is not None and max([*ids, text.eos]) >= size:
            raise InputError(
                f"policy.model={config.policy.model!r}: its tokenizer gives token "
                f"{max([*ids, text.eos])}, its embeddings have {size}; "
                "tokenizer and weights do not belong together"
            )
    answer = config.eval.max_new_tokens
    if answer is not None and text.context is not None and longest + answer > text.context:
        raise InputError(
            f"eval.max_new_tokens={answer} behind a prompt of {longest} tokens "
            f"is more than the {text.context} that "
            f"{config.policy.model} can read; allowed up to {text.context - longest}"
        )


def check_models(specs: Sequence[ArmSpec]) -> None:
    """Check the arms' models without holding weights in memory.

    InputError where a checkpoint lacks weights, or an arm's options do not fit its model.
    """
    for spec in specs:
        source = source_of(spec)
        if source is None:
            continue
        try:
            head = HEADS[source.loader]
            check_model(source.model, trust_remote_code=source.trust_remote_code, head=head)
            # A skeleton has the shapes of a model and no weights; foreign code is not run for it.
            if head != "body" and at_hand(source.model) and not source.trust_remote_code:
                bones = skeleton(source.model, head, trust_remote_code=source.trust_remote_code)
                build_arm(spec, (bones, load_tokenizer(source.model)))
        except InputError as error:
            raise InputError(f"arm {spec.name!r}: {error}") from None


def answer_one_row(
    config: Config,
    pool: RewardPool,
    specs: Sequence[ArmSpec],
    examples: Sequence[Example],
    say: Callable[[str], None],
    refuse: bool = True,
) -> None:
    """Ask every arm about a few real prompts; InputError for one that can answer none of them.

    ``pool.unready: warn``, a run that goes on (``refuse`` false) and a server that is away only
    warn: that may pass.
    """
    # Prompts at both ends and in the middle: files are often sorted by length or source.
    places = sorted({0, len(examples) // 2, len(examples) - 1}) if examples else []
    prompts: list[Prompt] = [examples[i].prompt for i in places[:ROWS]]
    by_name = {spec.name: spec for spec in specs}
    for arm in pool.order(by_name):
        result = pool.score(arm, prompts, [RESPONSES] * len(prompts))
        if result.ok:
            continue
        if result.refused or (
            refuse and config.pool.unready == "refuse" and not _away(by_name[arm], result)
        ):
            raise InputError(
                f"arm {arm!r} cannot answer a real prompt: {result.error} "
                "(pool.unready: warn goes on all the same)"
            )
        say(f"warning: arm {arm!r} does not answer now: {result.error}")


def check_disk(out: Path, needed: float) -> None:
    """InputError where the disk of ``out`` has less than the ``needed`` bytes."""
    folder = out.absolute()
    # The directory of a new run is not there yet: its disk is that of its nearest parent.
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"--out {out}: {_size(free)} are free there, and checkpoints and ledger of this run "
            f"take about {_size(needed)}; "
            "give a directory on a larger disk"
        )


def disk_bytes(config: Config, steps: int, prompts: int) -> float:
    """Bytes that a run will write.

    These are checkpoints of the adapters, the adapter itself, and contexts in the ledger.
    """
    train = config.train
    # Four bytes a number, in both matrices of every adapted layer.
    adapter = 4.0 * train.lora_r * adapted_width(config)
    adapters = adapter * (CHECKPOINTS * ADAPTER_COPIES + 1)

    # Bytes of one number in the ledger.
    wide = {"full": 8.0, "f32": 4.0, "none": 0.0}[config.contexts]
    dim = config.context.dim if config.context.kind == "hashing" else 1024
    context = wide * dim
    # A decision, and a call for every response, in about 200 bytes each.
    rows = 200.0 * (1 + config.policy.n_responses)
    units = steps * min(train.batch_prompts, prompts)
    return adapters + units * (context + rows)


def adapted_width(config: Config) -> int:
    """Sum of inputs and outputs over the layers that LoRA adapts.

    0 where the model is not at hand.
    """
    policy = config.policy
    targets = config.train.lora_targets
    if not at_hand(policy.model):
        return 0
    bones = skeleton(policy.model, "causal", trust_remote_code=policy.trust_remote_code)
    # `all-linear` leaves the output layer out, as PEFT does.
    head = bones.get_output_embeddings()
    embeddings = bones.get_input_embeddings()
    total = 0
    for name, module in bones.named_modules():
        weight = getattr(module, "weight", None)
        if module is head or module is embeddings or weight is None or weight.dim() != 2:
            continue
        if targets == "all-linear" or _adapts(targets, name):
            total += sum(weight.shape)
    return total


def at_hand(model: str) -> bool:
    """Whether a model lies on this disk as a directory, or needs none.

    Then its tensors can be listed without a download.
    """
    return model == "tiny" or Path(resolve_model(model)).is_dir()


def model_config(model: str, trust_remote_code: bool = False) -> Any:
    """A model's configuration; InputError where it cannot be read."""
    if model == "tiny":
        return skeleton(model, "causal").config
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(resolve_model(model), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"model {model!r}: its configuration cannot be read: {str(error).splitlines()[0]}"
        ) from None


def _adapts(targets: str | Sequence[str], name: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _away(spec: ArmSpec, result: ScoreResult) -> bool:
    """Whether an arm failed because the service it asks is away.

    A kind says whether it asks one.
    """
    if not ARMS[spec.kind].remote or result.error is None:
        return False
    return result.away or _AWAY.match(result.error) is not None


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"
