"""The public surface: which names there are.

They need none of the extras, and importing them is cheap.
"""

import subprocess
import sys

import reward_router

NAMES = {
    "AllArmsResting", "Batch", "Committee", "Decision", "Dispatcher", "Exp3", "Fixed", "Ledger",
    "LinearThompson", "LinUCB", "QuantileScaler", "RewardModel", "RoundRobin", "Session", "Uniform",
    "choose", "__version__",
}  # fmt: skip

BLOCKED = (
    "torch transformers trl peft accelerate datasets fastapi ray pyarrow "
    "sentence_transformers safetensors"
)

BLOCK = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED.split()!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
"""

TOUCH = """
import reward_router
before = set(sys.modules)
heavy = [m for m in before if m.startswith(("numpy", "scipy"))]
assert not heavy, "importing the package alone loads nothing heavy"
for name in reward_router.__all__:
    getattr(reward_router, name)
import numpy as np
router = reward_router.LinUCB(2, 3)
dispatcher = reward_router.Dispatcher(router, ["a", "b"])
[decision] = dispatcher.route(np.ones((1, 3)), ["p"], step=0)
assert dispatcher.feedback(decision.id, 1.0)
"""


def test_public_names() -> None:
    assert set(reward_router.__all__) == NAMES
    assert set(dir(reward_router)) >= NAMES
    for name in NAMES:
        assert getattr(reward_router, name) is not None
    assert not hasattr(reward_router, "no_such_name")


def test_core_works_without_any_extra() -> None:
    run_blocked(TOUCH)


WITHOUT_TORCH = (
    "session", "verdicts.single", "verdicts.ensemble", "verdicts.committee", "outcomes", "contexts",
    "testing", "loop", "assemble", "rewards.pool", "rewards.metric", "replay.run", "ledger",
    "bestofn.ways", "training.records",
)  # fmt: skip

MIDDLE = """
from reward_router import Batch, Dispatcher, LinUCB, Session
from reward_router.contexts import Hashing
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec

arms = {"short": ArmSpec("short", "metric", options={"metric": "length", "direction": "short"})}
session = Session(Dispatcher(LinUCB(1, 8), ["short"]), RewardPool(arms), Hashing(8), "probe")
batch = session.judge(Batch(0, ["Say hi."], ["p"], [["hi", "hello there"]], [[1.0, 0.0]]))
assert session.judgements(batch)[0].ranking == (0, 1)
assert list(session.learn(batch).values()) == [1.0]
assert "torch" not in sys.modules
"""


def test_the_middle_works_without_any_extra() -> None:
    imports = "".join(f"import reward_router.{name}\n" for name in WITHOUT_TORCH)
    run_blocked(imports + MIDDLE)


def run_blocked(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
