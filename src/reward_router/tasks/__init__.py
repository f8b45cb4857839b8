"""The embedded default's instructions: generated, split by content, and verified by rules."""

from reward_router.tasks.generator import CATEGORIES, SPLITS, Task, TaskSplit, generate, verify
from reward_router.tasks.verifiers import verify_check

__all__ = ["CATEGORIES", "SPLITS", "Task", "TaskSplit", "generate", "verify", "verify_check"]
