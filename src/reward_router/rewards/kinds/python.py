"""Your own reward model by import path: ``package.module:Class``, built with the arm's options."""

import importlib
import inspect
from typing import Any

from reward_router.errors import InputError
from reward_router.kinds import ArmKind, here_importable
from reward_router.rewards.identity import python_code
from reward_router.rewards.names import check_options
from reward_router.types import RewardModel


def load_python(path: str, **options: Any) -> RewardModel:
    """The object at ``package.module:name``; a class or function is called with ``options`` first.

    The current directory is importable meanwhile. The result must have ``score(prompts,
    responses)``; InputError says what is wrong otherwise. What the constructor raises is not
    caught.

    >>> arm = load_python("reward_router.rewards.metric:Metric", metric="readability")
    >>> arm.score(["x"], [["A cat."]]).shape
    (1, 1)
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise InputError(f"path {path!r} is no import path; write package.module:Class")
    if module_name.endswith(".py"):
        module = module_name.removesuffix(".py").replace("/", ".")
        raise InputError(f"path {path!r} names a file; write the module, {module}:{name}")
    target = _imported(path, module_name, name)
    is_factory = callable(target) and not isinstance(target, RewardModel)
    if inspect.isclass(target) or is_factory:
        check_options(path, target, options)
        target = target(**options)
    elif options:
        raise InputError(
            f"{path} is an object, not a class: it takes no options, "
            f"given {', '.join(sorted(options))}"
        )
    return _checked(path, target)


def _imported(path: str, module_name: str, name: str) -> Any:
    try:
        with here_importable():
            target: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{path} cannot be imported: {error}") from error
    for part in name.split("."):
        target = getattr(target, part, None)
        if target is None:
            raise InputError(f"{path}: {module_name} has no {name!r}")
    return target


def _checked(path: str, model: Any) -> RewardModel:
    score = getattr(model, "score", None)
    if not callable(score):
        raise InputError(f"{path} has no method score(prompts, responses)")
    try:
        inspect.signature(score).bind([], [])
    except TypeError as error:
        raise InputError(f"{path}: score must take (prompts, responses): {error}") from error
    return model  # type: ignore[no-any-return]


KIND = ArmKind(
    "python",
    load_python,
    "your object with `score(prompts, responses)`",
    remote=True,
    code=python_code,
)
