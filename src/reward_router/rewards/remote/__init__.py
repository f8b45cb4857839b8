"""How arms that run elsewhere are asked: limits, retries, cache, canaries.

The kinds themselves lie in `reward_router.rewards.kinds`.
"""
