"""Encoders of several sizes in `routing`: their states, kept once, and their rows."""

from pathlib import Path

import numpy as np
import pytest

from reward_router.experiments import encoders, routing
from reward_router.experiments.command import experiment
from reward_router.experiments.encoders import Sized
from reward_router.experiments.kind import EXPERIMENTS, Request

pytest.importorskip("torch", reason="needs the packages of the extra `train`")
TEXTS = ["What is 2 + 2?", "Name a river. " * 20, "Why?"]


@pytest.fixture(autouse=True)
def a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path / "cache"))


def test_states_are_those_of_the_pair_encoder_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from reward_router.offline.encoder import TextEncoder

    made = {}
    for way in ("last", "mean"):
        encode, _ = Sized("", "tiny", way, 32).encoder()
        made[way] = encode(TEXTS)
        expected = TextEncoder("tiny", pooling=way, max_tokens=32).encode(TEXTS, [""] * 3)
        np.testing.assert_allclose(made[way], expected, atol=1e-6)
        # Both ways of pooling came of one pass: the model is not asked again.
        monkeypatch.setattr(encoders, "_both_poolings", None)
    assert not np.allclose(made["last"], made["mean"])


def test_every_size_is_a_row_of_routing(
    scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"hashed words": Sized("hashed"), "tiny, mean of states": Sized("t", "tiny", "mean")}
    monkeypatch.setitem(encoders.SIZES, "laptop", sizes)
    monkeypatch.setattr(routing, "CHOSEN", {k: routing.CHOSEN[k] for k in ("random", "majority")})
    routing.CHOSEN[routing.OFFLINE] = "bayesian:without=online"
    request = Request(scores=(str(scores),), seeds=1)
    result = experiment("routing", request, tmp_path / "out")
    assert not result["failed"]
    for size in sizes:
        figures = result["rows"][f"offline router, {size}"]["figures"]
        assert {"in distribution", "in, some right", "out", "out, some right"} <= figures.keys()
        # The smaller denominator leaves out rows on which nobody can be right.
        assert figures["in, some right"]["mean"] >= figures["in distribution"]["mean"]


def test_the_gpu_profile_has_the_sizes_of_the_paper(scores: Path) -> None:
    request = Request(profile="gpu", scores=(str(scores),))
    names = [job.name for job in EXPERIMENTS["routing"].make(request).jobs]
    assert {"offline router, 135M, last state", "offline router, 0.5B, last state"} <= set(names)
