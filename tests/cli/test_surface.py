"""The public surface: which names there are, that they need none of the extras, and that importing is cheap."""

import subprocess
import sys

import reward_router

NAMES = {
    "AllArmsResting", "Committee", "Decision", "Dispatcher", "Exp3", "Fixed", "Ledger", "LinearThompson", "LinUCB", "QuantileScaler",
    "RewardModel", "RoundRobin", "Uniform", "choose", "__version__",
}  # fmt: skip

BLOCKED = "torch transformers trl peft accelerate datasets fastapi ray pyarrow sentence_transformers safetensors"

TOUCH = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED.split()!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
import reward_router
before = set(sys.modules)
assert not any(m.startswith(("numpy", "scipy")) for m in before), "importing the package alone loads nothing heavy"
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
    done = subprocess.run([sys.executable, "-c", TOUCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
