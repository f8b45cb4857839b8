"""Resolved configurations of earlier versions load.

A run that was begun then can be gone on with.
"""

from reward_router.config import JudgeConfig


def test_the_committee_s_earlier_defaults_are_no_options_of_a_single_arm() -> None:
    judge = JudgeConfig.model_validate({"mode": "single", "gate": "lower95", "price": 0.01})
    assert judge.mode == "single"
