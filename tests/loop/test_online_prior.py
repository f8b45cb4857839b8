"""A run that starts at a prior.

Encoder, router and ablations are the artifact's, trust is logged, resuming is exact.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.ledger import Ledger
from reward_router.report import training
from reward_router.routers.trusted import NARROW
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
from reward_router.offline.calibrate import Calibration  # noqa: E402
from reward_router.offline.encoder import TextEncoder  # noqa: E402
from reward_router.offline.prior import Prior, save_prior  # noqa: E402
from reward_router.offline.strengths import fit_strengths  # noqa: E402

ARMS = ("likely", "short")  # in another order than the run's, and one of its arms is not there


def made(
    folder: Path, arms: tuple[str, ...] = ARMS, seed: int = 0, prints: Any = None, **config: Any
) -> Path:
    encoder, draw = TextEncoder("tiny", max_tokens=64), np.random.default_rng(seed)
    texts = [
        [" ".join(draw.choice(["one", "two", "three", "of"], size=5)) for _ in range(40)]
        for _ in range(3)
    ]
    right = draw.integers(2, size=(40, len(arms))).astype(float)
    strengths = fit_strengths(encoder.features(*texts), right, np.arange(40), dim=6, epochs=2)
    calibration = Calibration(
        0.7, 40.0, 0.4, np.linspace(-0.1, 0.1, len(arms)), 25.0, 10.0, 0.01, 80, (0.6, 0.1)
    )
    return (
        save_prior(
            Prior(
                arms, strengths, calibration, encoder.id, "", {}, config, fingerprints=prints or {}
            ),
            folder,
        ).folder
        or folder
    )


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., list[str]]:
    """Settings of the small run with an artifact as its prior; ``more`` goes into the router."""
    folder = made(tmp_path / "prior", lambda_cls=0.2)
    return lambda more="", unit="pair": [
        f"router={{name: bayesian, unit: {unit}, prior: '{folder}'{more}}}", "pairs.per_prompt=3",
        "eval.limit=1", "payoff.hold_back=0",
    ]  # fmt: skip


def decided(out: Path) -> Any:
    with Ledger(out / "ledger.sqlite", readonly=True) as ledger:
        return ledger.decisions()


def test_a_run_starts_at_its_prior_and_logs_its_trust(
    tiny: Callable[..., Config], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    from reward_router.offline.prior import load_prior

    console = Console(record=True, width=300, file=(tmp_path / "said").open("w"))
    summary = run.train(tiny(*settings()), tmp_path / "run", console=console)
    d, prior = decided(tmp_path / "run"), load_prior(tmp_path / "prior")
    assert "warning:" in console.export_text()  # of the arm without strengths
    with pytest.warns(UserWarning, match="long"):
        router = prior.router(["short", "long", "likely"], width=NARROW)
    first = d.step == 0
    np.testing.assert_allclose(d.probs_BK[first], router.probs(d.context_BD[first]), atol=1e-12)
    assert d.context_BD.shape[1] == 6
    np.testing.assert_allclose(np.linalg.norm(d.context_BD, axis=1), 1.0)
    log = [r["trust"] for r in RunDir(tmp_path / "run").read_log()]
    assert all(0 < weight < 1 for weight in log)
    assert len(log) == 4
    assert log[-1] == summary["trust"]
    assert log[0] != log[-1]
    assert "Does the prior hold?" in training.write(tmp_path / "run").read_text()


@pytest.mark.parametrize(
    ("payoff", "fitted", "known"),
    [("probe", "correct", True), ("verifier", "correct", True), ("neg_loss", "correct", False),
     ("probe", "agreement:others=1", False)],
)  # fmt: skip
def test_the_level_belongs_to_the_payoff_it_was_measured_on(
    tiny: Callable[..., Config], tmp_path: Path, payoff: str, fitted: str, known: bool
) -> None:
    from reward_router.online import online_prior

    folder = made(tmp_path / "prior", payoff=fitted)
    prior = online_prior(
        tiny(f"router={{name: bayesian, unit: pair, prior: '{folder}'}}").router, payoff
    )
    assert prior is not None
    assert prior.calibration.level == ((0.6, 0.1) if known else None)
    assert prior.router(ARMS).level == prior.calibration.level


class Kept:
    """Responses of the policy's own samples, as the loop saw them.

    They stand prompt by prompt and step by step.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from reward_router.contexts import Contexts

        self.prompts: list[Any] = []
        self.responses: list[list[str]] = []
        real = Contexts.groups

        def groups(contexts: Any, prompts: Any, responses: Any) -> Any:
            self.prompts += prompts
            self.responses += responses
            return real(contexts, prompts, responses)

        monkeypatch.setattr(Contexts, "groups", groups)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(monkeypatch)


def test_a_prompt_is_seen_through_its_pairs(
    tiny: Callable[..., Config], settings: Callable[..., list[str]], tmp_path: Path, kept: Kept
) -> None:
    from reward_router.offline.prior import load_prior

    summary = run.train(tiny(*settings(unit="prompt")), tmp_path / "run")
    d, prior = decided(tmp_path / "run"), load_prior(tmp_path / "prior")
    assert len(d.unit) == len(kept.prompts) == 12
    assert d.context_BD.shape[1] == 6
    pairs = prior.encoder(device="cpu")
    for row_D, prompt, texts in zip(d.context_BD, kept.prompts, kept.responses, strict=True):
        different = sorted(set(map(str, texts)))  # in another order than the run's: pairs have none
        two = [(a, b) for i, a in enumerate(different) for b in different[i + 1 :]] or [
            (different[0],) * 2
        ]
        h_PD = np.concatenate([pairs.pairs([prompt], [a], [b]) for a, b in two])
        np.testing.assert_allclose(row_D, h_PD.mean(axis=0), atol=1e-5)
    norm_B = np.linalg.norm(d.context_BD, axis=1)
    assert (norm_B < 1 - 1e-6).any()  # a mean of different unit rows, left as it is
    assert (norm_B < 1 + 1e-9).all()
    with pytest.warns(UserWarning, match="long"):
        router = prior.router(["short", "long", "likely"], width=NARROW)
    first = d.step == 0
    np.testing.assert_allclose(d.probs_BK[first], router.probs(d.context_BD[first]), atol=1e-12)
    assert 0 < summary["trust"] < 1


def test_a_forecast_for_a_prompt_is_the_mean_of_those_for_its_pairs(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    from reward_router.config import ContextConfig
    from reward_router.contexts import Contexts
    from reward_router.offline.prior import load_prior

    settings()
    prior = load_prior(tmp_path / "prior")
    contexts = Contexts(ContextConfig(kind="hashing"), None, prior.encoder(device="cpu"))
    prompts, texts = ["one", "two"], [["a", "b", "a", "c"], ["same", "same"]]
    group_BD = contexts.groups(prompts, texts)
    mean_KD = prior.means(ARMS)
    pairs_PD = contexts.pairs(["one"] * 3, ["a", "a", "b"], ["b", "c", "c"])
    expected_K = (pairs_PD @ mean_KD[:, :-1].T + mean_KD[:, -1]).mean(axis=0)
    np.testing.assert_allclose(
        group_BD[0] @ mean_KD[:, :-1].T + mean_KD[:, -1], expected_K, atol=1e-6
    )
    np.testing.assert_allclose(
        group_BD[1], contexts.pairs(["two"], ["same"], ["same"])[0], atol=1e-6
    )
    assert contexts.groups([], []).shape == (0, contexts.pair_dim)


def test_without_a_prior_a_prompt_is_seen_as_ever(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run.train(tiny("router={name: bayesian, unit: prompt}", "eval.limit=1"), tmp_path / "run")
    d = decided(tmp_path / "run")
    assert d.context_BD.shape[1] == 8
    np.testing.assert_allclose(np.linalg.norm(d.context_BD, axis=1), 1.0)


def test_the_ablations_are_config_values(
    tiny: Callable[..., Config], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    run.train(tiny(*settings(", without: offline")), tmp_path / "offline")
    start = decided(tmp_path / "offline")
    assert np.allclose(start.probs_BK[start.step == 0], 1 / 3)  # zero prior, the artifact's encoder
    assert start.context_BD.shape[1] == 6
    summary = run.train(tiny(*settings(", without: online")), tmp_path / "online")
    d = decided(tmp_path / "online")
    from reward_router.offline.prior import load_prior

    strength_PK = d.context_BD @ load_prior(tmp_path / "prior").strengths.bt_KD.T
    assert d.arm.tolist() == [
        {"likely": 2, "short": 0}[ARMS[k]] for k in strength_PK.argmax(axis=1)
    ]
    assert set(d.propensity) == {1.0}
    assert summary["trust"] is None


def test_without_cls_needs_a_prior_fitted_so(
    tiny: Callable[..., Config], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"without: cls needs a prior.*lambda_cls=0.2"):
        run.train(tiny(*settings(", without: cls")), tmp_path / "run")
    made(tmp_path / "prior", lambda_cls=0.2, without="cls")
    router = f"{{name: bayesian, unit: pair, without: cls, prior: '{tmp_path / 'prior'}'}}"
    run.train(tiny(*settings()[1:], f"router={router}"), tmp_path / "run")


@pytest.mark.parametrize(("trust", "logged"), [("1", False), ("0.3", True)])
def test_trust_is_a_setting(
    tiny: Callable[..., Config],
    settings: Callable[..., list[str]],
    tmp_path: Path,
    trust: str,
    logged: bool,
) -> None:
    config = tiny(*settings(f", trust: {trust}"), "train.iterations=1")
    summary = run.train(config, tmp_path / "run")
    assert (summary["trust"] is not None) == logged


@pytest.mark.parametrize("unit", ["pair", "prompt"])
def test_a_stopped_run_goes_on_alike_and_with_no_other_prior(
    tiny: Callable[..., Config],
    settings: Callable[..., list[str]],
    stopped_run: Callable[..., None],
    tmp_path: Path,
    unit: str,
) -> None:
    config, out = tiny(*settings(unit=unit)), tmp_path / "run"
    run.train(config, tmp_path / "whole")
    stopped_run(config, out, 2)
    keep = (
        (tmp_path / "prior" / "prior.safetensors").read_bytes(),
        (tmp_path / "prior" / "prior.json").read_bytes(),
    )
    made(tmp_path / "prior", seed=1)
    with pytest.raises(InputError, match=r"router\.prior changed since the run began"):
        run.train(config, out, resume=True)
    for name, data in zip(("prior.safetensors", "prior.json"), keep, strict=True):
        (tmp_path / "prior" / name).write_bytes(data)
    run.train(config, out, resume=True)
    whole, broken = decided(tmp_path / "whole"), decided(out)
    assert broken.unit == whole.unit
    for name in ("arm", "propensity", "probs_BK", "payoff", "context_BD"):
        np.testing.assert_array_equal(getattr(broken, name), getattr(whole, name))
    a, b = np.load(out / "router.npz"), np.load(tmp_path / "whole" / "router.npz")
    assert {n: a[n].tobytes() for n in a.files} == {n: b[n].tobytes() for n in b.files}


def fingerprints(config: Config) -> dict[str, str]:
    from reward_router.assemble import arm_specs
    from reward_router.rewards.fingerprint import fingerprint

    return {spec.name: fingerprint(spec) for spec in arm_specs(config)}


@pytest.mark.parametrize("command", ["train", "dry run", "bestofn"])
def test_a_prior_learned_with_other_arms_is_refused_in_one_line(
    tiny: Callable[..., Config], tmp_path: Path, command: str
) -> None:
    from reward_router.bestofn.run import bestofn
    from reward_router.jobs.estimate import check_all

    said: list[str] = []
    do: dict[str, Callable[[Config], Any]] = {
        "train": lambda config: run.train(config, tmp_path / "run"),
        "dry run": lambda config: check_all(config, tmp_path / "run", said.append),
        "bestofn": lambda config: bestofn(config, tmp_path / "best.jsonl", limit=3),
    }
    folder = made(tmp_path / "prior", prints=fingerprints(tiny()))
    router = f"router={{name: bayesian, unit: prompt, prior: '{folder}'}}"
    known = [
        router,
        "payoff.name=probe",
        "train.iterations=1",
        "train.batches_per_iteration=1",
        "eval.limit=1",
    ]
    with pytest.raises(
        InputError, match=r"another arm 'short'.*make prior.*router\.prior: none"
    ) as caught:
        do[command](tiny(*known, "arms.short.direction=long"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    do[command](
        tiny(*known, "arms.long.direction=short", "arms.short.cost=7")
    )  # no strengths of long; a price is no difference
    assert not any("which arms" in line for line in said)


def test_a_prior_that_does_not_say_its_arms_is_believed_with_a_warning(
    tiny: Callable[..., Config], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    from reward_router.assemble import arm_specs, prior_warnings
    from reward_router.online import online_prior

    config = tiny(*settings())
    prior = online_prior(config.router, "probe")
    assert prior is not None
    first, second = prior_warnings(config, prior, arm_specs(config))
    assert "does not say which arms" in first
    assert "no strengths of long" in second


def test_none_is_no_prior(tiny: Callable[..., Config]) -> None:
    router = tiny("router={name: bayesian, unit: prompt, prior: none}").router
    assert router == tiny("router={name: bayesian, unit: prompt}").router


def test_a_folder_without_a_prior_is_refused_in_one_line(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny("router={name: bayesian, unit: pair, prior: nowhere}")
    with pytest.raises(InputError, match="nowhere") as caught:
        run.train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_best_of_n_sees_prompts_as_the_prior_does(
    tiny: Callable[..., Config], settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    more = ("eval.limit=4", "eval.samples=3", "eval.best_of=true")
    for unit in ("prompt", "pair"):
        found = run.train(tiny(*settings(unit=unit), *more), tmp_path / unit)["best_of"]
        assert {when: row["calls"] for when, row in found.items()} == {"before": 12, "after": 12}
