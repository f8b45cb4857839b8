"""BayesianRouter's offline stage for one fold, or from an artifact.

It gives encoded rows, strengths, and the calibrated prior. On a fold the strengths learn from the
training rows and stop on a dev split of their prompts; the same dev split calibrates the prior for
the payoff used online. The judged rows' labels are not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.offline.apart import LearnedRows, calibrate_apart
from reward_router.replay.protocols import Split
from reward_router.replay.records import Records
from reward_router.routers import LinearThompson
from reward_router.routers.trusted import NARROW, NO_PRIOR, TRUST, trusted
from reward_router.types import Float, Int, Router

DEV = 0.2  # of the training prompts
WORTH = 1000.0
"""Payoffs that a prior is worth at least, as the informed part of the mixture.

A dev split is too small to say how far strengths may be off: on one file it said 1 pair in some
folds and 243 in others. So a stream hardly moves the prior itself. What it teaches is learned by
the two other parts, and the trust goes to them where they foresee payoffs better (docs/log.md).
"""
DRAWS = 20  # of a dev split, before a file is one on which nothing can be learned
_LEAST_SCALE = 1e-6  # strengths that predict nothing still decide where nothing else does


class NothingToLearn(InputError):
    """A file on which no strengths can be learned; where several were given, the others go on."""


@dataclass(frozen=True)
class Fitted:
    """What the offline stage gives one fold.

    Args:
        h_PD: encoded rows.
        score_PK: raw strengths of the arms on each row.
        strength_KD: the calibrated prior's weights, in payoff units.
        offset_K: the calibrated prior's offset of each arm.
        precision: of the prior's weights.
        offset_precision: of its offsets.
        noise_sd: standard deviation of a payoff about its mean.
        zero_precision: lambda0 without strengths, the default's unless an artifact brings its own.
        level: mean payoff and its standard deviation; None: not known.
    """

    h_PD: Float
    score_PK: Float
    strength_KD: Float
    offset_K: Float
    precision: float
    offset_precision: float
    noise_sd: float
    zero_precision: float = NO_PRIOR["prior_precision"]
    level: tuple[float, float] | None = None


def offline_stage(split: Split, dim: int, lambda_cls: float, balance: bool) -> Fitted:
    """Strengths and calibrated prior from the training rows alone.

    Methods of a split that ask for the same strengths share them.
    """
    key = ("bayesian", dim, lambda_cls, balance)
    if key not in split.shared:
        split.shared[key] = _fit(split, dim, lambda_cls, balance)
    fitted: Fitted = split.shared[key]
    return fitted


def _fit(split: Split, dim: int, lambda_cls: float, balance: bool) -> Fitted:
    try:
        return _learned(split, dim, lambda_cls, balance)
    except InputError as error:
        raise NothingToLearn(
            f"{split.records.name}: no strengths can be learned: {error}"
        ) from error


def _learned(split: Split, dim: int, lambda_cls: float, balance: bool) -> Fitted:
    from reward_router.offline.strengths import fit_strengths, right_of

    records = split.records
    fit_P = split.fit_P
    features_PF = split.pair_features_PF
    right_TK = right_of(records.margins_PK[fit_P], records.label_P[fit_P])
    group_T = records.group_P[fit_P]
    dev_T = _dev_rows(group_T, right_TK, split.repeat)
    strengths = fit_strengths(
        features_PF[fit_P],
        right_TK,
        group_T,
        dim=dim,
        lambda_cls=lambda_cls,
        balance=balance,
        seed=split.repeat,
        dev=dev_T,
    )
    h_PD = strengths.encode(features_PF)
    # Calibrated on payoffs of every row at once: sparse and late ones are what the run is about.
    complete = replace(split.feedback, fraction=1.0, delay=0)
    payoff_PK = complete.matrix(records, split.repeat)
    unit_P = (split.pairs or split.contexts).unit_P
    # The prior is worth no more contexts than those it was learned on.
    contexts = float(len(np.unique(unit_P[fit_P])))
    rows = LearnedRows(
        h_RD=h_PD[fit_P],
        payoff_RK=payoff_PK[fit_P],
        unit_R=unit_P[fit_P],
        dev_R=dev_T,
        # Folds share their categories, so arms' means do not move between them.
        sources=records.category_P[fit_P] if split.carried else None,
    )
    calibration = calibrate_apart(rows, strengths.bt_KD, contexts)
    centred_KD = strengths.bt_KD - strengths.bt_KD.mean(axis=0)
    return Fitted(
        h_PD=h_PD,
        score_PK=strengths.scores(h_PD),
        strength_KD=max(calibration.scale, _LEAST_SCALE) * centred_KD,
        offset_K=calibration.offset_K,
        precision=calibration.precision,
        offset_precision=calibration.offset_precision,
        noise_sd=calibration.noise_sd,
        level=calibration.level,
    )


def _dev_rows(group_T: Int, right_TK: Float, seed: int) -> NDArray[np.bool_]:
    """The dev split of the training prompts: the first draw that has something on either side.

    That is a row on which one arm is right and another wrong. Where arms seldom differ a draw may
    have none, and another one has.
    """
    from reward_router.offline.strengths import dev_rows

    tells_T = (right_TK == 1).any(axis=1) & (right_TK == 0).any(axis=1)
    names = ["dev", *(f"dev {again}" for again in range(1, DRAWS))]
    for name in names:
        dev_T = dev_rows(group_T, DEV, seed, name)
        if tells_T[dev_T].any() and tells_T[~dev_T].any():
            return dev_T
    return dev_rows(group_T, DEV, seed)


def with_prior(
    fitted: Fitted,
    trust: float = TRUST,
    width: float = NARROW,
    decision_margin: float | None = None,
    worth: float = WORTH,
) -> Router:
    """Thompson sampling from the calibrated prior; payoffs are 0 or 1.

    The noise is at least that of the payoffs' own law, p (1 - p) at the level p: a fit on few pairs
    can be far below it.

    Args:
        fitted: the prior.
        trust: weight of the calibrated prior in a mixture with the zero prior; 1: no mixture.
        width: share of a posterior's standard deviation that is sampled.
        decision_margin: expected payoff that one decision may give up; None: any.
        worth: payoffs that the prior is worth at least; 0: as calibrated, and so where ``trust`` is
            1, since nothing else would learn then.
    """
    prior_KC = np.column_stack([fitted.strength_KD, fitted.offset_K])
    level = fitted.level
    bernoulli_sd = 0.0 if level is None else float(np.sqrt(max(level[0] * (1 - level[0]), 0.0)))
    noise_sd = max(fitted.noise_sd, bernoulli_sd)
    least = worth / noise_sd**2 if trust < 1 else 0.0
    return trusted(
        prior_KC,
        max(fitted.precision, least),
        noise_sd,
        max(fitted.offset_precision, least),
        trust=trust,
        zero_precision=fitted.zero_precision,
        level=level,
        width=width,
        decision_margin=decision_margin,
    )


def no_prior(fitted: Fitted) -> LinearThompson:
    """Thompson sampling from the zero prior at its own precision, on the same encoding."""
    return LinearThompson(
        *fitted.strength_KD.shape, **(NO_PRIOR | {"prior_precision": fitted.zero_precision})
    )


def from_artifact(folder: str, records: Records) -> Fitted:
    """The prior that ``fit-prior`` wrote, on rows with prompts and responses.

    Arms that it does not know start at the mean arm, with a warning. ``InputError`` where no arm is
    known, the rows have no texts, or the encoder is not the one the strengths belong to. Needs
    torch.
    """
    from reward_router.offline.prior import load_prior

    prior = load_prior(folder, records.arms)
    if not (records.prompts and records.responses):
        raise InputError(
            f"{records.name}: prior={folder} encodes pairs: "
            "prompt, response_a and response_b are needed on every row"
        )
    first, second = zip(*records.responses, strict=True)
    prompts = [records.prompts[g] for g in records.group_P]
    h_PD = prior.encoder().pairs(prompts, first, second)
    bt_KD = _rows(prior.arms, prior.strengths.bt_KD, records.arms)
    means_KD = prior.means(records.arms)
    calibration = prior.calibration
    strength_KD = means_KD[:, :-1] if calibration.scale > _LEAST_SCALE else _LEAST_SCALE * bt_KD
    return Fitted(
        h_PD=h_PD,
        score_PK=h_PD @ bt_KD.T,
        strength_KD=strength_KD,
        offset_K=means_KD[:, -1],
        precision=calibration.precision,
        offset_precision=calibration.offset_precision,
        noise_sd=calibration.noise_sd,
        zero_precision=calibration.zero_precision,
        level=calibration.level,
    )


def _rows(prior_arms: Sequence[str], bt_KD: Float, arms: Sequence[str]) -> Float:
    """Strengths of ``arms`` about their mean; zero for an arm that the prior does not know."""
    shared = [k for k, arm in enumerate(arms) if arm in prior_arms]
    places = [prior_arms.index(arms[k]) for k in shared]
    chosen_KD = bt_KD[places]

    # About the mean of those that are known, so that 0 is "like the others" for the rest.
    out_KD = np.zeros((len(arms), bt_KD.shape[1]))
    out_KD[shared] = chosen_KD - chosen_KD.mean(axis=0)
    return out_KD
