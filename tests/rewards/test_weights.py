"""Nothing made up is ever used.

Tested are checkpoints that lack weights, of another head, with outputs to choose from, and with own
code.
"""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from safetensors.torch import load_file, save_file  # noqa: E402

from reward_router.errors import InputError  # noqa: E402
from reward_router.rewards import loading  # noqa: E402
from reward_router.rewards.kinds.classifier import Classifier  # noqa: E402
from reward_router.rewards.spec import ArmSpec, build_arm  # noqa: E402
from reward_router.rewards.tiny import tiny_llama  # noqa: E402

PROMPTS, RESPONSES = ["Say hi.", "2 + 2?"], [["hi", "hello there"], ["4", "five, I think"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders ``causal`` and ``rm`` (one output) and ``many`` (three)."""
    from transformers import LlamaForSequenceClassification

    root = tmp_path_factory.mktemp("checkpoints")
    model, tokenizer = tiny_llama(seed=3)
    model.save_pretrained(root / "causal")
    tokenizer.save_pretrained(root / "causal")
    for name, labels in (("rm", 1), ("many", 3)):
        plain = {
            k: v
            for k, v in model.config.to_dict().items()
            if k not in ("id2label", "label2id", "architectures")
        }
        config = type(model.config)(**plain, num_labels=labels)
        if labels == 3:
            config.id2label = {0: "bad", 1: "fair", 2: "good"}
        torch.manual_seed(labels)
        classifier = LlamaForSequenceClassification(config)
        torch.nn.init.normal_(classifier.score.weight, std=0.5)
        classifier.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def copied(made, name, tmp_path, change=None, config=None):
    """A copy of a checkpoint with its tensors or its configuration changed."""
    folder = tmp_path / "copy"
    shutil.copytree(made / name, folder)
    if change is not None:
        tensors = load_file(folder / "model.safetensors")
        save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    if config is not None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return str(folder)


def scores(model, tokenizer, **options):
    return Classifier(model, tokenizer, **options).score(PROMPTS, RESPONSES)


def both(head, folder):
    """The real load and the check without weights: what one refuses the other refuses."""
    load = {
        "causal": loading.load_causal_lm,
        "classifier": loading.load_classifier,
        "body": loading.load_body,
    }[head]
    said = []
    for attempt in (lambda: load(folder), lambda: loading.check_model(folder, head=head)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        said.append(str(caught.value))
    return said


def test_a_checkpoint_without_a_reward_head_is_refused_by_name(made):
    for said in both("classifier", str(made / "causal")):
        assert "score.weight" in said
        assert "LlamaForCausalLM" in said


def test_a_reward_model_is_no_language_model_though_its_embeddings_are_tied(made):
    for said in both("causal", str(made / "rm")):
        assert "LlamaForSequenceClassification" in said


def test_tied_embeddings_are_not_missing(made):
    loading.check_model(str(made / "causal"), head="causal")
    assert "lm_head.weight" not in load_file(made / "causal" / "model.safetensors")
    loading.load_causal_lm(str(made / "causal"))


def test_an_untied_output_layer_that_is_not_there_is_missed(made, tmp_path):
    folder = copied(made, "causal", tmp_path, config={"tie_word_embeddings": False})
    assert all("lm_head.weight" in said for said in both("causal", folder))


def test_one_tensor_missing_from_a_sharded_checkpoint_is_named(made, tmp_path):
    folder = tmp_path / "sharded"
    model, tokenizer = tiny_llama(seed=3)
    model.save_pretrained(folder, max_shard_size="100KB")
    tokenizer.save_pretrained(folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    gone = "model.layers.1.mlp.up_proj.weight"
    for shard in shards:
        kept = {k: v for k, v in load_file(shard).items() if k != gone}
        save_file(kept, shard, metadata={"format": "pt"})
    for said in both("causal", str(folder)):
        assert gone in said
    shards[0].unlink()
    both("causal", str(folder))


def test_a_head_of_another_shape_is_refused(made, tmp_path):
    folder = copied(made, "rm", tmp_path, lambda t: t | {"score.weight": torch.zeros(1, 32)})
    assert "score" in both("classifier", folder)[0]


def test_nan_weights_and_weights_that_overflow_are_refused(made, tmp_path):
    def spoil(tensors):
        tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
        return tensors

    with pytest.raises(InputError, match=r"up_proj.weight holds NaN"):
        loading.load_classifier(copied(made, "rm", tmp_path, spoil))
    shutil.rmtree(tmp_path / "copy")
    large = copied(
        made, "rm", tmp_path, lambda t: t | {"model.norm.weight": torch.full((64,), 1e6)}
    )
    with pytest.raises(InputError, match="dtype: float32"):
        loading.load_classifier(large, dtype="float16")


@pytest.mark.parametrize("prefix", ["v_head.summary", "value_head", "v_head"])
@pytest.mark.parametrize("aside", [False, True])
def test_the_heads_of_other_projects_are_read(made, tmp_path, prefix, aside):
    weight, bias = (
        torch.randn(1, 64, generator=torch.Generator().manual_seed(5)),
        torch.tensor([0.25]),
    )
    head = {f"{prefix}.weight": weight, f"{prefix}.bias": bias}
    folder = copied(made, "causal", tmp_path, None if aside else lambda t: t | head)
    if aside:  # LLaMA-Factory keeps it in a file of its own
        save_file(head, tmp_path / "copy" / "value_head.safetensors", metadata={"format": "pt"})
    loading.check_model(folder, head="classifier")
    model, tokenizer = loading.load_classifier(folder), loading.load_tokenizer(folder)
    arm = Classifier(model, tokenizer)
    body = loading.load_body(folder)
    ids = torch.tensor(
        [tokenizer(arm.render(PROMPTS[0], "hi"), add_special_tokens=False)["input_ids"]]
    )
    with torch.inference_mode():
        state = body(input_ids=ids).last_hidden_state[0, -1]
    assert arm.score(PROMPTS, RESPONSES)[0, 0] == pytest.approx(
        float(weight[0] @ state + bias), abs=1e-5
    )


def test_a_reward_model_whose_configuration_kept_the_old_name_is_read(made, tmp_path):
    folder = copied(made, "rm", tmp_path, config={"architectures": ["LlamaForCausalLM"]})
    plain = scores(loading.load_classifier(str(made / "rm")), loading.load_tokenizer(folder))
    np.testing.assert_array_equal(
        scores(loading.load_classifier(folder), loading.load_tokenizer(folder)), plain
    )


def test_several_outputs_need_a_choice(made):
    model, tokenizer = (
        loading.load_classifier(str(made / "many")),
        loading.load_tokenizer(str(made / "many")),
    )
    with pytest.raises(InputError, match=r"3 outputs \(0 bad, 1 fair, 2 good\).*logit") as caught:
        Classifier(model, tokenizer)
    assert "logits" in str(caught.value)
    one = [scores(model, tokenizer, logit=i) for i in range(3)]
    np.testing.assert_array_equal(scores(model, tokenizer, logit="good"), one[2])
    mixed = scores(model, tokenizer, logits={"good": 1.0, 0: -0.5})
    np.testing.assert_allclose(mixed, one[2] - 0.5 * one[0], rtol=1e-6)
    for options, says in [
        ({"logit": 3}, "counted from 0"),
        ({"logit": "excellent"}, "bad, fair, good"),
        ({"logits": {}}, "weight"),
        ({"logits": {"good": "high"}}, "finite weight"),
        ({"logit": 1, "logits": {0: 1.0}}, "both"),
    ]:
        with pytest.raises(InputError, match=says):
            Classifier(model, tokenizer, **options)


def test_a_reward_head_multiplies_in_float32(made):
    """A bfloat16 body keeps its dtype.

    Scores of many responses do not fall on one grid, and are those of the exact product.
    """
    whole, half = (
        loading.load_classifier(str(made / "rm"), dtype=d) for d in ("float32", "bfloat16")
    )
    tokenizer = loading.load_tokenizer(str(made / "rm"))
    responses = [[f"answer number {i}" for i in range(100)]]
    exact, ours = (Classifier(m, tokenizer).score(["q"], responses)[0] for m in (whole, half))
    assert half.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert torch.equal(half.score.weight, whole.score.weight)
    assert len(set(ours.tolist())) > 95
    assert np.abs(ours - exact).max() < 0.2


CODE = """
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput
class Own(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.score = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()
    def forward(self, input_ids=None, attention_mask=None, **kw):
        h = self.model(input_ids, attention_mask=attention_mask)[0][:, -1]
        r = self.score(h)
        return RETURNED
"""
RETURNED = {
    "score": "ModelOutput(rewards=torch.cat([r, -r], 1), score=r[:, 0])",
    "rewards": "ModelOutput(rewards=r)",
    "logits": "ModelOutput(logits=r)",
    "tensor": "r",
    "vector": "r[:, 0]",
    "tuple": "(r, h)",
    "dict": "{'reward': r}",
}


def own_code(made, tmp_path, returned):
    auto = {"AutoModelForSequenceClassification": "modeling_own.Own"}
    folder = copied(made, "rm", tmp_path, config={"auto_map": auto, "architectures": ["Own"]})
    (tmp_path / "copy" / "modeling_own.py").write_text(CODE.replace("RETURNED", returned))
    return folder


@pytest.mark.parametrize("name", RETURNED)
def test_what_a_models_own_code_returns_is_read(made, tmp_path, name):
    folder = own_code(made, tmp_path, RETURNED[name])
    spec = ArmSpec("own", "classifier", folder, {"trust_remote_code": True})
    plain = build_arm(ArmSpec("plain", "classifier", str(made / "rm")))
    np.testing.assert_allclose(
        build_arm(spec).score(PROMPTS, RESPONSES), plain.score(PROMPTS, RESPONSES), atol=1e-5
    )


def test_own_code_without_a_known_output_or_without_trust_is_refused(made, tmp_path):
    folder = own_code(made, tmp_path, "ModelOutput(quality=r)")
    with pytest.raises(InputError, match="returns quality; known outputs are score"):
        build_arm(ArmSpec("own", "classifier", folder, {"trust_remote_code": True}))
    with pytest.raises(InputError, match=r"saved as Own.*trust_remote_code: true"):
        build_arm(ArmSpec("own", "classifier", folder))


def test_a_pooler_that_is_not_used_may_be_missing(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    loading.load_body(str(tmp_path))
    with pytest.raises(InputError, match=r"lacks the weights .*classifier\.weight"):
        loading.load_classifier(str(tmp_path))


def test_a_device_that_is_not_here_is_refused():
    for device in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match="is not here"):
            loading.load_causal_lm("tiny", device=device)
