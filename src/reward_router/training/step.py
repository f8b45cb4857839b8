"""Optimiser steps on a batch of preference pairs: LoRA, mini- and micro-batches, the reference as an adapter.

Prompt tokens are masked, response tokens and EOS are trained (no EOS where the token limit cut the response). The loss that
becomes the payoff is the forward before the first step, of all pairs (PAPERS: ``neg_loss``). A batch may be gone through
several times, in mini-batches drawn by key, as iterative DPO is run; the reference is computed once. Runs alone or under
``accelerate launch``: a step is on the mean over the pairs of all processes, of which some may have none; every process must
call :meth:`Trainer.step` and :meth:`Trainer.losses` the same number of times. Left out: full fine-tuning.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from reward_router.config import TrainConfig
from reward_router.errors import RunError
from reward_router.keyed import rng
from reward_router.policy import Policy
from reward_router.training.logps import response_logps
from reward_router.training.losses import dpo, kto, kto_kl, nll
from reward_router.training.packed import can_pack, pack, packed_logps
from reward_router.training.records import Pair, StepResult
from reward_router.training.schedule import Schedule
from reward_router.types import Float

__all__ = ["Pair", "StepResult", "Trainer", "mismatched"]
MAX_SKIPS = 3


@dataclass(frozen=True, slots=True)
class _Batch:
    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor


_NO_PAIR = Pair("nothing", "nothing", "")


class Trainer:
    """AdamW on the policy's LoRA parameters."""

    def __init__(
        self,
        policy: Policy,
        config: TrainConfig,
        accelerator: Any,
        schedule: Schedule | None = None,
        seed: int = 0,
    ) -> None:
        """``accelerator``: an ``accelerate.Accelerator``; it places the model and averages gradients.

        ``schedule``: the rates of the run (None: ``train.lr`` throughout). ``seed`` keys the order of mini-batches.
        """
        self.policy, self.config, self.accelerator = policy, config, accelerator
        self.schedule, self.seed = schedule or Schedule(config.lr), seed
        self.parameters = [p for p in policy.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, weight_decay=config.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(policy.model, optimizer)
        self.skips = 0
        self._moved: list[Tensor] | None = (
            None  # of the pass that is watched: policy less reference, (chosen, rejected)
        )
        self.packs = config.share_prompts and can_pack(policy.model.get_base_model())

    def step(self, pairs: Sequence[Pair], batch: int = 0) -> StepResult:
        """``steps_per_batch`` passes over the pairs of batch number ``batch``, an optimiser step a mini-batch.

        RunError after three batches in a row with a loss that is not finite. Cost over all tokens of the pairs, in forwards:
        2 ``steps_per_batch``, 1 where the loss has a reference, 1 more where there are several mini-batches.
        """
        size, reference = self._size(pairs), self._reference(pairs)
        plan = self._plan(len(pairs), size.pairs, batch)
        first: Float | None = None
        self._moved = []
        moved_P2 = np.zeros((0, 2))
        if (
            len(plan) > self.config.steps_per_batch
        ):  # later mini-batches see a policy that earlier ones have moved
            with torch.no_grad():
                first = self._forward(pairs, reference, size)
            moved_P2 = self._watched()
            reference = replace(reference, same=False)
        norm, lrs = 0.0, list[float]()
        for done, part in enumerate(plan):
            lr = self.schedule.rate(batch, done / len(plan))
            loss_P, norm = self._descend(
                [pairs[i] for i in part.rows],
                reference.of(part.rows),
                replace(size, pairs=part.pairs),
                lr,
            )
            first = loss_P if first is None else first
            moved_P2 = moved_P2 if self._moved is None else self._watched()
            reference = replace(
                reference, same=False
            )  # where it was the policy's own, the first pass has filled it in
            self.policy.at_reference = False
            if not math.isfinite(norm):
                break
            lrs += [lr] if part.pairs else []
        skipped = not math.isfinite(norm)
        self.skips = self.skips + 1 if skipped else 0
        if self.skips >= MAX_SKIPS:
            raise RunError(
                f"{MAX_SKIPS} training losses in a row were not finite; lower train.lr={self.config.lr}"
            )
        return StepResult(
            np.zeros(0) if first is None else first, skipped, norm, tuple(lrs), moved_P2
        )

    def _watched(self) -> Float:
        """(P, 2) what the pass that ends now showed of each pair; later passes are not watched."""
        parts = self._moved or []
        self._moved = None
        return np.asarray(torch.cat(parts).double().cpu().numpy()) if parts else np.zeros((0, 2))

    def _plan(self, mine: int, total: int, batch: int) -> "list[_Part]":
        """The optimiser steps of a batch in order; all processes see the same ones, each with its own share of the pairs.

        Mini-batches are as even as they can be: 17 pairs in fours are 4, 4, 3, 3 and 3. Each pass shuffles anew, by key.
        """
        size = self.config.mini_batch
        number = math.ceil(total / size) if size else 1
        if number <= 1:
            return [_Part(list(range(mine)), total)] * self.config.steps_per_batch
        counts: list[int] = gather_object([mine])
        start = sum(counts[: self.accelerator.process_index])
        parts = []
        for epoch in range(self.config.steps_per_batch):
            order = rng(self.seed, "minibatch", batch, str(epoch)).permutation(total)
            for chosen in np.array_split(order, number):
                own = sorted(int(i) - start for i in chosen if start <= i < start + mine)
                parts.append(_Part(own, len(chosen)))
        return parts

    def losses(self, pairs: Sequence[Pair], batch: Sequence[Pair] | None = None) -> Float:
        """Each pair's loss under the present policy, without a step (payoffs ``improvement`` and ``full_advantage``).

        ``batch``: the pairs whose mean length counts where ``nll_reduction`` is token; None: these.
        """
        with torch.no_grad():
            size, reference = self._size(pairs if batch is None else batch), self._reference(pairs)
            return self._forward(pairs, reference, size)

    def _forward(self, pairs: Sequence[Pair], reference: "_Reference", size: "_Size") -> Float:
        parts = [
            self._losses(pairs, rows, reference, size).detach().cpu()
            for rows in self._micro(len(pairs))
        ]
        return np.asarray(torch.cat(parts).double().numpy()) if parts else np.zeros(0)

    def _size(self, pairs: Sequence[Pair]) -> "_Size":
        """Pairs of all processes, and the mean number of trained tokens of their winners."""
        tokens = sum(len(self.policy.response_ids(p.chosen)) for p in pairs)
        mine = torch.tensor(
            [float(len(pairs)), float(tokens)], dtype=torch.float64, device=self.accelerator.device
        )
        total, tokens_total = self.accelerator.reduce(mine, "sum").tolist()
        return _Size(int(total), tokens_total / max(total, 1.0))

    def _descend(
        self, pairs: Sequence[Pair], reference: "_Reference", size: "_Size", lr: float
    ) -> tuple[Float, float]:
        """One step on the mean loss over ``size.pairs`` pairs of all processes; (loss_P, gradient norm), NaN norm = no step."""
        if size.pairs == 0:
            return np.zeros(0), 0.0
        self.model.train()
        self.optimizer.zero_grad()
        loss_P = self._backward(pairs, reference, size)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        good = float(np.isfinite(loss_P).all() and bool(torch.isfinite(norm)))
        finite = torch.tensor(good, device=self.accelerator.device)
        if float(self.accelerator.reduce(finite, "sum")) < self.accelerator.num_processes:
            self.optimizer.zero_grad()
            return loss_P, math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return loss_P, float(norm)

    def _backward(self, pairs: Sequence[Pair], reference: "_Reference", size: "_Size") -> Float:
        """Gradients of all micro-batches; processes meet at the last one only, so their numbers may differ."""
        scale = self.accelerator.num_processes / size.pairs  # DDP averages gradients over processes
        if not pairs:  # the others wait for this process's gradients: none
            nothing = self._logps(self.model, self._encode([_NO_PAIR], "chosen"))[0]
            self.accelerator.backward(0.0 * nothing.sum())
            return np.zeros(0)
        parts, micro = [], list(self._micro(len(pairs)))
        for rows in micro:
            with nullcontext() if rows is micro[-1] else self.accelerator.no_sync(self.model):
                loss_M = self._losses(pairs, rows, reference, size)
                weight_M = torch.tensor([p.weight for p in pairs[rows]], device=loss_M.device)
                self.accelerator.backward((weight_M * loss_M).sum() * scale)
            parts.append(loss_M.detach().double().cpu())
        return np.asarray(torch.cat(parts).numpy())

    def _losses(
        self, pairs: Sequence[Pair], rows: slice, reference: "_Reference", size: "_Size"
    ) -> Tensor:
        """Losses of one micro-batch, with gradient where it is enabled."""
        part = pairs[rows]
        token_BT, mask_BT = self._both(self.model, part)
        sums_B = (token_BT * mask_BT).sum(1)
        chosen_M, rejected_M = sums_B[: len(part)], sums_B[len(part) :]
        if (
            reference.same
        ):  # the reference's log-probabilities are these very numbers: no second forward
            reference.chosen_P[rows], reference.rejected_P[rows] = (
                chosen_M.detach(),
                rejected_M.detach(),
            )
        if self._moved is not None and self.config.loss != "nll":
            moved_M2 = [
                chosen_M.detach() - reference.chosen_P[rows],
                rejected_M.detach() - reference.rejected_P[rows],
            ]
            self._moved.append(torch.stack(moved_M2, dim=1))
        if self.config.loss == "kto":
            return self._kto(chosen_M, rejected_M, reference, rows)
        loss_M = torch.zeros(len(part), device=sums_B.device)
        if self.config.loss in ("dpo", "dpo+nll"):
            loss_M = dpo(
                chosen_M,
                rejected_M,
                reference.chosen_P[rows],
                reference.rejected_P[rows],
                self.config.beta,
            )
        if self.config.loss in ("nll", "dpo+nll"):
            weight = self.config.nll_weight if self.config.loss == "dpo+nll" else 1.0
            tokens, mask = token_BT[: len(part)], mask_BT[: len(part)]
            loss_M = loss_M + weight * nll(
                tokens, mask, self.config.nll_reduction, size.mean_tokens
            )
        return loss_M

    def _kto(
        self, chosen_M: Tensor, rejected_M: Tensor, reference: "_Reference", rows: slice
    ) -> Tensor:
        desirable = torch.cat([torch.ones_like(chosen_M), torch.zeros_like(rejected_M)]).bool()
        loss_B = kto(
            torch.cat([chosen_M, rejected_M]),
            torch.cat([reference.chosen_P[rows], reference.rejected_P[rows]]),
            desirable,
            reference.kl,
            self.config.beta,
            self.config.desirable_weight,
            self.config.undesirable_weight,
        )
        both: Tensor = (loss_B[: len(chosen_M)] + loss_B[len(chosen_M) :]) / 2
        return both

    def _reference(self, pairs: Sequence[Pair]) -> "_Reference":
        """Summed log-probabilities under the reference adapter, and KTO's KL term; empty where the loss needs none."""
        empty = torch.zeros(len(pairs), device=self.accelerator.device)
        if self.config.loss == "nll":
            return _Reference(empty, empty, empty.sum(), False)
        once = self.config.steps_per_batch == 1 or self.config.mini_batch is not None
        if self.policy.at_reference and once and self.config.loss != "kto":
            return _Reference(empty, empty.clone(), empty.sum(), True)
        chosen, rejected = [empty[:0]], [empty[:0]]
        with torch.no_grad(), self.policy.using("reference"):
            for rows in self._micro(len(pairs)):
                token_BT, mask_BT = self._both(self.policy.model, pairs[rows])
                sums_B = (token_BT * mask_BT).sum(1)
                chosen.append(sums_B[: len(sums_B) // 2])
                rejected.append(sums_B[len(sums_B) // 2 :])
        return _Reference(torch.cat(chosen), torch.cat(rejected), self._kl(pairs), False)

    def _kl(self, pairs: Sequence[Pair]) -> Tensor:
        """KTO's z_0 over all processes: each prompt with the next other prompt's chosen response, policy against reference."""
        if self.config.loss != "kto":
            return torch.zeros((), device=self.accelerator.device)
        shifted = mismatched(pairs)
        rows: list[list[float]] = []
        for adapter in ("policy", "reference"):
            with torch.no_grad(), self.policy.using(adapter):
                parts = [
                    self._sums(self.policy.model, self._encode(shifted[r], "chosen"))
                    for r in self._micro(len(shifted))
                ]
            rows.append(torch.cat(parts).tolist() if parts else [])
        both = torch.tensor(
            gather_object(list(zip(*rows, strict=True))), device=self.accelerator.device
        )
        return kto_kl(*both.reshape(-1, 2).unbind(1))

    def _micro(self, n: int) -> Iterator[slice]:
        for start in range(0, n, self.config.micro_batch):
            yield slice(start, start + self.config.micro_batch)

    def _both(self, model: Any, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and mask of all chosen, then all rejected responses; a prompt's responses share its row."""
        if not self.packs:
            return self._logps(model, self._encode(pairs, "both"))
        texts = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
        ids = [
            (self.policy.prompt_ids(prompt), self.policy.response_ids(response))
            for prompt, response in texts
        ]
        dtype = next(self.policy.model.parameters()).dtype
        packed = pack(ids, int(self.policy.tokenizer.pad_token_id), dtype)
        return packed_logps(model, packed.to(self.accelerator.device))

    def _sums(self, model: Any, batch: _Batch) -> Tensor:
        token_BT, mask_BT = self._logps(model, batch)
        return (token_BT * mask_BT).sum(1)

    def _logps(self, model: Any, batch: _Batch) -> tuple[Tensor, Tensor]:
        return response_logps(model, batch.input_ids, batch.attention_mask, batch.response_mask)

    def _encode(self, pairs: Sequence[Pair], which: Literal["both", "chosen"]) -> _Batch:
        """Right-padded prompt + response + EOS: all chosen, then all rejected."""
        texts = [(p.prompt, p.chosen) for p in pairs]
        if which == "both":
            texts += [(p.prompt, p.rejected) for p in pairs]
        rows = [(self.policy.prompt_ids(x), self.policy.response_ids(y)) for x, y in texts]
        width = max(len(x) + len(y) for x, y in rows)
        pad = self.policy.tokenizer.pad_token_id
        ids = torch.tensor([[*x, *y] + [pad] * (width - len(x) - len(y)) for x, y in rows])
        length = torch.tensor([len(x) + len(y) for x, y in rows])[:, None]
        start = torch.tensor([len(x) for x, _ in rows])[:, None]
        column = torch.arange(width)[None]
        real = column < length
        device = self.accelerator.device
        return _Batch(ids.to(device), real.long().to(device), (real & (column >= start)).to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts as tensors, by parameter position."""
        raw = self.optimizer.state_dict()["state"]
        state = {
            f"{i}.{k}": torch.as_tensor(v).detach().cpu().clone()
            for i, s in raw.items()
            for k, v in s.items()
        }
        return {**state, "skips": torch.tensor(self.skips)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave; training then goes on bit for bit."""
        self.skips = int(state["skips"])
        whole = self.optimizer.state_dict()
        nested: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            index, dot, part = name.partition(".")
            if dot:
                nested.setdefault(int(index), {})[part] = value
        self.optimizer.load_state_dict({"state": nested, "param_groups": whole["param_groups"]})


def mismatched(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair's prompt with the chosen response of the next pair that has another prompt; empty where all share one."""
    found = []
    for i, pair in enumerate(pairs):
        others = (q for q in [*pairs[i + 1 :], *pairs[:i]] if q.prompt != pair.prompt)
        found += [Pair(pair.prompt, q.chosen, q.rejected) for q in islice(others, 1)]
    return found


@dataclass(frozen=True, slots=True)
class _Size:
    pairs: int
    mean_tokens: float


@dataclass(frozen=True, slots=True)
class _Reference:
    chosen_P: Tensor
    rejected_P: Tensor
    kl: Tensor
    same: bool

    def of(self, rows: Sequence[int]) -> "_Reference":
        """The same of some pairs; the tensors themselves where these are all of them in order."""
        if len(rows) == len(self.chosen_P):
            return self
        at = torch.tensor(rows, dtype=torch.long, device=self.chosen_P.device)
        return _Reference(self.chosen_P[at], self.rejected_P[at], self.kl, self.same)


@dataclass(frozen=True, slots=True)
class _Part:
    """One optimiser step: this process's pairs by number, and how many all processes bring."""

    rows: list[int]
    pairs: int
