"""The offline stage after scoring, by parts.

Tokenising and encoding, strengths, calibration; CPU and wall seconds.

    OMP_NUM_THREADS=2 python benchmarks/offline_cost.py [--pairs 5000] [--arms 7]
        [--dtype auto|float32|bfloat16] [--max-chars N]

Texts are a keyed sample of all of $REWARD_ROUTER_DATA/preferences, or made up of words in lengths
like theirs where that is not set. Which arm is right is made up: a linear rule of the features and
chance. Encoder: MiniLM, frozen, 256 tokens (its own limit).
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.fit_prior.pairs import SourcedPair, load_pairs
from reward_router.keyed import key, rng
from reward_router.offline.calibrate import calibrate
from reward_router.offline.encoder import TextEncoder
from reward_router.offline.settings import PairSource
from reward_router.offline.strengths import dev_rows, fit_strengths
from reward_router.rewards.loading import frozen_dtype


def real(folder: Path, count: int, max_chars: int | None) -> list[SourcedPair]:
    """``count`` pairs of all files of ``folder``, by keyed hash."""
    files = sorted(str(f) for f in folder.glob("*.jsonl.gz"))
    pairs, _ = load_pairs([PairSource(source=f, max_chars=max_chars) for f in files])
    return sorted(pairs, key=lambda p: key(0, "data", 0, p.id))[:count]


def made_up(count: int) -> list[SourcedPair]:
    """Words by the hundred.

    Lengths of prompts and responses are log-normal about those of the real files.
    """
    draw, words = (
        rng(0, "data", 0, "offline cost"),
        ["rather", "seven", "because", "it", "walks", "number", "of", "a"],
    )

    def text(middle: float) -> str:
        return " ".join(draw.choice(words, size=1 + int(draw.lognormal(np.log(middle), 1.0))))

    return [
        SourcedPair(f"{i}", "made up", "words", text(30), text(80), text(80)) for i in range(count)
    ]


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Run and print."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = work()
    print(
        f"{name:12} {time.process_time() - cpu:6.1f} s CPU "
        f"{time.perf_counter() - wall:6.1f} s wall",
        flush=True,
    )
    return out


def main() -> None:
    """Everything once, and the sum."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--arms", type=int, default=7)
    parser.add_argument(
        "--dtype", default="auto", help="auto: what fit-prior takes on this machine"
    )
    parser.add_argument("--max-chars", type=int)
    args = parser.parse_args()
    folder = os.environ.get("REWARD_ROUTER_DATA")
    pairs = (
        real(Path(folder) / "preferences", args.pairs, args.max_chars)
        if folder
        else made_up(args.pairs)
    )
    dtype = frozen_dtype(args.dtype, "cpu")
    texts = TextEncoder("all-minilm-l6-v2", max_tokens=256, dtype=dtype, device="cpu")
    prompts, first, second = (
        [getattr(p, n) for p in pairs] for n in ("prompt", "chosen", "rejected")
    )
    distinct = dict.fromkeys(
        [*zip(prompts, first, strict=True), *zip(prompts, second, strict=True)]
    )
    print(
        f"{len(pairs)} pairs, {'real' if folder else 'made up'}, {len(distinct)} texts, "
        f"{args.arms} arms, {dtype}"
    )
    timed("all", lambda: stage(texts, args.arms, prompts, first, second))


def stage(
    texts: TextEncoder, arms: int, prompts: list[str], first: list[str], second: list[str]
) -> None:
    """What ``fit-prior`` does between scores and artifact."""
    features_PF = timed("encoding", lambda: texts.features(prompts, first, second))
    draw = np.random.default_rng(0)
    odds_PK = 20 * features_PF @ draw.normal(
        size=(features_PF.shape[1], arms)
    ) / 768**0.5 + np.linspace(0, 1, arms)
    right_PK = (draw.random(odds_PK.shape) < 1 / (1 + np.exp(-odds_PK))).astype(float)
    groups = np.unique(prompts, return_inverse=True)[1]
    dev_P = dev_rows(groups, 0.15)
    strengths = timed("strengths", lambda: fit_strengths(features_PF, right_PK, groups, dev=dev_P))
    timed(
        "calibration",
        lambda: calibrate(strengths.encode(features_PF[dev_P]), strengths.bt_KD, right_PK[dev_P]),
    )


if __name__ == "__main__":
    main()
