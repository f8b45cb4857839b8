"""Two processes of one GRPO run share groups, arms and one ledger."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs TRL")

from reward_router.ledger import Ledger

LAUNCH = "torch.distributed.run --standalone --nproc_per_node 2"


@pytest.mark.slow
def test_a_group_on_two_processes_has_one_arm(tmp_path: Path) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", *LAUNCH.split(), str(here / "grpo_job.py"), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{r}.json").read_text()) for r in (0, 1))
    assert first["state"] == second["state"]
    for (prompts, arms), (other_prompts, other_arms) in zip(
        first["seen"], second["seen"], strict=True
    ):
        assert prompts[-1] == other_prompts[0]  # the group that lies on both
        pairs = set(zip(prompts + other_prompts, arms + other_arms, strict=True))
        assert len(pairs) == 3
    with Ledger(tmp_path / "ledger.sqlite", readonly=True) as ledger:
        assert ledger.check().ok
        assert len(ledger.decisions().unit) == 9
        assert ledger.counts()["calls"] == {"ok": 18}
