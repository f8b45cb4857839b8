"""A small learned reward model: a linear head on the vectors of a frozen sentence encoder.

    r(x, y) = <w, [e(y) ; c e(x) * e(y) ; e(x, y)]>
    P(y better than y') = sigmoid(r(x, y) - r(x, y'))        (Bradley-Terry)

e is the encoder's unit vector of the response, of the prompt, and of both together; the product
says how the response relates to the prompt. ``fit-arm`` learns w from preference pairs; an artifact
holds one or more heads on one encoder, a few kB each. Arms on the same encoder share its weights in
memory. Left out: tuning the encoder (use a classifier for that).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.artifacts import folder_of
from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind, nearest
from reward_router.rewards import loading
from reward_router.rewards.template import user_text
from reward_router.types import Float

FORMAT = 1
TENSORS, ABOUT = "heads.safetensors", "heads.json"
# Products of unit vectors are small; this brings them to the size of the vectors themselves.
PRODUCT_SCALE = 20.0


def heads_folder(weights: str) -> Path:
    """The folder of an artifact: a path, or a packaged name; InputError where it is neither."""
    return folder_of(weights, ABOUT, "weights", "fit-arm")


def about_heads(weights: str) -> dict[str, Any]:
    """What an artifact says of itself; InputError where there is none, or one of another format."""
    try:
        about = json.loads((heads_folder(weights) / ABOUT).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"weights={weights!r}: not a whole artifact of fit-arm ({error})"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(
            f"weights={weights!r}: this version reads format {FORMAT} of fit-arm's artifacts"
        )
    if not isinstance(about.get("heads"), dict) or not about["heads"]:
        raise InputError(f"weights={weights!r}: {ABOUT} names no head")
    return about


def head_name(weights: str, head: str | None) -> str:
    """The head that an arm uses: ``head``, or the only one there is.

    InputError where it is not there, or where one must be named.
    """
    known = about_heads(weights)["heads"]
    if head is None and len(known) > 1:
        raise InputError(
            f"weights={weights!r} holds several heads; give head: one of {', '.join(sorted(known))}"
        )
    name = head or next(iter(known))
    if name not in known:
        raise InputError(f"weights={weights!r} has no head {name!r}{nearest(name, known)}")
    return str(name)


def check_encoder(weights: str, model: str, identity: str) -> None:
    """InputError where an artifact was learned on another encoder.

    ``identity`` is that of the encoder ``model`` as it is now.
    """
    about = about_heads(weights)
    if about.get("encoder_weights") != identity:
        raise InputError(
            f"weights={weights!r} was learned on the encoder {about.get('encoder')!r} "
            f"with weights {about.get('encoder_weights')}, and "
            f"model {model!r} has the weights {identity}; use that encoder, "
            f"or learn the heads again with fit-arm --encoder {model}"
        )


def read_heads(weights: str) -> tuple[dict[str, Float], dict[str, Any]]:
    """(F,) weights by head, and what the artifact says of itself.

    InputError where it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    about = about_heads(weights)
    try:
        tensors = load_file(heads_folder(weights) / TENSORS)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"weights={weights!r}: not a whole artifact of fit-arm ({error})"
        ) from error
    if sorted(tensors) != sorted(about["heads"]):
        raise InputError(f"weights={weights!r}: {TENSORS} holds other heads than {ABOUT} names")
    return {name: np.asarray(row, np.float64) for name, row in tensors.items()}, about


def features(
    encoder: Any, prompts: Sequence[str], responses: Sequence[str], batch_size: int = 64
) -> Float:
    """(B, 3 D) features of prompts with one response each. Each distinct text is encoded once."""
    both = [f"{prompt}\n{response}" for prompt, response in zip(prompts, responses, strict=True)]
    texts = list(dict.fromkeys([*prompts, *responses, *both]))
    encoded = encoder.encode(
        texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False
    )
    rows_XD = np.asarray(encoded, np.float64)
    length_X1 = np.linalg.norm(rows_XD, axis=1, keepdims=True)
    unit_XD = rows_XD / np.maximum(length_X1, 1e-12)

    place = {text: i for i, text in enumerate(texts)}
    prompt_BD = unit_XD[[place[text] for text in prompts]]
    response_BD = unit_XD[[place[text] for text in responses]]
    both_BD = unit_XD[[place[text] for text in both]]
    # The product says how far the response is about the prompt; scaled to the others' size.
    product_BD = PRODUCT_SCALE * prompt_BD * response_BD
    return np.concatenate([response_BD, product_BD, both_BD], axis=1)


class FittedHead:
    """Scores by one head of an artifact.

    The prompt is its last user message; a blank response is abstained from.
    Cost: two short texts through the encoder a response, and one a prompt.
    """

    def __init__(
        self, encoder: Any, *, weights: str, head: str | None = None, batch_size: int = 64
    ) -> None:
        """Reads the head; InputError where it cannot be had.

        Args:
            encoder: The sentence encoder that the head was learned on.
            weights: The artifact, a folder or a packaged name.
            head: The head's name, where the artifact holds several.
            batch_size: How many texts are encoded together.
        """
        name = head_name(weights, head)
        rows, self.about = read_heads(weights)
        self.encoder = encoder
        self.weight_F = rows[name]
        self.batch_size = batch_size

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores, NaN where a row is shorter than the longest or a response is blank."""
        scores_BN = np.full((len(prompts), max((len(row) for row in responses), default=0)), np.nan)
        prompt_texts = [user_text(prompt) for prompt in prompts]
        cells: list[tuple[int, int]] = []
        for b, row in enumerate(responses):
            cells += [(b, n) for n, text in enumerate(row) if text.strip()]
        if not cells:
            return scores_BN
        rows_CF = features(
            self.encoder,
            [prompt_texts[b] for b, _ in cells],
            [str(responses[b][n]) for b, n in cells],
            self.batch_size,
        )
        if rows_CF.shape[1] != len(self.weight_F):
            raise InputError(
                f"the encoder gives {rows_CF.shape[1]} features and the head was learned on "
                f"{len(self.weight_F)}: it belongs to {self.about.get('encoder')!r}"
            )
        for (b, n), value in zip(cells, rows_CF @ self.weight_F, strict=True):
            scores_BN[b, n] = value
        return scores_BN


def _check(options: Mapping[str, Any]) -> None:
    weights = options["weights"]
    head = options.get("head")
    if not isinstance(weights, str) or not isinstance(head, str | None):
        raise InputError(
            "weights is a folder or a packaged name, and head a name; "
            f"given {weights!r} and {head!r}"
        )
    head_name(weights, head)


def _check_loaded(options: Mapping[str, Any], model: str) -> None:
    check_encoder(str(options["weights"]), model, loading.model_identity(model))


def _file(options: Mapping[str, Any]) -> Path | None:
    """The file of its weights; None where there is none, which building the arm refuses by name."""
    try:
        file = heads_folder(str(options.get("weights", ""))) / TENSORS
        return file if file.is_file() else None
    except (InputError, OSError, ValueError):
        return None


KIND = ArmKind(
    "head",
    FittedHead,
    "a small reward model that `fit-arm` learned from your preference pairs",
    loader="encoder",
    default_model=loading.MINILM,
    hidden=("encoder",),
    ragged=True,
    check=_check,
    check_loaded=_check_loaded,
    weights=_file,
    places=("weights",),
)
