"""`RoutedDPOTrainer`: TRL's DPOTrainer, whose losses pair by pair are the router's payoffs.

TRL lets only the mean loss out. What makes it up, each pair's log-probabilities, is read by forward
hooks from the very forward passes that train, so that nothing is computed twice. The loss told to
the router is the sigmoid DPO loss, plus the weighted mean negative log-likelihood of the chosen
tokens where ``loss_type`` has ``sft`` (LASER's loss). Left out: the reference of a PEFT adapter
that is not precomputed, other preference losses, length desensitising, and vision.
"""

import math
from typing import Any

import torch
from torch.nn import functional
from trl import DPOTrainer

from reward_router.errors import InputError
from reward_router.session import Session

DECISION = "router_decision"


class RoutedDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """DPOTrainer on a data set made by ``relabel``, whose column ``router_decision`` says whose
    payoff a loss is.

    Args:
        session: the session that made the data set.
        args, kwargs: DPOTrainer's.

    A decision is paid once, minus the loss that its pair had when it was first trained on; the
    session's scaler brings it to [0, 1]. A loss of log 2 is left out: policy and reference are
    equal there, whatever the arm said.
    """

    def __init__(self, *args: Any, session: Session, **kwargs: Any) -> None:
        """InputError where the data set has no decisions, or log-probabilities of the reference
        cannot be read.
        """
        data = kwargs.get("train_dataset")
        if data is None or DECISION not in data.column_names:
            raise InputError(
                f"train_dataset: it has no column {DECISION!r}; allowed a data set made by "
                "relabel, passed by name"
            )
        precomputed = getattr(kwargs.get("args"), "precompute_ref_log_probs", False)
        if kwargs.get("peft_config") is not None and not precomputed:
            raise InputError(
                "args: with peft_config, RoutedDPOTrainer needs precompute_ref_log_probs=True"
            )
        self.session = session
        self._paid: set[str] = set()
        super().__init__(*args, **kwargs)
        self.data_collator = _Keeping(self.data_collator)  # type: ignore[has-type]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if DECISION not in self._signature_columns:
            self._signature_columns.append(DECISION)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        decisions = inputs.pop(DECISION, None)
        if decisions is None or not self.model.training:
            return super()._compute_loss(model, inputs, return_outputs)
        seen: dict[str, Any] = {}
        hooks = [model.register_forward_hook(_keep(seen, "policy"))]
        if self.ref_model is not None:
            hooks.append(self.ref_model.register_forward_hook(_keep(seen, "reference")))
        try:
            result = super()._compute_loss(model, inputs, return_outputs)
        finally:
            for hook in hooks:
                hook.remove()
        self._pay(decisions, self._losses(inputs, seen))
        return result

    def _losses(self, inputs: dict[str, Any], seen: dict[str, Any]) -> list[float]:
        """(P,) the loss of each pair, nats."""
        # The forward pass may hold the prompt in front: the last columns are the completion's.
        length = inputs["completion_mask"].shape[1] - 1
        token_logps = seen["policy"][:, -length:]
        chosen, rejected = token_logps.sum(dim=1).chunk(2)
        if "reference" in seen:
            ref_chosen, ref_rejected = seen["reference"][:, -length:].sum(dim=1).chunk(2)
        else:
            ref_chosen = inputs["ref_chosen_logps"]
            ref_rejected = inputs["ref_rejected_logps"]
        # the sigmoid DPO loss: -log sigmoid(beta margin)
        margin = (chosen - ref_chosen) - (rejected - ref_rejected)
        loss_P = -functional.logsigmoid(self.beta * margin)
        weights = self.args.loss_weights or [1.0] * len(self.args.loss_type)
        if "sft" in self.args.loss_type:
            weight = weights[self.args.loss_type.index("sft")]
            tokens = inputs["completion_mask"][:, 1:].sum(dim=1).chunk(2)[0]
            loss_P = loss_P - weight * chosen / tokens
        return [float(loss) for loss in loss_P]

    def _pay(self, decisions: list[str], losses: list[float]) -> None:
        """Every process pays what all processes saw."""
        payoffs: dict[str, float] = {}
        is_plain_dpo = "sft" not in self.args.loss_type
        own_losses = list(zip(decisions, losses, strict=True))
        for name, loss in self.session.gather(own_losses):
            # Where policy and reference are equal the loss is log 2, whatever the arm said.
            says_nothing = is_plain_dpo and abs(loss - math.log(2)) < 1e-6
            if math.isfinite(loss) and not says_nothing:
                payoffs.setdefault(name, -loss)
        # A pair comes back in every epoch; it is paid for the first time only.
        new = [(name, value) for name, value in payoffs.items() if name not in self._paid]
        self._paid.update(name for name, _ in new)
        self.session.dispatcher.feedback_raw_many(new, source="dpo_loss")


def _keep(seen: dict[str, Any], name: str) -> Any:
    def hook(module: torch.nn.Module, given: Any, outputs: Any) -> None:
        seen[name] = outputs.log_probs.detach()

    return hook


class _Keeping:
    """A collator that passes the decisions on beside what ``collate`` makes of the rest."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        decisions = [row.get(DECISION) for row in rows]
        rest = [{name: row[name] for name in row if name != DECISION} for row in rows]
        batch: dict[str, Any] = self.collate(rest)
        return batch if None in decisions else batch | {DECISION: decisions}
