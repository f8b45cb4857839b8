"""A language model of a million weights for `grpo_study.py`, taught the form of the tasks.

The embedded policy takes 35 to 50 s of one core for a GRPO step of 32 completions, so that one core
cannot train it for long enough, variant by variant. This model is taught by the embedded policy's
own answers, right and wrong alike: it knows what answers look like, and is seldom right.

    reward-router gold-pairs --split fit --prompts all --per-prompt 12 --out pairs.jsonl
    python benchmarks/grpo_base.py pairs.jsonl --out runs/grpo/base

The answers are to prompts of the split ``fit``; GRPO trains on ``train``, and gold is measured on
``dev`` or ``test``.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reward_router.examples import load_examples
from reward_router.rewards.tiny import SPECIAL_TOKENS, with_chat_template

VOCABULARY = 2048
HIDDEN, LAYERS, HEADS = 128, 4, 4
LONGEST = 40
"""Tokens of an answer; longer ones, and those that the token limit cut, are left out."""


def answers_of(pairs: Path) -> list[tuple[str, str]]:
    """Distinct (prompt, response) of a file of `gold-pairs`, right and wrong ones."""
    found: dict[tuple[str, str], None] = {}
    for line in pairs.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for side in ("chosen", "rejected"):
            found[row["prompt"], row[side]] = None
    return list(found)


def tokenizer_of(texts: Sequence[str]) -> Any:
    """A byte-level BPE of these texts, with the chat template of the embedded policy."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return with_chat_template(backend)


def model_of(tokenizer: Any, seed: int) -> Any:
    """A Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def encoded(tokenizer: Any, answers: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """Token ids of prompt and response, and how many of them are the prompt's."""
    rows = []
    for prompt, response in answers:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        prompt_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        response_ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        if len(response_ids) > LONGEST:
            continue
        rows.append(([*prompt_ids, *response_ids, tokenizer.eos_token_id], len(prompt_ids)))
    return rows


def batch_of(rows: Sequence[tuple[list[int], int]], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded tensors; only the response's tokens are learned."""
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, (ids, start) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        labels[i, start : len(ids)] = torch.tensor(ids[start:])
        mask[i, : len(ids)] = 1
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def teach(model: Any, tokenizer: Any, rows: Any, epochs: int, lr: float) -> float:
    """Supervised learning with a linear schedule; the last epoch's mean loss."""
    size = 32
    steps_an_epoch = len(rows) // size
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    total = epochs * steps_an_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min(1.0, (t + 1) / 20) * (1 - t / total)
    )
    draws = np.random.default_rng(0)
    loss_of_epoch = float("nan")
    for _ in range(epochs):
        order = draws.permutation(len(rows))
        losses = []
        for step in range(steps_an_epoch):
            part = [rows[i] for i in order[step * size : (step + 1) * size]]
            loss = model(**batch_of(part, tokenizer.pad_token_id)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        loss_of_epoch = float(np.mean(losses))
    return loss_of_epoch


def main() -> None:
    """Read the command line; teach and save."""
    from reward_router.config import DataConfig

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    given = parser.parse_args()
    started = time.perf_counter()
    answers = answers_of(given.pairs)
    asked = [str(e.prompt) for e in load_examples(DataConfig(source="embedded", split="train"))]
    tokenizer = tokenizer_of([*asked, *(text for answer in answers for text in answer)])
    model = model_of(tokenizer, 0)
    loss = teach(model, tokenizer, encoded(tokenizer, answers), given.epochs, given.lr)
    model.eval().save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    weights = sum(p.numel() for p in model.parameters())
    seconds = time.perf_counter() - started
    print(f"{weights} weights, {len(answers)} answers, loss {loss:.3f}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
