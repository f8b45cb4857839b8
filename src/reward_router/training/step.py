"""Optimiser steps on a batch of preference pairs: LoRA, mini-batches, a reference adapter.

Prompt tokens are masked; response tokens and EOS are trained, but no EOS where the token limit cut
the response. The loss that becomes the payoff ``neg_loss`` is that of all pairs before the first
step. A batch may be gone through several times, in mini-batches drawn by key, as iterative DPO is
run; the reference is computed once.

A trainer runs alone or under ``accelerate launch``. A step is then on the mean over the pairs of
all processes, of which some may have none, and every process must call :meth:`Trainer.step` and
:meth:`Trainer.losses` the same number of times. Left out: full fine-tuning.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
from reward_router.training.packed import can_pack, pack_texts, packed_logps
from reward_router.training.records import Pair, StepResult
from reward_router.training.schedule import Schedule
from reward_router.types import Float

__all__ = ["Pair", "StepResult", "Trainer", "mismatched"]

MAX_SKIPS = 3  # batches in a row whose loss is not finite, after which a run has diverged


@dataclass(frozen=True, slots=True)
class _Batch:
    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor


# What a process without pairs runs, so that its gradients exist and are zero.
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
        """Prepares the model and an optimiser; nothing is computed yet.

        Args:
            policy: the model with its adapters.
            config: the section ``train`` of the configuration.
            accelerator: an ``accelerate.Accelerator``: it places the model and averages gradients.
            schedule: the learning rates of the run; None: ``train.lr`` throughout.
            seed: the key of the order of mini-batches.
        """
        self.policy = policy
        self.config = config
        self.accelerator = accelerator
        self.schedule = schedule or Schedule(config.lr)
        self.seed = seed
        self.parameters = [p for p in policy.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, weight_decay=config.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(policy.model, optimizer)
        self.skips = 0  # batches in a row whose loss was not finite
        # Of the one pass that is watched, by micro-batch: the log-probabilities of the chosen and
        # the rejected responses under the policy less those under the reference. None: not watched.
        self._moved: list[Tensor] | None = None
        self.packs = config.share_prompts and can_pack(policy.model.get_base_model())

    def step(self, pairs: Sequence[Pair], batch: int = 0) -> StepResult:
        """``steps_per_batch`` passes over the pairs of a batch, an optimiser step a mini-batch.

        RunError after three batches in a row with a loss that is not finite. The cost over all
        tokens of the pairs, in forwards: 2 ``steps_per_batch``, 1 where the loss has a reference,
        1 more where there are several mini-batches.

        Args:
            pairs: this process's pairs, of which there may be none.
            batch: the number of the batch in the run; rates and mini-batches go by it.
        """
        size = self._size(pairs)
        reference = self._reference(pairs)
        plan = self._plan(len(pairs), size.pairs, batch)
        first_loss_P: Float | None = None
        moved_P2 = np.zeros((0, 2))
        self._moved = []

        # With several mini-batches the later ones see a policy that the earlier ones have moved, so
        # the losses before the first step need a pass of their own.
        if len(plan) > self.config.steps_per_batch:
            with torch.no_grad():
                first_loss_P = self._forward(pairs, reference, size)
            moved_P2 = self._take_moved()
            reference = replace(reference, same=False)

        grad_norm = 0.0
        rates: list[float] = []
        for done, part in enumerate(plan):
            lr = self.schedule.rate(batch, done / len(plan))
            part_size = replace(size, pairs=part.pairs)
            part_pairs = [pairs[i] for i in part.rows]
            loss_P, grad_norm = self._descend(part_pairs, reference.of(part.rows), part_size, lr)
            if first_loss_P is None:
                first_loss_P = loss_P
            if self._moved is not None:
                moved_P2 = self._take_moved()
            # Where the reference was the policy itself, the first pass has filled its numbers in.
            reference = replace(reference, same=False)
            self.policy.at_reference = False
            if not math.isfinite(grad_norm):
                break
            if part.pairs:
                rates.append(lr)

        skipped = not math.isfinite(grad_norm)
        self.skips = self.skips + 1 if skipped else 0
        if self.skips >= MAX_SKIPS:
            raise RunError(
                f"{MAX_SKIPS} training losses in a row were not finite; "
                f"lower train.lr={self.config.lr}"
            )
        loss_P = np.zeros(0) if first_loss_P is None else first_loss_P
        return StepResult(loss_P, skipped, grad_norm, tuple(rates), moved_P2)

    def _take_moved(self) -> Float:
        """(P, 2) what the pass that ends now showed of each pair; later passes are not watched."""
        parts = self._moved or []
        self._moved = None
        return np.asarray(torch.cat(parts).double().cpu().numpy()) if parts else np.zeros((0, 2))

    def _plan(self, own_pairs: int, all_pairs: int, batch: int) -> "list[_Part]":
        """The optimiser steps of a batch in order, the same ones on all processes.

        Each process brings its own share of a step's pairs. Mini-batches are as even as they can
        be: 17 pairs in fours are 4, 4, 3, 3 and 3. Each pass shuffles anew, by key.
        """
        size = self.config.mini_batch
        mini_batches = math.ceil(all_pairs / size) if size else 1
        if mini_batches <= 1:
            whole = _Part(list(range(own_pairs)), all_pairs)
            return [whole] * self.config.steps_per_batch

        # Pairs are numbered over all processes, so all of them draw the same mini-batches.
        pairs_by_process: list[int] = gather_object([own_pairs])
        start = sum(pairs_by_process[: self.accelerator.process_index])
        stop = start + own_pairs

        parts = []
        for epoch in range(self.config.steps_per_batch):
            # By key and not by torch's generator: a resumed run draws the same mini-batches.
            draw = rng(self.seed, "minibatch", batch, str(epoch))
            order = draw.permutation(all_pairs)
            for members in np.array_split(order, mini_batches):
                own_rows = sorted(int(i) - start for i in members if start <= i < stop)
                parts.append(_Part(own_rows, len(members)))
        return parts

    def losses(self, pairs: Sequence[Pair], batch: Sequence[Pair] | None = None) -> Float:
        """(P,) each pair's loss under the present policy, in nats; no step is taken.

        The payoffs ``improvement`` and ``full_advantage`` need it.

        Args:
            pairs: this process's pairs.
            batch: the pairs whose mean length counts where ``nll_reduction`` is ``token``; None:
                these pairs.
        """
        with torch.no_grad():
            size = self._size(pairs if batch is None else batch)
            reference = self._reference(pairs)
            return self._forward(pairs, reference, size)

    def _forward(self, pairs: Sequence[Pair], reference: "_Reference", size: "_Size") -> Float:
        if not pairs:
            return np.zeros(0)
        losses = []
        for rows in self._micro(len(pairs)):
            loss_M = self._losses(pairs, rows, reference, size)
            losses.append(loss_M.detach().cpu())
        return np.asarray(torch.cat(losses).double().numpy())

    def _size(self, pairs: Sequence[Pair]) -> "_Size":
        """Pairs of all processes, and the mean number of trained tokens of their winners."""
        own_pairs = float(len(pairs))
        own_tokens = float(sum(len(self.policy.response_ids(pair.chosen)) for pair in pairs))

        # As float64 in one tensor: one exchange between processes serves both counts.
        own_counts = torch.tensor(
            [own_pairs, own_tokens], dtype=torch.float64, device=self.accelerator.device
        )
        all_counts = self.accelerator.reduce(own_counts, "sum")
        all_pairs, all_tokens = all_counts.tolist()
        mean_tokens = all_tokens / max(all_pairs, 1.0)
        return _Size(int(all_pairs), mean_tokens)

    def _descend(
        self, pairs: Sequence[Pair], reference: "_Reference", size: "_Size", lr: float
    ) -> tuple[Float, float]:
        """One step on the mean loss over the pairs of all processes.

        Returns this process's losses and the norm of the gradient, NaN where no step was taken.
        """
        if size.pairs == 0:
            return np.zeros(0), 0.0
        self.model.train()
        self.optimizer.zero_grad()
        loss_P = self._backward(pairs, reference, size)
        grad_norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)

        # One process with a loss that is not finite keeps all of them from the step: their weights
        # must stay the same.
        all_finite = bool(np.isfinite(loss_P).all()) and bool(torch.isfinite(grad_norm))
        vote = torch.tensor(float(all_finite), device=self.accelerator.device)
        votes = float(self.accelerator.reduce(vote, "sum"))
        if votes < self.accelerator.num_processes:
            self.optimizer.zero_grad()
            return loss_P, math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return loss_P, float(grad_norm)

    def _backward(self, pairs: Sequence[Pair], reference: "_Reference", size: "_Size") -> Float:
        """Gradients of all micro-batches, and the losses.

        Processes meet at the last micro-batch only, so their numbers of micro-batches may differ.
        """
        # DDP averages gradients over processes, and the mean is over the pairs of all of them.
        scale = self.accelerator.num_processes / size.pairs
        if not pairs:
            # The others wait for this process's gradients, so it sends zeros.
            nothing = self._encode([_NO_PAIR], "chosen")
            logps_BT, _ = self._logps(self.model, nothing)
            self.accelerator.backward(0.0 * logps_BT.sum())
            return np.zeros(0)

        losses = []
        micro_batches = list(self._micro(len(pairs)))
        for rows in micro_batches:
            is_last = rows is micro_batches[-1]
            exchange = nullcontext() if is_last else self.accelerator.no_sync(self.model)
            with exchange:
                loss_M = self._losses(pairs, rows, reference, size)
                weights = [pair.weight for pair in pairs[rows]]
                weight_M = torch.tensor(weights, device=loss_M.device)
                weighted = (weight_M * loss_M).sum()
                self.accelerator.backward(weighted * scale)
            losses.append(loss_M.detach().double().cpu())
        return np.asarray(torch.cat(losses).numpy())

    def _losses(
        self, pairs: Sequence[Pair], rows: slice, reference: "_Reference", size: "_Size"
    ) -> Tensor:
        """Losses of one micro-batch, with gradient where it is enabled."""
        part = pairs[rows]
        size_M = len(part)
        # Chosen and rejected in one forward pass: the prompt's states may be shared.
        token_BT, mask_BT = self._both(self.model, part)
        logp_B = (token_BT * mask_BT).sum(1)
        chosen_M = logp_B[:size_M]
        rejected_M = logp_B[size_M:]
        if reference.same:
            # The reference's log-probabilities are these very numbers: no second forward is needed.
            reference.chosen_P[rows] = chosen_M.detach()
            reference.rejected_P[rows] = rejected_M.detach()
        ref_chosen_M = reference.chosen_P[rows]
        ref_rejected_M = reference.rejected_P[rows]

        loss = self.config.loss
        if self._moved is not None and loss != "nll":
            chosen_moved_M = chosen_M.detach() - ref_chosen_M
            rejected_moved_M = rejected_M.detach() - ref_rejected_M
            self._moved.append(torch.stack([chosen_moved_M, rejected_moved_M], dim=1))

        if loss == "kto":
            return self._kto(chosen_M, rejected_M, reference, rows)
        # The terms of the loss are added up; `dpo+nll` has both.
        loss_M = torch.zeros(size_M, device=logp_B.device)
        if loss in ("dpo", "dpo+nll"):
            loss_M = dpo(chosen_M, rejected_M, ref_chosen_M, ref_rejected_M, self.config.beta)
        if loss in ("nll", "dpo+nll"):
            weight = self.config.nll_weight if loss == "dpo+nll" else 1.0
            nll_M = nll(
                token_BT[:size_M], mask_BT[:size_M], self.config.nll_reduction, size.mean_tokens
            )
            loss_M = loss_M + weight * nll_M  # LASER eq. 1: L_DPO + L_NLL
        return loss_M

    def _kto(
        self, chosen_M: Tensor, rejected_M: Tensor, reference: "_Reference", rows: slice
    ) -> Tensor:
        """A pair's loss: the mean of those of its two responses, each judged by itself."""
        desirable_B = torch.cat([torch.ones_like(chosen_M), torch.zeros_like(rejected_M)]).bool()
        loss_B = kto(
            torch.cat([chosen_M, rejected_M]),
            torch.cat([reference.chosen_P[rows], reference.rejected_P[rows]]),
            desirable_B,
            reference.kl,
            self.config.beta,
            self.config.desirable_weight,
            self.config.undesirable_weight,
        )
        size_M = len(chosen_M)
        loss_M: Tensor = (loss_B[:size_M] + loss_B[size_M:]) / 2
        return loss_M

    def _reference(self, pairs: Sequence[Pair]) -> "_Reference":
        """Summed log-probabilities under the reference adapter, and KTO's KL term.

        All are 0 where the loss needs no reference, and where the policy still is the reference:
        the first pass then fills them in.
        """
        zero_P = torch.zeros(len(pairs), device=self.accelerator.device)
        no_kl = zero_P.sum()
        if self.config.loss == "nll":
            return _Reference(zero_P, zero_P, no_kl, same=False)

        # KTO needs its KL term before the first pass, so it is never filled in by one.
        one_pass = self.config.steps_per_batch == 1 or self.config.mini_batch is not None
        first_pass_knows = self.policy.at_reference and one_pass and self.config.loss != "kto"
        if first_pass_knows:
            return _Reference(zero_P, zero_P.clone(), no_kl, same=True)

        # The empty piece in front lets a process without pairs concatenate, too.
        chosen = [zero_P[:0]]
        rejected = [zero_P[:0]]
        with torch.no_grad(), self.policy.using("reference"):
            for rows in self._micro(len(pairs)):
                token_BT, mask_BT = self._both(self.policy.model, pairs[rows])
                logp_B = (token_BT * mask_BT).sum(1)
                # All chosen responses of the micro-batch stand before all rejected ones.
                n_pairs = len(logp_B) // 2
                chosen.append(logp_B[:n_pairs])
                rejected.append(logp_B[n_pairs:])
        return _Reference(torch.cat(chosen), torch.cat(rejected), self._kl(pairs), same=False)

    def _kl(self, pairs: Sequence[Pair]) -> Tensor:
        """KTO's z_0 over all processes, policy against reference on mismatched responses."""
        if self.config.loss != "kto":
            return torch.zeros((), device=self.accelerator.device)
        # A prompt with the responses to another one: what the policy says where nothing is
        # preferred.
        mismatched_pairs = mismatched(pairs)
        policy_logps = self._chosen_logps(mismatched_pairs, "policy")
        reference_logps = self._chosen_logps(mismatched_pairs, "reference")
        own_logps = list(zip(policy_logps, reference_logps, strict=True))

        # Gathered as Python objects, since processes may bring different numbers of pairs.
        all_logps = gather_object(own_logps)
        logps_B2 = torch.tensor(all_logps, device=self.accelerator.device)
        policy_B, reference_B = logps_B2.reshape(-1, 2).unbind(1)
        return kto_kl(policy_B, reference_B)

    def _chosen_logps(self, pairs: Sequence[Pair], adapter: str) -> list[float]:
        """The summed log-probability of each chosen response under one adapter, no gradient."""
        logps: list[float] = []
        model = self.policy.model
        with torch.no_grad(), self.policy.using(adapter):
            for rows in self._micro(len(pairs)):
                encoded = self._encode(pairs[rows], "chosen")
                token_BT, mask_BT = self._logps(model, encoded)
                logp_B = (token_BT * mask_BT).sum(1)
                logps += logp_B.tolist()
        return logps

    def _micro(self, n: int) -> Iterator[slice]:
        for start in range(0, n, self.config.micro_batch):
            yield slice(start, start + self.config.micro_batch)

    def _both(self, model: Any, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and mask of all chosen, then all rejected responses.

        The responses of a prompt share its row where the model can take that.
        """
        if not self.packs:
            return self._logps(model, self._encode(pairs, "both"))
        tokens = self._token_ids(pairs, "both")
        pad_id = int(self.policy.tokenizer.pad_token_id)
        dtype = next(self.policy.model.parameters()).dtype
        packed = pack_texts(tokens, pad_id, dtype)
        return packed_logps(model, packed.to(self.accelerator.device))

    def _logps(self, model: Any, batch: _Batch) -> tuple[Tensor, Tensor]:
        return response_logps(model, batch.input_ids, batch.attention_mask, batch.response_mask)

    def _encode(self, pairs: Sequence[Pair], which: Literal["both", "chosen"]) -> _Batch:
        """Right-padded prompt + response + EOS: all chosen, then all rejected."""
        prompt_lengths: list[int] = []
        texts: list[list[int]] = []
        for prompt_ids, response_ids in self._token_ids(pairs, which):
            prompt_lengths.append(len(prompt_ids))
            texts.append([*prompt_ids, *response_ids])
        # Padded on the right, where a causal model's padding changes nothing before it.
        width = max(len(text) for text in texts)
        pad = self.policy.tokenizer.pad_token_id
        ids_BT = torch.tensor([text + [pad] * (width - len(text)) for text in texts])

        length_B1 = torch.tensor([len(text) for text in texts])[:, None]
        prompt_length_B1 = torch.tensor(prompt_lengths)[:, None]
        column_1T = torch.arange(width)[None]
        is_text_BT = column_1T < length_B1
        is_response_BT = is_text_BT & (column_1T >= prompt_length_B1)
        device = self.accelerator.device
        return _Batch(
            input_ids=ids_BT.to(device),
            attention_mask=is_text_BT.long().to(device),
            response_mask=is_response_BT.to(device),
        )

    def _token_ids(
        self, pairs: Sequence[Pair], which: Literal["both", "chosen"]
    ) -> list[tuple[Sequence[int], Sequence[int]]]:
        """The prompt's and the response's tokens of all chosen, then all rejected responses."""
        texts = [(pair.prompt, pair.chosen) for pair in pairs]
        if which == "both":
            texts += [(pair.prompt, pair.rejected) for pair in pairs]
        return [
            (self.policy.prompt_ids(prompt), self.policy.response_ids(response))
            for prompt, response in texts
        ]

    def state_dict(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts as tensors, by parameter position."""
        state: dict[str, Tensor] = {}
        moments_by_position = self.optimizer.state_dict()["state"]
        for position, moments in moments_by_position.items():
            for name, value in moments.items():
                # A copy on the CPU: the optimiser goes on changing its own.
                tensor = torch.as_tensor(value).detach().cpu()
                state[f"{position}.{name}"] = tensor.clone()
        state["skips"] = torch.tensor(self.skips)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave; training then goes on bit for bit."""
        self.skips = int(state["skips"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            position, dot, name = key.partition(".")
            if dot:
                moments.setdefault(int(position), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def mismatched(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair's prompt with the responses of the next pair that has another prompt.

    The pairs form a ring. The list is empty where all of them share one prompt.
    """
    shifted = []
    for i, pair in enumerate(pairs):
        following = [*pairs[i + 1 :], *pairs[:i]]
        other = next((q for q in following if q.prompt != pair.prompt), None)
        if other is not None:
            shifted.append(Pair(pair.prompt, other.chosen, other.rejected))
    return shifted


@dataclass(frozen=True, slots=True)
class _Size:
    """The pairs of all processes, and the mean number of trained tokens of their winners."""

    pairs: int
    mean_tokens: float


@dataclass(frozen=True, slots=True)
class _Reference:
    """Log-probabilities under the reference; ``same``: they are the policy's own before a step."""

    chosen_P: Tensor
    rejected_P: Tensor
    kl: Tensor
    same: bool

    def of(self, rows: Sequence[int]) -> "_Reference":
        """The same of some pairs; the tensors themselves where these are all of them in order."""
        if len(rows) == len(self.chosen_P):
            return self
        index = torch.tensor(rows, dtype=torch.long, device=self.chosen_P.device)
        return _Reference(self.chosen_P[index], self.rejected_P[index], self.kl, self.same)


@dataclass(frozen=True, slots=True)
class _Part:
    """One optimiser step: this process's pairs by number, and how many all processes bring."""

    rows: list[int]
    pairs: int
