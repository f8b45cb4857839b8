"""CPU seconds of the offline stage after scoring and encoding: strengths and calibration on made-up pairs of MiniLM's width.

python benchmarks/offline_cost.py [PAIRS] [ARMS]
"""

import sys
import time

import numpy as np

from reward_router.features import pair_rows
from reward_router.offline.calibrate import calibrate
from reward_router.offline.strengths import dev_rows, fit_strengths


def main(pairs: int = 5000, arms: int = 7) -> None:
    """Arms are right by a linear rule of the features and chance; groups of two pairs."""
    draw = np.random.default_rng(0)
    features_PF = pair_rows(*(draw.normal(size=(pairs, 384)) for _ in range(2)))
    odds_PK = 20 * features_PF @ draw.normal(size=(768, arms)) / 768**0.5 + np.linspace(0, 1, arms)
    right_PK = (draw.random((pairs, arms)) < 1 / (1 + np.exp(-odds_PK))).astype(float)
    groups = np.arange(pairs) // 2
    dev_P = dev_rows(groups, 0.15)
    start, cpu = time.perf_counter(), time.process_time()
    strengths = fit_strengths(features_PF, right_PK, groups, dev=dev_P)
    middle, middle_cpu = time.perf_counter(), time.process_time()
    found = calibrate(strengths.encode(features_PF[dev_P]), strengths.bt_KD, right_PK[dev_P])
    print(f"{pairs} pairs, {arms} arms, epoch {strengths.epoch} kept")
    print(f"strengths   {middle_cpu - cpu:6.1f} s CPU {middle - start:6.1f} s wall")
    print(
        f"calibration {time.process_time() - middle_cpu:6.1f} s CPU {time.perf_counter() - middle:6.1f} s wall, worth {found.worth:.0f}"
    )


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
