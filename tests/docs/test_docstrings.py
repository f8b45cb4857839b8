"""Every example in a docstring runs and shows what it says."""

import doctest
import importlib
import pkgutil

import pytest

import reward_router

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(reward_router.__path__, "reward_router.")
    # TRL imports the last one from a command line, with a configuration named by the environment.
    if "__main__" not in m.name and m.name != "reward_router.integrations.trl.environment"
)
MAY_LACK = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "datasets",
    "sentence_transformers",
    "math_verify",
    "fastapi",
    "starlette",
    "uvicorn",
    "verl",
    "skyrl_gym",
    "ray",
    "nemo_rl",
    "verifiers",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in MAY_LACK:
            pytest.skip(f"{name} needs {error.name}, which is not installed")
        raise
    found = [
        test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples
    ]
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    for test in found:
        if any(
            f"import {package}" in test.docstring or needs(test, package) for package in MAY_LACK
        ):
            pytest.importorskip("torch")
        runner.run(test, out=told.append)
    assert not runner.failures, "".join(told)


def needs(test: doctest.DocTest, package: str) -> bool:
    """Whether an example calls what imports a heavy package inside.

    That is the tiny model, or math-verify.
    """
    return any(package in example.source or "tiny" in example.source for example in test.examples)


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    light = [
        name
        for name in MODULES
        if name.startswith(("reward_router.routers.", "reward_router.payoffs"))
    ]
    assert (
        sum(len(t.examples) for name in light for t in finder.find(importlib.import_module(name)))
        > 20
    )
