"""How much work the pieces of a run are against each other.

With that, the time of what was not done yet can be reckoned from the time of what was. The unit is
one more row in a forward pass that samples. The pass itself costs as much as many rows, because the
weights are read once for all of them. The figures below lie between those of two runs of the
embedded default on an AMD EPYC, one on two cores and one on a busy core. Larger reward models cost
more, and other machines differ: this is right to a factor of two, and is only used until a piece of
its kind is done.
"""

import math
from collections.abc import Sequence

from reward_router.config import Config
from reward_router.contexts import plain_prompt
from reward_router.examples import Example

CHARACTERS_PER_TOKEN = 4
TEMPLATE_TOKENS = 15
FORWARD = 40
"""Rows that a forward pass is worth, whatever the number of rows in it."""
SCORED = 0.4
"""What reading a token costs a small reward model."""
PASSED = 0.8
"""What reading a token costs in one pass of training."""
PASSES = 3
"""Passes of an optimiser step: forward once, and backward, which costs twice as much."""


def step_cost(config: Config, prompts: Sequence[Example]) -> float:
    """One training step: responses are sampled, scored by one arm, and trained on."""
    policy = config.policy
    train = config.train
    batch = min(train.batch_prompts, len(prompts))
    responses = batch * policy.n_responses
    length = policy.max_new_tokens + usual_prompt_tokens(prompts)
    sampled = sampled_cost(config, responses, policy.max_new_tokens)
    scored = SCORED * responses * length

    all_pairs = math.comb(policy.n_responses, 2)
    pairs = batch * min(config.pairs.per_prompt, all_pairs)
    # The reference reads each pair once more, and a pair holds two responses.
    passes = PASSES * train.steps_per_batch + 1
    trained = PASSED * passes * 2 * pairs * length
    return sampled + scored + trained


def measured_cost(config: Config, prompts: int, samples: int) -> float:
    """One measurement of gold.

    Args:
        config: of the run.
        prompts: how many.
        samples: responses to each of them; 0: one greedy response.
    """
    length = config.eval.max_new_tokens or config.policy.max_new_tokens
    return sampled_cost(config, prompts * max(samples, 1), length)


def sampled_cost(config: Config, responses: int, length: int) -> float:
    """Responses of at most ``length`` tokens, as many at a time as the policy takes."""
    # A round takes as many passes as its longest response has tokens.
    rounds = math.ceil(responses / config.policy.sample_batch)
    return float(length * (FORWARD * rounds + responses))


def chosen_cost(config: Config, prompts: Sequence[Example]) -> float:
    """Best of n: one arm reads every sampled response once."""
    length = config.policy.max_new_tokens + usual_prompt_tokens(prompts)
    return SCORED * len(prompts) * config.eval.samples * length


def usual_prompt_tokens(prompts: Sequence[Example]) -> float:
    """Tokens of a usual prompt, from its characters."""
    if not prompts:
        return float(TEMPLATE_TOKENS)
    total = sum(len(plain_prompt(example.prompt)) for example in prompts)
    characters = total / len(prompts)
    return TEMPLATE_TOKENS + characters / CHARACTERS_PER_TOKEN
