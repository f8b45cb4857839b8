"""Prompts with n responses each from the policy itself, and its own loss on a response.

The prompts are those of ``train``: ``data`` to learn from and ``eval.data`` to choose for; with
``split`` given, ``data`` alone, divided by it. Samples are the base policy's, or those of a
finished run's adapter.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reward_router import config as configuration
from reward_router.assemble import fitting
from reward_router.bestofn.book import append_lines
from reward_router.bestofn.measures import MEASURES
from reward_router.bestofn.rows import Item, LearnedAndJudged, divide, gold_of, limited
from reward_router.chat import Prompt
from reward_router.config import Config, DataConfig
from reward_router.data import load_prompts
from reward_router.errors import InputError
from reward_router.examples import EMBEDDED_TASKS, Example, load_examples
from reward_router.policy import Policy
from reward_router.responses import Response
from reward_router.rewards.identity import weights_identity
from reward_router.rewards.prefix import TokenScorer
from reward_router.rundir import adapter_tensors, run_config
from reward_router.strict_json import dumps

STEP = 2**41  # no training step, and not gold-pairs' either: these samples are best-of-n's own
CHUNK = 16  # prompts sampled between two writes
PROMPTS = 160  # on each side, where neither --limit nor eval.limit says otherwise


def load_policy(config: Config, run: Path | None) -> Policy:
    """The configured policy, with the adapter of a finished run where one is named.

    InputError where the run trained another model.
    """
    trained_model = run_config(run).policy.model if run is not None else config.policy.model
    if trained_model != config.policy.model:
        raise InputError(
            f"--run {run} trained {trained_model}, and policy.model is {config.policy.model}; "
            "give that run's config.yaml as CONFIG"
        )
    policy = Policy(config.policy, config.train, config.seed)
    if run is not None:
        policy.load_adapter(adapter_tensors(run))
        policy.sync()
    return policy


@dataclass(frozen=True)
class Listeners:
    """Whom sampling tells how it goes on.

    Args:
        say: called with a sentence about the prompts.
        tick: called with the prompts done and the prompts in all.
    """

    say: Callable[[str], None]
    tick: Callable[[int, int], None]


def sampled(
    config: Config,
    policy: Policy,
    limit: int | None,
    run: Path | None,
    folder: Path,
    listeners: Listeners,
) -> LearnedAndJudged:
    """``policy.n_responses`` samples for every prompt of both sides.

    Args:
        config: whose prompts are sampled for, and how.
        policy: who samples.
        limit: the most prompts on each side; None: ``eval.limit``, else `PROMPTS`.
        run: the finished run whose adapter the policy carries.
        folder: where samples are kept.
        listeners: whom to tell how it goes on.
    """
    held_out = None if config.split else _held_out(config)
    own = _bare_items(config.data, policy, listeners)
    answers = _answers(config, config.data)
    # Held-out prompts where the configuration names some, else a part of its own.
    if held_out is None:
        sides = divide(own, config)
    else:
        sides = LearnedAndJudged(own, _bare_items(held_out, policy, listeners))
        answers |= _answers(config, held_out)
        _apart(sides)
    sides = limited(sides, limit or config.eval.limit or PROMPTS)

    # Both sides in one go, so that groups of a batch are full.
    path = folder / f"samples-{_digest(config, run)}.jsonl"
    store = _Samples(path, weights_identity(config.policy.model))
    bare_items = [*sides.train, *sides.test]
    groups = list(_draw(config, policy, bare_items, store, listeners.tick))
    items = []
    for bare_item, group in zip(bare_items, groups, strict=True):
        items.append(_full(bare_item, group, answers, config))

    some_measured = any(item.measured for item in items)
    if config.measure in MEASURES and not some_measured:
        raise InputError(
            f"measure {config.measure} compares with an answer's text, "
            f"and {config.data.source} has none"
        )
    train_count = len(sides.train)
    return LearnedAndJudged(items[:train_count], items[train_count:])


def _held_out(config: Config) -> DataConfig | None:
    """What ``train`` holds out: ``eval.data``, or the dev split of the embedded prompts."""
    if config.eval.data is not None:
        return config.eval.data
    return (
        config.data.model_copy(update={"split": "dev"})
        if config.data.source == EMBEDDED_TASKS
        else None
    )


def _bare_items(data: DataConfig, policy: Policy, listeners: Listeners) -> list[Item]:
    """The prompts of a section that fit the policy, still without responses."""
    examples = fitting(load_examples(data), data, policy, listeners.say)
    return [_bare(example) for example in examples]


def _bare(example: Example) -> Item:
    return Item(example.id, example.prompt, example.category, example.verify, example.truth)


def _apart(sides: LearnedAndJudged) -> None:
    both = {item.id for item in sides.train} & {item.id for item in sides.test}
    if both:
        raise InputError(
            f"prompt {min(both)!r} is in data and in eval.data; "
            "give other prompts to choose for, or split: {train: 0.5}"
        )


def _answers(config: Config, data: DataConfig) -> dict[str, str]:
    """Prompt id -> answer text, for measures that compare texts."""
    if config.measure not in MEASURES or data.source == EMBEDDED_TASKS:
        return {}
    records = load_prompts(
        data.source,
        split=data.split,
        columns=data.columns,
        template=data.template,
        limit=data.limit,
        config_name=data.name,
        categories=data.categories,
    )
    return {record.id: record.answer for record in records if record.answer is not None}


def _full(item: Item, responses: Sequence[str], answers: Mapping[str, str], config: Config) -> Item:
    gold_N = gold_of(responses, answers.get(item.id), item.verify, config.measure or "gold")
    return replace(item, responses=tuple(responses), gold_N=gold_N, cut=config.pairs.truncated)


def _draw(
    config: Config,
    policy: Policy,
    items: Sequence[Item],
    store: "_Samples",
    tick: Callable[[int, int], None],
) -> Iterator[list[Response]]:
    """Samples of every item, in fixed groups: a group that is kept whole is not drawn again."""
    total = len(items)
    for start in range(0, total, CHUNK):
        part = items[start : start + CHUNK]
        groups = store.get(part)
        if groups is None:
            ids = [item.id for item in part]
            prompts = [item.prompt for item in part]
            groups = policy.sample(prompts, ids, config.policy.n_responses, STEP)
            # Kept before they are handed on: what was drawn is never lost.
            store.add(part, groups)
        yield from groups
        tick(min(start + CHUNK, total), total)


def _digest(config: Config, run: Path | None) -> str:
    """What decides the samples: policy, seed, prompts' sections, and the adapter."""
    sections = (config.policy, config.data, config.eval, config.train)
    settings = "".join(configuration.dump(section) for section in sections)
    total = hashlib.blake2b(f"{config.seed}:{settings}".encode(), digest_size=8)

    # The adapter by its bytes: a run that was trained again has other samples.
    if run is not None:
        adapter = run / "policy" / "adapter_model.safetensors"
        total.update(adapter.read_bytes())
    return total.hexdigest()


class _Samples:
    """Groups of samples in an append-only file; a line that a kill cut short is left out.

    A group belongs to its prompts' ids and texts and to the policy's weights: under the same name
    they may have become others.
    """

    def __init__(self, path: Path, weights: str) -> None:
        self.path = path
        self.weights = weights
        self._groups: dict[tuple[str, ...], list[list[Response]]] = {}
        self._made_of: dict[tuple[str, ...], str] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            ids = tuple(entry["ids"])
            self._groups[ids] = [_read_group(group) for group in entry["responses"]]
            self._made_of[ids] = entry.get("made_of", "")

    def get(self, items: Sequence[Item]) -> list[list[Response]] | None:
        ids = tuple(item.id for item in items)
        # Nothing is noted in lines of earlier versions, which are taken as they are.
        made_of = self._made_of.get(ids)
        is_other = bool(made_of) and made_of != self._digest(items)
        return None if is_other else self._groups.get(ids)

    def add(self, items: Sequence[Item], groups: Sequence[Sequence[Response]]) -> None:
        entry = {
            "ids": [item.id for item in items],
            "made_of": self._digest(items),
            "responses": [_written_group(group) for group in groups],
        }
        append_lines(self.path, [dumps(entry, ensure_ascii=False)])

    def _digest(self, items: Sequence[Item]) -> str:
        prompts = [item.prompt for item in items]
        text = json.dumps([self.weights, *prompts], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _read_group(group: Sequence[tuple[str, bool]]) -> list[Response]:
    return [Response(text, finished) for text, finished in group]


def _written_group(group: Sequence[Response]) -> list[tuple[str, bool]]:
    return [(str(response), response.finished) for response in group]


class OwnLoss:
    """Mean negative log-likelihood a token of a response under the policy, EOS included.

    This is LASER's payoff for best of n, unscaled.
    """

    def __init__(self, policy: Policy) -> None:
        """Runs nothing."""
        self.policy = policy
        self._scorer = TokenScorer(policy.model.get_base_model())

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """One number a response; each prompt is run once."""
        policy = self.policy
        ids = [policy.prompt_ids(prompt) for prompt in prompts]
        tokens = [[policy.response_ids(response)] for response in responses]
        with policy.using("policy"):
            logps = self._scorer.logprobs(ids, tokens)

        losses = []
        for row in logps:
            # The mean over tokens, as in training; an empty response has no token and no loss.
            token_logps = row[0]
            losses.append(-float(np.mean(token_logps)) if len(token_logps) else 0.0)
        return losses
