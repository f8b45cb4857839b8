"""Sequential judging: calibrated arms, asked one after another while the next is worth its price.

Leaves out: text (it sees margins and categories only), position bias (sides must be drawn at
random), and I/O.
"""

from reward_router.committee.aggregate import calibrated_scores, mean, median, uwo, wco
from reward_router.committee.budget import PricePacer
from reward_router.committee.calibrate import Calibrator
from reward_router.committee.committee import PRICE, Committee
from reward_router.committee.dawid_skene import DawidSkene
from reward_router.committee.gate import CommitteeChoice, GateVerdict
from reward_router.committee.labels import LabelPolicy, ask_label, label_value
from reward_router.committee.online import OnlineCommittee, Refit
from reward_router.committee.promise import Promise
from reward_router.committee.respond import (
    PromptEvidence,
    Ranking,
    judge_responses,
    pair_weights,
    rank,
)

__all__ = [
    "PRICE",
    "Calibrator",
    "Committee",
    "CommitteeChoice",
    "DawidSkene",
    "GateVerdict",
    "LabelPolicy",
    "OnlineCommittee",
    "PricePacer",
    "Promise",
    "PromptEvidence",
    "Ranking",
    "Refit",
    "ask_label",
    "calibrated_scores",
    "judge_responses",
    "label_value",
    "mean",
    "median",
    "pair_weights",
    "rank",
    "uwo",
    "wco",
]
