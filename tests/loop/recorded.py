"""What a run decided, paid and trained, as digests.

To see whether a change left every bit of it as it was. Run as a program, it records the digests of
this machine anew: ``python tests/loop/recorded.py``.
"""

import hashlib
import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reward_router import config
from reward_router.config import Config
from reward_router.ledger import Ledger

HERE = Path(__file__).parent
DIGESTS = HERE / "recorded.json"
RUNS = {
    "prompts": (),
    "batches": ("router={name: linucb, unit: batch}",),
    "pairs": ("router={name: bayesian, unit: pair}", "payoff.name=full_advantage", "pairs.tie=0.4"),
    "ensemble": ("router={name: uniform, mode: ensemble}", "payoff.name=neg_loss"),
    "committee": (
        "judge={mode: committee, gate: mean, labels: {fraction: 1.0}}",
        "train.batch_prompts=6",
    ),
    "committee after a router": (
        "judge={mode: committee, first: router, gate: mean, labels: {fraction: 1.0}}",
        "train.batch_prompts=6",
    ),
}


def machine() -> str:
    """What bitwise equality depends on.

    Another processor or another library may round otherwise.
    """
    versions = [version(name) for name in ("torch", "numpy", "transformers")]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line for line in lines if line.startswith(("model name", "flags")))
    except (OSError, StopIteration):
        model = platform.processor()
    return _sha([platform.machine(), model, *versions])


def digests(out: Path) -> dict[str, str]:
    """Digests of the decisions, the payoffs and the adapter of the run in ``out``."""
    with Ledger(out / "ledger.sqlite", readonly=True) as ledger:
        made = ledger.decisions()
        arms = [made.arms[k] if k >= 0 else None for k in made.arm.tolist()]
        decided = list(zip(made.unit, arms, made.propensity.tolist(), strict=True))
        payoffs = [float(x).hex() for x in made.payoff.tolist()]
    return {
        "arms": _sha(arms),
        "decisions": _sha([[unit, arm, float(p).hex()] for unit, arm, p in decided]),
        "payoffs": _sha(payoffs),
        "adapter": adapter(out),
    }


def adapter(out: Path) -> str:
    """Digest of every tensor of the saved adapter, by name."""
    from safetensors.numpy import load_file

    tensors = load_file(next((out / "policy").glob("*.safetensors")))
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode())
        whole.update(tensors[name].tobytes())
    return whole.hexdigest()[:24]


def _sha(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def record(path: Path, settings: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Run each of the ``settings`` of the small configuration at ``path``; what came of them."""
    from reward_router import run

    found: dict[str, Any] = {"machine": machine(), "runs": {}}
    for name, changes in settings.items():
        with tempfile.TemporaryDirectory() as folder:
            given: Config = config.load(path, None, changes)
            run.train(given, Path(folder) / "run")
            found["runs"][name] = digests(Path(folder) / "run")
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    from conftest import TINY

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "tiny.yaml"
        small.write_text(TINY, encoding="utf-8")
        DIGESTS.write_text(json.dumps(record(small, RUNS), indent=2) + "\n", encoding="utf-8")
