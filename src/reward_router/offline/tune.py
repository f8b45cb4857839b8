"""The paper's own way: the encoder itself learns together with the head and the strengths.

It learns whole or by LoRA, by AdamW with one rate for the encoder and one for the head, falling
linearly to 0. There is a look at the dev split every ``check_every`` steps, and the best weights
seen there are kept (the authors chose their checkpoint on the test set). The features' centre and
scale are those of the untuned encoder on a sample of the training pairs, and stay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn.functional import normalize

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.keyed import key, rng
from reward_router.offline.encoder import TextEncoder
from reward_router.offline.learn import LearnedHead, as_strengths, seeded_head, targets
from reward_router.offline.prior import ENCODER_FOLDER
from reward_router.offline.settings import EncoderConfig, PriorConfig
from reward_router.offline.strengths import Strengths
from reward_router.progress import status
from reward_router.types import Float, Int

SAMPLE = 256  # training pairs that set the features' centre and scale
HEAD_FASTER = 50.0


@dataclass(frozen=True, eq=False)
class TuneData:
    """P labelled pairs to tune on.

    Args:
        prompts: their texts.
        sides: texts of the two responses.
        right_PK: who was right, as in `fit_strengths`.
        train_P: the rows to learn from.
        dev_P: the rows that choose the weights.
    """

    prompts: Sequence[Prompt]
    sides: tuple[Sequence[str], Sequence[str]]
    right_PK: Float
    train_P: NDArray[np.bool_]
    dev_P: NDArray[np.bool_]


def tune(
    config: PriorConfig, texts: TextEncoder, data: TuneData, out: Path, console: Console
) -> tuple[Strengths, TextEncoder]:
    """Train encoder, head and strengths.

    The encoder is written to ``out``/encoder and returned as it is loaded from there. One optimiser
    step costs a forward and a backward of 2 ``batch_pairs`` texts. InputError where the loss is not
    finite, or no pair tells arms apart.
    """
    run = _Run(config, texts, data)
    e = config.encoder
    per_pass = -(-len(run.train_rows) // e.batch_pairs)
    all_passes = e.epochs * per_pass
    steps = min(all_passes, e.max_steps or all_passes)

    # The head starts from nothing, so it learns faster than the encoder, which is trained.
    body_weights = [weight for weight in run.trainable(e).parameters() if weight.requires_grad]
    head_weights = list(run.head.parameters())
    head_lr = min(e.lr * HEAD_FASTER, config.strengths.lr)
    groups: list[dict[str, Any]] = [
        {"params": body_weights, "lr": e.lr},
        {"params": head_weights, "lr": head_lr},
    ]
    learning = [*body_weights, *head_weights]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.strengths.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - step / steps)

    with status(console, "tuning the encoder") as show:
        for step, rows in enumerate(run.batches(e, steps), start=1):
            optimiser.zero_grad()
            loss = run.loss(rows)
            if not torch.isfinite(loss):
                raise InputError(
                    f"the loss is not finite at step {step} with encoder.lr={e.lr}: "
                    "use a smaller one"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
            schedule.step()

            if step % e.check_every == 0 or step == steps:
                dev_loss = run.look(step)
                show(f"tuning the encoder: step {step} of {steps}, dev loss {dev_loss:.4f}")
    return run.finished(out)


class _Run:
    """The state of one tuning: encoder, head, targets, and the best weights so far."""

    def __init__(self, config: PriorConfig, texts: TextEncoder, data: TuneData) -> None:
        """Tokenises everything once; features of a sample set centre and scale."""
        self.config = config
        self.texts = texts
        self.train_rows: Int = np.flatnonzero(data.train_P)
        self.dev_rows: Int = np.flatnonzero(data.dev_P)
        self.ids = [texts.tokens(data.prompts, side) for side in data.sides]
        self._standardise(data)

        # What the two heads learn from, and what they are measured by.
        self.lambda_cls = 0.0 if config.without == "cls" else config.lambda_cls
        train_right_PK = data.right_PK[self.train_rows]
        dev_right_PK = data.right_PK[self.dev_rows]
        self.train = targets(train_right_PK, config.balance, config.seed)
        self.dev = targets(dev_right_PK, config.balance, config.seed, "dev")

        dim = config.strengths.dim
        head = seeded_head(2 * texts.dim, dim, train_right_PK, config.seed, config.balance)
        self.head: LearnedHead = head.to(texts.device)

        # The best weights so far, by the loss on the dev rows.
        self.best_loss = np.inf
        self.best_step = 0
        self.best_body: dict[str, Tensor] = {}
        self.best_head: dict[str, Tensor] = {}

    def _standardise(self, data: TuneData) -> None:
        """Set centre and scale of the features, from a sample under the encoder as it starts."""
        draw = rng(self.config.seed, "data", 0, "tune")
        sample = draw.permutation(self.train_rows)[:SAMPLE]
        prompts = _chosen(data.prompts, sample)
        first, second = (_chosen(side, sample) for side in data.sides)
        plain_PF = self.texts.features(prompts, first, second)

        spread_F = plain_PF.std(axis=0) + 1e-8
        self.centre_F = plain_PF.mean(axis=0)
        # A feature that hardly varies would be blown up on the first text where it does.
        least = 1e-3 * spread_F.max()
        self.scale_F = np.maximum(spread_F, least)

        device = self.texts.device
        self._centre = torch.tensor(self.centre_F).float().to(device)
        self._scale = torch.tensor(self.scale_F).float().to(device)

    def trainable(self, e: EncoderConfig) -> Any:
        """The body with the weights that learn switched on.

        They are all of them, or LoRA's on every linear layer.
        """
        body = self.texts.body
        if e.tune == "full":
            self.texts.body = body.float().requires_grad_(True)
        else:
            from peft import LoraConfig, get_peft_model

            adapters = LoraConfig(
                r=e.lora_r, lora_alpha=int(e.lora_alpha), target_modules="all-linear"
            )
            # Torch's global generator is left as it was; LoRA's start is the run's own.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(key(self.config.seed, "init", 0, "lora") % 2**63)
                self.texts.body = get_peft_model(body, adapters)
        return self.texts.body.train()

    def batches(self, e: EncoderConfig, steps: int) -> Iterator[Int]:
        """Places among the training rows, one batch a step, every pass in its own order."""
        done = 0
        for epoch in range(e.epochs):
            draw = rng(self.config.seed, "order", epoch, "tune")
            order_P = draw.permutation(len(self.train_rows))
            for start in range(0, len(order_P), e.batch_pairs):
                if done == steps:
                    return
                done += 1
                yield order_P[start : start + e.batch_pairs]

    def outputs(self, rows: Int) -> tuple[Tensor, Tensor]:
        """Cosines and logits of rows of the whole data, through encoder and head.

        They are those of `TextEncoder.features`, in torch.
        """
        states = [self.texts.states(_chosen(side, rows)) for side in self.ids]
        # Unit norm on each side before they are combined, as in `TextEncoder`.
        first, second = (normalize(side_BD, dim=-1) for side_BD in states)

        middle = (first + second) / 2
        distance = (first - second).abs()
        features = normalize(torch.cat([middle, distance], dim=1), dim=-1)
        standardised = (features - self._centre) / self._scale
        return self.head(standardised)  # type: ignore[no-any-return]

    def loss(self, places: Int) -> Tensor:
        """The training loss of a batch, by places among the training rows."""
        cosine_BK, logit_BK = self.outputs(self.train_rows[places])
        outputs = (cosine_BK.cpu(), logit_BK.cpu())
        return self.train.loss(outputs, torch.from_numpy(places), self.lambda_cls)

    def look(self, step: int) -> float:
        """The dev loss now; weights that are the best so far are copied to memory."""
        self.texts.body.eval()
        size = 2 * self.config.encoder.batch_pairs
        count = len(self.dev_rows)
        cosines = []
        logits = []
        with torch.no_grad():
            for start in range(0, count, size):
                rows = self.dev_rows[start : start + size]
                cosine_BK, logit_BK = self.outputs(rows)
                cosines.append(cosine_BK.cpu())
                logits.append(logit_BK.cpu())
            outputs = (torch.cat(cosines), torch.cat(logits))
            every_row = torch.arange(count)
            loss = float(self.dev.loss(outputs, every_row, self.lambda_cls))

        if loss < self.best_loss:
            self.best_loss = loss
            self.best_step = step
            self.best_body = _copied(self.texts.body)
            self.best_head = _copied(self.head)
        self.texts.body.train()
        return loss

    def finished(self, out: Path) -> tuple[Strengths, TextEncoder]:
        """The best weights: strengths in numpy, and the encoder.

        It is written to ``out`` (adapters merged) and read back.
        """
        if not self.best_body:
            raise InputError(
                f"the dev loss was never finite with encoder.lr={self.config.encoder.lr}: "
                "use a smaller one"
            )
        e = self.config.encoder
        body = self.texts.body
        body.load_state_dict(self.best_body)
        whole = body.merge_and_unload() if e.tune == "lora" else body
        whole.save_pretrained(out / ENCODER_FOLDER, safe_serialization=True)
        self.texts.tokenizer.save_pretrained(out / ENCODER_FOLDER)
        strengths = as_strengths(
            self.best_head, self.centre_F, self.scale_F, self.best_loss, self.best_step
        )
        # Read back from the folder: what the router will load is what is calibrated next.
        again = TextEncoder(
            str(out / ENCODER_FOLDER),
            pooling=self.texts.pooling,
            max_tokens=e.max_tokens,
            batch=e.batch,
            dtype=e.dtype,
            device=e.device,
            name=e.model,
        )
        return strengths, again


def _chosen(column: Sequence[Any], rows: Int) -> list[Any]:
    return [column[i] for i in rows]


def _copied(module: Any) -> dict[str, Tensor]:
    """A module's weights in memory, apart from those that go on learning."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
