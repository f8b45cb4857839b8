"""Sequential judging: calibrated arms, asked one after another only where the next opinion is worth its price."""

from reward_router.committee.calibrate import Calibrator
from reward_router.committee.committee import Committee
from reward_router.committee.gate import Gate

__all__ = ["Calibrator", "Committee", "Gate"]
