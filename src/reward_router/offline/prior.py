"""The prior as an artifact: a folder of safetensors and JSON.

Any router loads it, and it says what it was made for. ``prior.safetensors`` holds the head and the
strengths, ``prior.json`` the arms by name, the encoder and its hash, calibration, the training
data's hash, metrics, configuration and versions; ``encoder/`` holds the tuned weights, where there
are any.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.artifacts import folder_of
from reward_router.errors import InputError
from reward_router.offline.calibrate import Calibration
from reward_router.offline.encoder import EncoderId, PairEncoder, TextEncoder
from reward_router.offline.strengths import Strengths
from reward_router.routers.anchored import Anchored
from reward_router.routers.trusted import TrustedThompson, trusted
from reward_router.rundir import explained, write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float

FORMAT = 1
TENSORS = "prior.safetensors"
ABOUT = "prior.json"
ENCODER_FOLDER = "encoder"


@dataclass(frozen=True, eq=False)
class Prior:
    """Strengths with their calibration, for arms by name.

    Args:
        arms: their names.
        strengths: what was learned.
        calibration: how far to believe it.
        encoder_id: the encoder that the strengths belong to.
        data_hash: of the training data.
        metrics: how good it is.
        config: what it was made by.
        versions: of the packages.
        folder: where it was saved or loaded, None before.
        fingerprints: what each arm was when it was learned, by name (see `rewards.fingerprint`);
            empty where that was not kept.
    """

    arms: tuple[str, ...]
    strengths: Strengths
    calibration: Calibration
    encoder_id: EncoderId
    data_hash: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def unknown(self, arms: Sequence[str]) -> list[str]:
        """Those of ``arms`` that have no strengths here; they start with a zero prior."""
        return [arm for arm in arms if arm not in self.arms]

    def means(self, arms: Sequence[str]) -> Float:
        """(K, D + 1) prior means in payoff units about the mean arm: s (E_bt[n] - mean), b_n.

        The mean is taken over those of ``arms`` that have strengths; the others' rows are zero.
        InputError where none has.
        """
        own = [self.arms.index(arm) for arm in arms if arm in self.arms]
        if not own:
            raise InputError(
                f"the prior has strengths of {', '.join(self.arms)}, "
                f"and of none of {', '.join(arms)}"
            )
        weights_KD = self.calibration.scale * self.strengths.bt_KD
        every_row_KD = np.column_stack([weights_KD, self.calibration.offset_K])
        rows_KD = every_row_KD[own]

        # The others stay at zero, which is the mean arm.
        places = [k for k, arm in enumerate(arms) if arm in self.arms]
        out_KD = np.zeros((len(arms), rows_KD.shape[1]))
        out_KD[places] = rows_KD - rows_KD.mean(axis=0)
        return out_KD

    def router(
        self, arms: Sequence[str] | None = None, **options: Any
    ) -> TrustedThompson | Anchored:
        """A router over contexts h (B, D) that starts at this prior.

        It trusts the prior by evidence and centres its payoffs.

        Args:
            arms: in their order (None: the prior's own); one without strengths starts at the mean
                arm, with a warning.
            options: those of `routers.trusted.trusted`, which win over the calibrated ones;
                ``trust=1`` believes the prior outright.
        """
        names = list(self.arms if arms is None else arms)
        if missing := self.unknown(names):
            warnings.warn(
                f"no strengths of {', '.join(missing)} in the prior: zero prior",
                UserWarning,
                stacklevel=2,
            )
        c = self.calibration
        calibrated: dict[str, Any] = {
            "precision": c.precision,
            "noise_sd": c.noise_sd,
            "intercept": c.offset_precision,
            "zero_precision": c.zero_precision,
            "level": c.level,
        }
        return trusted(self.means(names), **(calibrated | options))

    def encoder(self, *, device: str = "auto", batch: int = 16) -> PairEncoder:
        """The pair encoder of this prior.

        InputError where the encoder that is loaded is not the one the strengths belong to.
        """
        own = self.encoder_id
        if own.tuned and self.folder is None:
            raise InputError("this prior was not saved or loaded: its tuned encoder has no folder")
        model = str(self.folder / ENCODER_FOLDER) if own.tuned and self.folder else own.model
        fitted = dict(self.config.get("encoder") or {})
        texts = TextEncoder(
            model,
            pooling=own.pooling,
            max_tokens=own.max_tokens,
            batch=batch,
            dtype=fitted.get("dtype", "auto"),
            device=device,
            trust_remote_code=bool(fitted.get("trust_remote_code", False)),
            name=own.model if own.tuned else None,
            with_prompt=own.with_prompt,
        )
        _same_encoder(own, texts.id, str(self.folder or "the prior"))
        return PairEncoder(texts, self.strengths)


def save_prior(prior: Prior, folder: str | Path) -> Prior:
    """Write the artifact, its arrays in float32; returns what `load_prior` will read, bit for bit.

    The tuned encoder's weights are put there before, by their maker.
    """
    from safetensors.numpy import save_file

    target = Path(folder)
    arrays = prior.strengths.arrays() | {"offset_K": prior.calibration.offset_K}
    narrow = {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}
    # What is returned is what was written: a run started now and one started from disk agree.
    prior = _rounded(prior, narrow)

    tensors = target / TENSORS
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
        partial = target / f"{TENSORS}.partial"
        save_file(narrow, partial)
        partial.rename(tensors)
        about = dumps(_about(prior, tensors), indent=1, ensure_ascii=False)
        write_atomically(target / ABOUT, about + "\n")
    return replace(prior, folder=target)


def load_prior(
    folder: str | Path, arms: Sequence[str] | None = None, encoder: EncoderId | str | None = None
) -> Prior:
    """Read an artifact; arms without strengths join with a zero prior and a warning.

    InputError where the folder holds no whole prior, where the encoder is another (and in what), or
    where none of the arms has strengths. O(weights), no torch.

    Args:
        folder: a path, or a packaged prior's name.
        arms: those that will be routed.
        encoder: the encoder (or its model's name) that will be used.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    source = prior_folder(folder)
    try:
        about = json.loads((source / ABOUT).read_text(encoding="utf-8"))
        arrays = load_file(source / TENSORS)
        if about["format"] != FORMAT:
            raise InputError(
                f"prior {source}: format {about['format']!r}; this version reads {FORMAT}"
            )
        if about["tensors"] != _digest(source / TENSORS):
            raise InputError(
                f"prior {source}: {TENSORS} is not the file that {ABOUT} was written with"
            )
        prior = _read(about, arrays, source)
    except (OSError, KeyError, TypeError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(
            f"prior {source}: not a whole artifact of fit-prior ({type(error).__name__}: {error})"
        ) from error
    if isinstance(encoder, str) and encoder != prior.encoder_id.model:
        raise InputError(
            f"prior {source} was learned with encoder {prior.encoder_id.model!r}, "
            f"not with {encoder!r}"
        )
    if isinstance(encoder, EncoderId):
        _same_encoder(prior.encoder_id, encoder, str(source))
    if arms is not None:
        prior.means(arms)
        if missing := prior.unknown(arms):
            warnings.warn(
                f"prior {source} has no strengths of {', '.join(missing)}: zero prior",
                UserWarning,
                stacklevel=2,
            )
    return prior


def prior_folder(name: str | Path) -> Path:
    """The folder that ``name`` says: a path, or a packaged prior's name.

    InputError where it is neither.
    """
    return folder_of(str(name), ABOUT, "prior", "fit-prior")


def _rounded(prior: Prior, arrays: Mapping[str, Any]) -> Prior:
    """The prior with the arrays as they are on disk, wide again."""
    wide = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
    offset_K = wide.pop("offset_K")
    calibration = replace(prior.calibration, offset_K=offset_K)
    # What is left are the strengths' own arrays.
    old = prior.strengths
    strengths = Strengths.of(wide, old.dev_loss, old.epoch)
    return replace(prior, strengths=strengths, calibration=calibration)


def _same_encoder(own: EncoderId, other: EncoderId, where: str) -> None:
    if difference := own.differs(other):
        raise InputError(f"{where}: the strengths belong to another encoder: {difference}")


def _about(prior: Prior, tensors: Path) -> dict[str, Any]:
    calibration = {k: v for k, v in asdict(prior.calibration).items() if k != "offset_K"}
    return {
        "format": FORMAT,
        "arms": list(prior.arms),
        "fingerprints": dict(prior.fingerprints),
        "encoder": asdict(prior.encoder_id),
        "calibration": calibration | {"worth": prior.calibration.worth},
        "intercepts": dict(zip(prior.arms, prior.calibration.offset_K.tolist(), strict=True)),
        "dim": prior.strengths.dim,
        "dev_loss": prior.strengths.dev_loss,
        "epoch": prior.strengths.epoch,
        "data_hash": prior.data_hash,
        "tensors": _digest(tensors),
        "metrics": dict(prior.metrics),
        "config": dict(prior.config),
        "versions": dict(prior.versions),
    }


def _read(about: Mapping[str, Any], arrays: dict[str, Any], source: Path) -> Prior:
    numbers = {k: v for k, v in about["calibration"].items() if k != "worth"}
    level = numbers.pop("level", None)
    calibration = Calibration(
        offset_K=np.asarray(arrays.pop("offset_K"), np.float64),
        level=None if level is None else (float(level[0]), float(level[1])),
        **numbers,
    )
    strengths = Strengths.of(arrays, about["dev_loss"], about["epoch"])
    arms = tuple(about["arms"])
    if not len(arms) == strengths.n_arms == len(calibration.offset_K):
        raise InputError(
            f"prior {source}: {len(arms)} arms are named, strengths are of {strengths.n_arms}"
        )
    return Prior(
        arms=arms,
        strengths=strengths,
        calibration=calibration,
        encoder_id=EncoderId(**about["encoder"]),
        data_hash=about["data_hash"],
        metrics=about["metrics"],
        config=about["config"],
        versions=about["versions"],
        folder=source,
        fingerprints=about.get("fingerprints", {}),
    )


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
