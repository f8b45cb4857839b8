"""Which arm runs where in Ray: defaults by kind, one group a model, and what may be asked for."""

import pytest
import yaml

from reward_router import config
from reward_router.errors import InputError
from reward_router.server.ray.places import groups_of, here

ARMS = """
arms:
  - {name: likelihood, kind: loglik, model: tiny, ray: {cpus: 2}}
  - {name: obeys, kind: local_judge, model: tiny, question: "Yes?", ray: {replicas: 3, gpus: 0.5}}
  - {name: trained, kind: classifier, model: some/reward-model}
  - {name: relevance, kind: embedding}
  - {name: marks, kind: head, weights: embedded-heads, head: marks}
  - {name: "short, please!", kind: metric, metric: length, direction: short}
  - {name: mine, kind: python, path: "my_package.arms:Judge"}
  - {name: far, kind: http, url: "http://gpu1:8000", model: rm}
  - {name: strict, kind: judge, url: "http://gpu2:8000/v1", model: judge}
"""


def read(text):
    return config.validate(yaml.safe_load(text), "test")


def test_language_models_have_a_deployment_of_their_own_and_services_need_none():
    settled = read(ARMS)
    groups = groups_of(settled)
    names = [[spec.name for spec in group.specs] for group in groups]
    own = [["likelihood", "obeys"], ["trained"]]
    shared = [["relevance", "marks"], ["short, please!"], ["mine"]]
    assert names == own + shared
    assert [group.own for group in groups] == [True] * 2 + [False] * 3
    assert [spec.name for spec in here(settled, groups)] == ["far", "strict"]


def test_arms_on_one_model_share_its_weights_and_the_largest_numbers_hold():
    first = groups_of(read(ARMS))[0]
    assert (first.replicas, first.cpus, first.gpus) == (3, 2.0, 0.5)


def test_what_an_arm_asks_for_comes_before_its_kind():
    text = ARMS.replace("replicas: 3, gpus: 0.5", "place: shared")
    text = text.replace("direction: short}", "direction: short, ray: own}")
    text = text.replace('Judge"}', 'Judge", ray: router}')
    settled = read(text)
    groups = groups_of(settled)
    owners = {spec.name: group.own for group in groups for spec in group.specs}
    assert owners["short, please!"]
    assert owners["likelihood"]
    assert not owners["obeys"]
    assert [spec.name for spec in here(settled, groups)] == ["mine", "far", "strict"]


def test_names_are_plain_and_no_two_are_alike():
    kind = "kind: metric, metric: length"
    text = f"arms: [{{name: 'a b', {kind}}}, {{name: a-b, {kind}}}]"
    names = [group.name for group in groups_of(read(text))]
    assert names == ["0-a-b", "1-a-b"]


@pytest.mark.parametrize(
    ("given", "said"),
    [("elsewhere", "'own', 'shared' or 'router'"), ("{replica: 2}", "replicas")],
)
def test_what_is_no_place_is_refused_with_what_is(given, said):
    with pytest.raises(InputError, match=said):
        read(f"arms: [{{name: a, kind: metric, metric: length, ray: {given}}}]")
