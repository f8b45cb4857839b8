"""``fit-arm``: small reward models from preference pairs, in seconds.

They are Bradley-Terry heads on a frozen sentence encoder:

    min_w  sum_p  c_p log(1 + exp(-<w, f(x, y+) - f(x, y-)>)) + ridge |w|^2 / 2

The features are scaled to unit variance. c_p gives every prompt the same weight, however many pairs
it has. The ridge is chosen by accuracy over folds of prompts, and the accuracy that the card states
is that of prompts the head had not seen. Left out: tuning the encoder.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.optimize import minimize

from reward_router import keyed
from reward_router.data import PreferenceRecord, load_preferences
from reward_router.errors import InputError
from reward_router.offline.text import prompt_text
from reward_router.progress import LiteralTable, say, show_table
from reward_router.rewards.kinds.head import ABOUT, FORMAT, TENSORS, features
from reward_router.rewards.loading import MINILM, load_encoder, model_identity
from reward_router.rewards.names import nearest
from reward_router.rundir import explained, write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float, Int

RIDGES = (0.01, 0.1, 1.0)
FOLDS = 5
LEAST_PROMPTS = 10
ALL = "all"
"""The category of pairs that name none."""


@dataclass(frozen=True, eq=False)
class FeatureDifferences:
    """Preference pairs as differences of features.

    Args:
        gap_PF: features of the chosen response less those of the rejected one.
        prompt_P: the number of each pair's prompt.
        fold_P: the fold that the prompt belongs to.
        category_P: of the prompt.
        words_P: words of the chosen response less those of the rejected one.
        digest: a hash of all texts.
    """

    gap_PF: Float
    prompt_P: Int
    fold_P: Int
    category_P: np.ndarray[Any, np.dtype[np.str_]]
    words_P: Float
    digest: str


def fit_arm(
    sources: Sequence[str],
    out: Path,
    heads: Mapping[str, Sequence[str]],
    *,
    encoder: str = MINILM,
    seed: int = 0,
    console: Console,
) -> dict[str, Any]:
    """Learn heads from the preference pairs of ``sources``; returns what the card says.

    The artifact is written into ``out``.

    ``heads``: name -> the categories it learns from; empty: one head, of all pairs, with the name
    of the first source. InputError: no pairs, an unknown category, fewer than ten prompts a head,
    an ``out`` that holds something else.
    """
    # What a killed command left behind may be written over.
    ours = (TENSORS, ABOUT, "CARD.md")
    is_free = not out.exists() or (
        out.is_dir() and all(p.name.removesuffix(".partial") in ours for p in out.iterdir())
    )
    if not is_free:
        raise InputError(f"--out {out} holds something else; give a folder of its own")
    usable, left_out = _usable(sources)
    if left_out:
        say(console, f"left out {left_out} pairs: a response is empty, or both are the same")
    every_category = sorted({record.category or ALL for record in usable})
    wanted = dict(heads) or {Path(sources[0]).name.split(".")[0]: every_category}
    for name, categories in wanted.items():
        for category in categories:
            if category not in every_category:
                raise InputError(
                    f"--head {name}: no pair has the category "
                    f"{category!r}{nearest(category, every_category)}"
                )
        _check_prompts(name, categories, usable)
    # Encoding is what takes long, so everything that can be wrong was said before it.
    rows = _rows(usable, encoder, seed)
    fitted = {name: _fit_head(rows, categories) for name, categories in wanted.items()}
    about = {
        "format": FORMAT,
        "encoder": encoder,
        "encoder_weights": model_identity(encoder),
        "data": {
            "sources": [Path(s).name for s in sources],
            "pairs": len(rows.prompt_P),
            "digest": rows.digest,
        },
        "seed": seed,
        "heads": {name: card for name, (_, card) in fitted.items()},
    }
    _write(out, {name: weight_F for name, (weight_F, _) in fitted.items()}, about)
    show_table(console, _table(about))
    return about


def parse_heads(texts: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=category,category`` texts, as the categories that each head learns from.

    InputError for a text that is written otherwise.
    """
    heads: dict[str, list[str]] = {}
    for text in texts:
        before, _, listed = text.partition("=")
        name = before.strip()
        categories = [category.strip() for category in listed.split(",") if category.strip()]
        if not name or not categories:
            raise InputError(f"--head {text!r}: write it as NAME=category,category")
        if name in heads:
            raise InputError(f"--head {name}: given twice; every head has its own name")
        heads[name] = categories
    return heads


def _usable(sources: Sequence[str]) -> tuple[list[PreferenceRecord], int]:
    """The pairs of two different texts, and how many others there are."""
    usable = []
    left_out = 0
    for source in sources:
        for record in load_preferences(source):
            has_texts = record.chosen.strip() and record.rejected.strip()
            if has_texts and record.chosen != record.rejected:
                usable.append(record)
            else:
                left_out += 1
    if not usable:
        raise InputError(
            f"{', '.join(sources)}: no usable preference pair; in {left_out} a response is empty, "
            "or both are the same"
        )
    return usable, left_out


def _check_prompts(
    name: str, categories: Sequence[str], usable: Sequence[PreferenceRecord]
) -> None:
    mine = [record for record in usable if (record.category or ALL) in categories]
    n_prompts = len({prompt_text(record.prompt) for record in mine})
    if n_prompts < LEAST_PROMPTS:
        raise InputError(
            f"head {name!r}: {n_prompts} prompts have pairs; at least {LEAST_PROMPTS} are needed"
        )


def _rows(usable: Sequence[PreferenceRecord], encoder: str, seed: int) -> FeatureDifferences:
    prompts = [prompt_text(record.prompt) for record in usable]
    model = load_encoder(encoder)
    chosen_PF = features(model, prompts, [record.chosen for record in usable])
    rejected_PF = features(model, prompts, [record.rejected for record in usable])

    # Folds by prompt: pairs of one prompt are alike, and would be judged by what they taught.
    different = list(dict.fromkeys(prompts))
    number = {prompt: i for i, prompt in enumerate(different)}
    fold = {}
    for prompt in different:
        fold[prompt] = int(keyed.uniform(seed, "data", 3, prompt) * FOLDS)

    longer_by = []
    digest = hashlib.blake2b(digest_size=16)
    for prompt, record in zip(prompts, usable, strict=True):
        chosen_words = len(record.chosen.split())
        rejected_words = len(record.rejected.split())
        longer_by.append(float(chosen_words - rejected_words))
        digest.update(f"{prompt}\x1f{record.chosen}\x1f{record.rejected}\x1e".encode())
    return FeatureDifferences(
        chosen_PF - rejected_PF,
        np.array([number[prompt] for prompt in prompts]),
        np.array([fold[prompt] for prompt in prompts]),
        np.array([record.category or ALL for record in usable]),
        np.array(longer_by),
        digest.hexdigest(),
    )


def _fit_head(rows: FeatureDifferences, categories: Sequence[str]) -> tuple[Float, dict[str, Any]]:
    mine_P = np.isin(rows.category_P, list(categories))
    n_prompts = len(set(rows.prompt_P[mine_P].tolist()))
    margins = {ridge: _out_of_fold(rows, mine_P, ridge) for ridge in RIDGES}
    # By accuracy on prompts that the head had not seen, and the smaller of equal ones.
    ridge = max(RIDGES, key=lambda r: _by_prompt(margins[r], rows, mine_P)[0])
    weight_F = fit_weights(rows.gap_PF[mine_P], rows.prompt_P[mine_P], ridge)
    accuracy = {}
    for category in sorted(set(rows.category_P.tolist())):
        mean, n = _by_prompt(margins[ridge], rows, rows.category_P == category)
        half = 1.96 * math.sqrt(max(mean * (1 - mean), 1e-9) / n)
        accuracy[category] = {
            "accuracy": round(mean, 3),
            "prompts": n,
            "half_width": round(half, 3),
        }
    length = _correlation(margins[ridge][mine_P], rows.words_P[mine_P])
    card = {
        "learned_from": list(categories),
        "pairs": int(mine_P.sum()),
        "prompts": n_prompts,
        "ridge": ridge,
        "accuracy_on_unseen_prompts": accuracy,
        "correlation_with_length": round(length, 3) if math.isfinite(length) else None,
    }
    return weight_F, card


def _correlation(one_P: Float, two_P: Float) -> float:
    """Pearson's, NaN where one of the two does not vary."""
    varies = len(one_P) > 2 and one_P.std() > 0 and two_P.std() > 0
    return float(np.corrcoef(one_P, two_P)[0, 1]) if varies else math.nan


def _out_of_fold(
    rows: FeatureDifferences, mine_P: np.ndarray[Any, np.dtype[np.bool_]], ridge: float
) -> Float:
    """(P,) margins of every pair by heads that saw no prompt of its fold."""
    margin_P = np.zeros(len(mine_P))
    for fold in range(FOLDS):
        held_P = rows.fold_P == fold
        learn_P = mine_P & ~held_P
        if learn_P.any():
            weight_F = fit_weights(rows.gap_PF[learn_P], rows.prompt_P[learn_P], ridge)
            margin_P[held_P] = rows.gap_PF[held_P] @ weight_F
    return margin_P


def _by_prompt(
    margin_P: Float, rows: FeatureDifferences, which_P: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[float, int]:
    """The share of pairs that are ordered rightly, and the number of prompts.

    Every prompt counts alike, and a tie counts one half.
    """
    margin_P = margin_P[which_P]
    right_P = (margin_P > 0) + 0.5 * (margin_P == 0)

    # Numbered anew, because a fold has some of the prompts only.
    _, place_P = np.unique(rows.prompt_P[which_P], return_inverse=True)
    pairs_of_prompt = np.bincount(place_P)
    right_of_prompt = np.bincount(place_P, right_P)
    share_of_prompt = right_of_prompt / pairs_of_prompt
    return float(share_of_prompt.mean()), len(share_of_prompt)


def fit_weights(gap_PF: Float, prompt_P: Int, ridge: float) -> Float:
    """(F,) weights of the Bradley-Terry head on feature gaps.

    The problem is convex and solved by L-BFGS: O(iterations P F).
    """
    scale_F = np.sqrt((gap_PF**2).mean(axis=0)) + 1e-6
    z_PF = gap_PF / scale_F
    _, place_P = np.unique(prompt_P, return_inverse=True)
    # c_p of the objective: a prompt with many pairs counts no more than one with few.
    pairs_of_prompt = np.bincount(place_P)
    share_P = 1.0 / pairs_of_prompt[place_P]
    share_P /= share_P.sum()

    def objective(weight_F: Float) -> tuple[float, Float]:
        # Bradley-Terry: sum c_p log(1 + exp(-margin)) + ridge |w|^2 / 2, and its gradient.
        margin_P = z_PF @ weight_F
        penalty = ridge * weight_F @ weight_F / 2
        loss = float(share_P @ np.logaddexp(0.0, -margin_P) + penalty)
        slope_P = -share_P / (1.0 + np.exp(margin_P))
        gradient_F = z_PF.T @ slope_P + ridge * weight_F
        return loss, gradient_F

    n_features = gap_PF.shape[1]
    start_F = np.zeros(n_features)
    solved = minimize(objective, start_F, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    # The weights are found on the scaled features and given back on the original ones.
    return np.asarray(solved.x / scale_F)


def _write(out: Path, weights: Mapping[str, Float], about: Mapping[str, Any]) -> None:
    from safetensors.numpy import save_file

    tensors = {name: row_F.astype(np.float32) for name, row_F in weights.items()}
    text = dumps(about, indent=1, ensure_ascii=False)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: nobody ever reads half of it.
        partial = out / f"{TENSORS}.partial"
        save_file(tensors, partial)
        partial.rename(out / TENSORS)
        write_atomically(out / ABOUT, text + "\n")
        write_atomically(out / "CARD.md", arm_card_text(about))


def arm_card_text(about: Mapping[str, Any]) -> str:
    """The artifact's card: what it was learned from, and how good each head is.

    Good means: how often it is right on prompts that it had not seen.
    """
    data = about["data"]
    categories = _categories(about)
    lines = [
        "# Reward heads",
        "",
        (
            f"Linear Bradley-Terry heads on the frozen sentence encoder `{about['encoder']}`, "
            "learned by `reward-router fit-arm` from"
        ),
        (
            f"{data['pairs']} preference pairs ({', '.join(data['sources'])}; digest "
            f"{data['digest'][:12]})."
        ),
        "",
        (
            "Accuracy: how often a head orders a pair rightly, on prompts it had not seen "
            "(five folds of prompts; every prompt"
        ),
        (
            "counts alike). Figures beyond the categories a head was learned from say how it does "
            "where it does not belong."
        ),
        "",
        "| head | learned from | " + " | ".join(categories) + " | correlation with length |",
        "|---|---|" + "---|" * (len(categories) + 1),
    ]
    for name, head in about["heads"].items():
        cells = [_cell(head["accuracy_on_unseen_prompts"].get(c)) for c in categories]
        length = head["correlation_with_length"]
        lines.append(
            f"| {name} | {', '.join(head['learned_from'])} | {' | '.join(cells)} | {length} |"
        )
    return "\n".join([*lines, ""])


def _categories(about: Mapping[str, Any]) -> list[str]:
    """The categories that some head was measured on."""
    categories: set[str] = set()
    for head in about["heads"].values():
        categories |= head["accuracy_on_unseen_prompts"].keys()
    return sorted(categories)


def _cell(measured: Mapping[str, Any] | None) -> str:
    return "-" if measured is None else f"{measured['accuracy']:.2f} ({measured['prompts']})"


def _table(about: Mapping[str, Any]) -> LiteralTable:
    categories = _categories(about)
    table = LiteralTable("right on unseen prompts (prompts)", box=None, padding=(0, 1, 0, 0))
    for column in ("head", *categories):
        justify = "left" if column == "head" else "right"
        table.column(column, justify=justify)

    for name, head in about["heads"].items():
        accuracy = head["accuracy_on_unseen_prompts"]
        table.row(name, *(_cell(accuracy.get(category)) for category in categories))
    return table
