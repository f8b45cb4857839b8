"""``fit-prior`` from end to end.

Recorded scores (made, or given), features, strengths, calibration, tables, the artifact.
"""

import contextlib
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reward_router import config as configuration
from reward_router.errors import InputError
from reward_router.fit_prior.card import prior_card_text
from reward_router.fit_prior.pairs import SourcedPair, in_words, load_pairs, pairs_digest
from reward_router.fit_prior.recorded import Recorded, Roles, read_recorded, roles
from reward_router.fit_prior.scoring import score_pairs, write_rows
from reward_router.fit_prior.tables import category_table, main_table, method_figures, methods
from reward_router.offline.apart import LearnedRows, calibrate_apart
from reward_router.offline.calibrate import Calibration
from reward_router.offline.encoder import TextEncoder
from reward_router.offline.prior import ABOUT, Prior, save_prior
from reward_router.offline.settings import PriorConfig
from reward_router.offline.strengths import Strengths, fit_strengths, right_of
from reward_router.preflight import check_models
from reward_router.progress import say, show_table, status
from reward_router.replay.feedback import Feedback, parse_feedback
from reward_router.rewards.configured import arm_pool, configured_arms
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.loading import frozen_dtype, torch_device
from reward_router.rewards.spec import ArmSpec
from reward_router.rundir import RunDir, explained, write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float, Int

Json = dict[str, Any]
WIDE = 150  # figures are never cut: a narrow terminal wraps the lines
SCORES = "scores.jsonl"
RESULT = "result.json"
CARD = "CARD.md"


def fit_prior(config: PriorConfig, out: Path, *, resume: bool = False, console: Console) -> Prior:
    """Do everything that ``config`` says; returns the prior.

    The artifact, the scores and the tables are left in ``out``. Killed, it goes on with ``resume``:
    scores and features that were finished are kept. InputError for bad input.
    """
    if config.without == "offline":
        raise InputError(
            "without: offline leaves nothing to fit; "
            "it is a value for train and replay (a router without a prior)"
        )
    if config.without == "online":
        raise InputError(
            "without: online changes nothing here; "
            "it is a value for train and replay (the strongest arm of a prior), leave it out"
        )
    payoff = parse_feedback(config.payoff)
    made = _begin(config, out, resume)
    try:
        return _fit(_settled(config), payoff, out, console)
    except InputError:
        if not resume and not (out / SCORES).is_file():
            _abandon(out, made)  # nothing was begun that could go on
        raise


def _fit(config: PriorConfig, payoff: Feedback, out: Path, console: Console) -> Prior:
    """The work itself, in a directory that was begun."""
    files = list(config.scores) or [str(_scored(config, out, console))]
    recorded = read_recorded(files)
    if recorded.dropped:
        say(console, f"left out   {in_words(recorded.dropped)} rows")
    role = roles(recorded, config.holdout_sources, config.test, config.dev, config.seed)
    clock = time.perf_counter()
    cpu = time.process_time()
    fitted = _fitted(config, recorded, role, out, console)
    # An abstention pays 1/2 here, as in replay.
    payoff_PK = np.where(recorded.abstained_PK, 0.5, payoff.matrix(recorded.records, config.seed))
    learned = np.flatnonzero(role.train_P | role.dev_P)
    rows = LearnedRows(
        h_RD=fitted.h_PD[learned],
        payoff_RK=payoff_PK[learned],
        unit_R=learned,
        dev_R=role.dev_P[learned],
        sources=recorded.source_P[learned],
    )
    most_worth = float(role.dev_P.sum())
    calibration = calibrate_apart(rows, fitted.strengths.bt_KD, most_worth)
    seconds = {"wall": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
    prior = Prior(
        arms=recorded.records.arms,
        strengths=fitted.strengths,
        calibration=calibration,
        encoder_id=fitted.texts.id,
        data_hash=recorded.digest(),
        config=config.model_dump(mode="json"),
        versions=_versions(),
        folder=out,
        fingerprints=_fingerprints(config),
    )
    result = _result(config, recorded, role, fitted, prior) | {"seconds": seconds}
    metrics = {name: _short(part) for name, part in result["sets"].items()} | {"seconds": seconds}
    prior = save_prior(replace(prior, metrics=metrics), out)
    write_atomically(out / CARD, prior_card_text(prior, result, recorded.category_P.tolist()))
    write_atomically(out / RESULT, dumps(result, indent=1) + "\n")
    show_tables(result, calibration, console)
    took = f"{seconds['wall']:.0f} s after scoring, {seconds['cpu']:.0f} s of CPU"
    say(console, f"prior      {out}  ({took})")
    return prior


@dataclass(frozen=True, eq=False)
class FittedPrior:
    """What was learned.

    Args:
        strengths: of the arms.
        texts: the encoder they belong to.
        h_PD: h of every row.
        features_PF: what h was made of.
        without_cls: the strengths without CLS beside them.
    """

    strengths: Strengths
    texts: TextEncoder
    h_PD: Float
    features_PF: Float
    without_cls: Strengths | None


def _settled(config: PriorConfig) -> PriorConfig:
    """The configuration with a frozen encoder's dtype by name.

    Whoever loads the artifact encodes in the same one.
    """
    e = config.encoder
    if e.tune != "frozen":
        return config
    settled = e.model_copy(update={"dtype": frozen_dtype(e.dtype, e.device)})
    return config.model_copy(update={"encoder": settled})


def _begin(config: PriorConfig, out: Path, resume: bool) -> list[Path]:
    """The directory with its configuration; returns the folders that were made for it.

    InputError where something else lies there.
    """
    kept = out / "config.yaml"
    if (out / ABOUT).exists():
        raise InputError(f"--out {out} holds a finished prior; give another --out")
    if resume:
        if not kept.is_file():
            raise InputError(
                f"--resume {out}: nothing was begun here (no config.yaml); leave --resume out"
            )
        if kept.read_text(encoding="utf-8") != configuration.dump(config):
            raise InputError(
                f"--resume {out}: its config.yaml differs from what is asked for; "
                "give another --out"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"--out {out} is not empty; give another --out"
            + (", or --resume" if kept.is_file() else "")
        )
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, configuration.dump(config))
    return made


def _abandon(out: Path, made: list[Path]) -> None:
    """Take back what `_begin` made: bad input leaves nothing behind."""
    shutil.rmtree(out, ignore_errors=True)
    if out not in made:
        out.mkdir()  # it was there before, empty
    for folder in made[1:]:
        with contextlib.suppress(OSError):  # by now it holds something else
            folder.rmdir()


def _scored(config: PriorConfig, out: Path, console: Console) -> Path:
    """The file of recorded scores, made now where it is not there."""
    path = out / SCORES
    pairs, dropped = load_pairs(config.data, config.seed)
    specs = _specs(config)
    _same_as_begun(pairs, specs, out)
    if path.is_file():
        return path

    sources = {pair.source for pair in pairs}
    note = f"; left out: {in_words(dropped)}" if dropped else ""
    say(console, f"pairs      {len(pairs)} of {len(sources)} sources{note}")
    device = torch_device(config.pool.device)
    arms = arm_pool(specs, config.pool.model_copy(update={"device": device}))
    check_models(specs)
    scores, failed = score_pairs(pairs, specs, arms, console)
    for arm, error in failed.items():
        say(console, f"arm {arm} failed: {error}", "yellow")
    write_rows(pairs, scores, path)
    return path


def _same_as_begun(pairs: Sequence[SourcedPair], specs: Sequence[ArmSpec], out: Path) -> None:
    """Note what the scores are made of.

    InputError where this directory was begun with other pairs or arms.
    """
    made = {"pairs": pairs_digest(pairs), "arms": {spec.name: fingerprint(spec) for spec in specs}}
    manifest = RunDir(out)
    kept = manifest.read_manifest()
    if kept is None:
        manifest.write_manifest(made)
        return
    arms = kept.get("arms", {})
    changed = ["the pairs"] if kept.get("pairs") != made["pairs"] else []
    changed += [f"arm {spec.name!r}" for spec in specs if arms.get(spec.name) != fingerprint(spec)]
    if changed:
        raise InputError(
            f"--resume {out}: {', '.join(changed)} changed since it was begun; give another --out "
            "(scores are kept by content: only what changed is scored again)"
        )


def _fitted(
    config: PriorConfig, recorded: Recorded, role: Roles, out: Path, console: Console
) -> FittedPrior:
    """Features of every row, and the strengths learned on the training rows.

    A tuned encoder's weights go to ``out``.
    """
    e = config.encoder
    texts = TextEncoder(
        e.model,
        pooling=e.pooling,
        max_tokens=e.max_tokens,
        batch=e.batch,
        dtype=e.dtype,
        device=e.device,
        trust_remote_code=e.trust_remote_code,
        with_prompt=e.with_prompt,
    )
    right_PK = right_of(recorded.records.margins_PK, recorded.records.label_P)
    # The paper's delta: who says nothing does not agree with the truth.
    right_PK[recorded.abstained_PK] = 0.0
    if e.tune != "frozen":
        from reward_router.offline.tune import TuneData, tune

        data = TuneData(recorded.prompts, recorded.sides, right_PK, role.train_P, role.dev_P)
        strengths, texts = tune(config, texts, data, out, console)
        features_PF = texts.features(recorded.prompts, *recorded.sides)
        return FittedPrior(strengths, texts, strengths.encode(features_PF), features_PF, None)
    features_PF = _features(texts, recorded, out, console)
    learn = role.train_P | role.dev_P

    def fit(lambda_cls: float) -> Strengths:
        return fit_strengths(
            features_PF[learn],
            right_PK[learn],
            recorded.records.group_P[learn],
            lambda_cls=lambda_cls,
            balance=config.balance,
            seed=config.seed,
            dev=role.dev_P[learn],
            **config.strengths.model_dump(),
        )

    strengths = fit(0.0 if config.without == "cls" else config.lambda_cls)
    bare = None if config.without == "cls" or config.lambda_cls == 0 else fit(0.0)
    return FittedPrior(strengths, texts, strengths.encode(features_PF), features_PF, bare)


def _features(texts: TextEncoder, recorded: Recorded, out: Path, console: Console) -> Float:
    """Features of a frozen encoder, kept in ``out`` until the run is finished."""
    # Named by all that the features depend on, so that other scores or another encoder make anew.
    encoder = f"{texts.id.weights[:12]}-{texts.body.dtype}-{texts.width}"
    name = f"features-{recorded.digest()[:12]}-{encoder}.npy"
    kept = out / name.replace("/", "_").replace("torch.", "")
    if kept.is_file():
        return np.asarray(np.load(kept, allow_pickle=False))

    with status(console, f"encoding {len(recorded.records)} pairs with {texts.id.model}"):
        features_PF = texts.features(recorded.prompts, *recorded.sides)
    # Renamed when it is whole: a run that is stopped leaves no half of it.
    partial = kept.with_suffix(".partial.npy")
    np.save(partial, features_PF)
    partial.rename(kept)
    return features_PF


def _result(
    config: PriorConfig, recorded: Recorded, role: Roles, fitted: FittedPrior, prior: Prior
) -> Json:
    """The tables as data."""
    records = recorded.records
    # By the training rows: the best arm of the judged rows would be known from the answers.
    train_accuracy_K = records.correct_PK[role.train_P].mean(axis=0)
    best_single = int(train_accuracy_K.argmax())

    sets = {}
    for name, mask_P in (("in distribution", role.test_P), ("out of distribution", role.out_P)):
        rows = np.flatnonzero(mask_P)
        if not len(rows):
            continue
        picked = _choices(config, fitted, prior.means(records.arms), rows)
        table = method_figures(methods(records, rows, recorded.category_P, picked, best_single))

        shares = {}
        for label, arm_T in picked.items():
            shares[label] = np.bincount(arm_T, minlength=len(records.arms)).tolist()
        sources = sorted(set(recorded.source_P[rows].tolist()))
        sets[name] = table | {"chosen": shares, "sources": sources}

    counts = {}
    for part in ("train", "dev", "test", "out"):
        counts[part] = int(getattr(role, f"{part}_P").sum())
    return {"arms": list(records.arms), "seed": config.seed, "rows": counts, "sets": sets}


def _choices(config: PriorConfig, fitted: FittedPrior, mean_KD: Float, rows: Int) -> dict[str, Int]:
    """(T,) the arm that each way of using the strengths names on each of ``rows``."""
    h_TD = fitted.h_PD[rows]
    ours = "w/o CLS" if config.without == "cls" else "ours"
    choices: dict[str, Int] = {}
    bare = fitted.without_cls
    if bare is not None:
        # Another head has another encoding of the same features.
        bare_h_TD = bare.encode(fitted.features_PF[rows])
        choices["w/o CLS"] = bare.scores(bare_h_TD).argmax(axis=1)
    choices[ours] = fitted.strengths.scores(h_TD).argmax(axis=1)

    weight_KD = mean_KD[:, :-1]
    intercept_K = mean_KD[:, -1]
    with_intercepts_TK = h_TD @ weight_KD.T + intercept_K
    choices["prior with intercepts"] = with_intercepts_TK.argmax(axis=1)
    return choices


def show_tables(result: Json, calibration: Calibration, console: Console) -> None:
    """Print the tables and what the calibration says, in words."""
    for name, part in result["sets"].items():
        show_table(console, main_table(part, name), width=WIDE)
    for name, part in result["sets"].items():
        if len(part["categories"]) > 1:
            show_table(console, category_table(part, name), width=WIDE)
    c = calibration
    say(
        console,
        f"calibrated scale {c.scale:.3g}, lambda0 {c.precision:.3g}, sigma {c.noise_sd:.3g}: "
        f"the prior is worth {c.worth:.0f} pairs; "
        f"log evidence per dev payoff {c.gain:+.4f} over no strengths",
        wrap=False,
    )


def _short(part: Json) -> Json:
    """What of a table goes into the artifact."""
    kept = ("accuracy", "ci95", "some_right", "minus_best_single", "minus_best_single_ci95")
    methods_kept = {}
    for name, method in part["methods"].items():
        methods_kept[name] = {key: method[key] for key in kept}
    return {"rows": part["rows"], "sources": part["sources"], "methods": methods_kept}


def _specs(config: PriorConfig) -> list[ArmSpec]:
    """The arms that score, the embedded ones where none are listed."""
    return configured_arms(config.arms)


def _fingerprints(config: PriorConfig) -> dict[str, str]:
    """What each arm is, by name; nothing where its scores were recorded by somebody else."""
    return {} if config.scores else {spec.name: fingerprint(spec) for spec in _specs(config)}


def _versions() -> dict[str, str]:
    names = ("reward-router", "torch", "transformers", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
