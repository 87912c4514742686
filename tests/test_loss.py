"""The measure `loss`, against slow loops, transformers' guide and lm-eval's own figures."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import resprout
from resprout.data.held_out import HeldOut, of_texts, of_tokens, read_held_out
from resprout.data.tokenizer import for_transformers
from resprout.data.wikitext import detokenise, read_wikitext
from resprout.measure import precision
from resprout.measure.drawn import by_document
from resprout.measure.held_out_loss import LossOptions, measure_loss
from resprout.measure.loss import window_losses
from resprout.measure.scoring import token_nats, window_nats
from resprout.measure.statistics import mean_interval
from resprout.models.sizes import build, configuration


@pytest.fixture(scope="module")
def model():
    return build(configuration("gpt-neox-nano", vocab_size=300), seed=0).eval()


@pytest.fixture(scope="module")
def words(tokens):
    return for_transformers(tokens.tokenizer())


@pytest.mark.parametrize(("N", "V"), [(5, 7), (300, 4096), (3, 300_000)])
def test_token_nats_are_the_cross_entropy(N, V):
    logits, targets = torch.randn(N, V), torch.randint(0, V, (N,))
    expected = -F.log_softmax(logits.double(), -1)[torch.arange(N), targets]
    torch.testing.assert_close(token_nats(logits, targets).double(), expected)
    rough = logits.bfloat16()
    torch.testing.assert_close(
        token_nats(rough, targets), F.cross_entropy(rough.float(), targets, reduction="none")
    )


class Capped(torch.nn.Module):
    """A head that caps its logits, as Gemma 2 does."""

    def __init__(self, head):
        super().__init__()
        self.weight = head.weight

    def forward(self, hidden):
        return 3 * torch.tanh(hidden @ self.weight.T / 3)


@pytest.mark.parametrize("name", ["gpt-neox-nano", "biogpt-nano", "llama-nano", "gpt2-nano"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_window_nats_are_those_of_the_models_own_logits(name, autocast):
    own = build(configuration(name, vocab_size=300), seed=0).eval()
    tokens = np.random.default_rng(0).integers(0, 300, 66)
    windows = [(0, 20, 20), (20, 20, 7), (40, 25, 25)]
    for head in (own.get_output_embeddings(), Capped(own.get_output_embeddings())):
        own.lm_head = head
        expected = []
        for start, inputs, counted in windows:
            ids = torch.from_numpy(tokens[start : start + inputs + 1])
            with torch.no_grad(), torch.autocast("cpu", autocast, enabled=autocast is not None):
                logits = own(ids[None, :-1]).logits[0].float()
            each = F.cross_entropy(logits, ids[1:], reduction="none")
            expected.append(each[-counted:].sum().item())
        got = window_nats(own, tokens, windows, 2, autocast)
        np.testing.assert_allclose(got, expected, rtol=1e-5 if autocast is None else 2e-3)


def test_the_whole_set_as_studies_measure_it(model, tokens, words):
    found = measure_loss(
        model, words, of_tokens(tokens, words), LossOptions(window=32, precision="fp32")
    )
    study = window_losses(model, tokens.val, 32).summary(seed=0)
    for name in ("nats_per_token", "perplexity", "bits_per_byte", "tokens", "windows"):
        assert found.details[name] == pytest.approx(study[name], rel=1e-6), name
    np.testing.assert_allclose(found.details["window_nats"], study["window_nats"], atol=1e-3)
    documents = found.details["window_documents"]
    assert len(documents) == len(study["window_nats"]) and documents == sorted(documents)
    assert set(documents) == set(range(len(of_tokens(tokens, words).documents)))
    sums = [by_document(study[name], documents) for name in ("window_nats", "window_tokens")]
    assert found.figures["nats_per_token"].ci95 == pytest.approx(mean_interval(*sums), abs=1e-5)
    assert f"bootstrap over {len(set(documents))} documents" in (
        found.figures["nats_per_token"].protocol
    )


def test_a_prepared_folder_and_its_text_are_the_same_set(model, tokens, words, text_folder):
    prepared = of_tokens(tokens, words)
    texts = read_held_out(text_folder, words, share=0.2)
    assert prepared.text_bytes == texts.text_bytes
    assert sorted(map(tuple, prepared.documents)) == sorted(map(tuple, texts.documents))
    assert prepared.word_count == texts.word_count
    assert prepared.end_of_text == texts.end_of_text == words.eos_token_id
    whole = read_held_out(text_folder, words)
    assert len(whole.documents) == 50 > len(texts.documents)


def test_half_a_surrogate_pair_is_no_text(words):
    """What JSON can say, and no tokenizer takes."""
    with pytest.raises(ValueError, match=r"data: 'texts': document 1 holds half a surrogate pair"):
        of_texts(["fine", "\ud800 not"], words)


def test_every_figure_by_hand(model, words):
    texts = ["def function_1(x): return x * 3\n" * 3, "a b c " * 30]
    held = of_texts(texts, words)
    got = measure_loss(model, words, held, LossOptions(window=16))
    ids = [*words(texts[0]).input_ids, words.eos_token_id,
           *words(texts[1]).input_ids, words.eos_token_id]  # fmt: skip
    assert held.stream.tolist() == ids
    nats = 0.0
    for start in range(0, len(ids) - 1, 16):
        part = torch.tensor(ids[start : start + 17])
        with torch.no_grad():
            logits = model(part[None, :-1]).logits[0]
        nats += F.cross_entropy(logits, part[1:], reduction="sum").item()
    mean = nats / (len(ids) - 1)
    size = sum(len(text.encode()) for text in texts)
    word_count = sum(len(text.split()) + 1 for text in texts)  # and the empty one at each end
    expected = {
        "nats_per_token": mean,
        "perplexity": math.exp(mean),
        "bits_per_byte": mean / math.log(2) * len(ids) / size,
        "byte_perplexity": math.exp(mean * len(ids) / size),
        "word_perplexity": math.exp(mean * len(ids) / word_count),
    }
    for name, value in expected.items():
        figure = got.figures[name]
        assert figure.value == pytest.approx(value, rel=1e-5), name
        assert figure.ci95[0] < figure.value < figure.ci95[1]
        assert figure.items == math.ceil((len(ids) - 1) / 16)
        assert figure.unit and figure.seconds > 0
        assert "16 tokens" in figure.protocol


def test_strided_windows_give_the_guides_figure(model, words):
    """The loop of transformers' perplexity guide, its shifted labels and all."""
    held = of_texts(["def function(x): return x + 1, y * 2\n" * 8], words)
    length, stride = 24, 10
    ids = torch.tensor(held.stream)[None]
    total = counted = reached = 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + length + 1, ids.shape[1])  # their windows hold the targets too
        part = ids[:, begin:end]
        labels = part.clone()
        labels[:, : -(end - max(reached, 1))] = -100
        with torch.no_grad():
            loss = model(part, labels=labels).loss
        count = int((labels[:, 1:] != -100).sum())
        total, counted, reached = total + loss.item() * count, counted + count, end
        if end == ids.shape[1]:
            break
    got = measure_loss(model, words, held, LossOptions(window=length, stride=stride))
    assert got.details["tokens"] == counted == ids.shape[1] - 1
    assert got.figures["nats_per_token"].value == pytest.approx(total / counted, rel=1e-5)
    assert "stride of 10" in got.figures["perplexity"].protocol
    more = measure_loss(model, words, held, LossOptions(window=length))
    assert more.details["window_tokens"] != got.details["window_tokens"]


PAGES = [
    ' = Robert = \n \n He had a guest @-@ starring role ( in " The Bill " ) in 2 @,@ 000 . \n' * 9,
    " = = Other 's = = \n \n It was 3 @.@ 5 ° ; he said : no ! [ 1 ] { x } N 's \n",
]


@pytest.fixture
def wikitext_folder(tmp_path):
    (tmp_path / "wikitext").mkdir()
    lines = [json.dumps({"page": page}, ensure_ascii=False) for page in PAGES]
    (tmp_path / "wikitext" / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_wikitext_equals_lm_evals_own_figure(shared, wikitext_folder):
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer

    assert [detokenise(page) for page in PAGES] == [
        wikitext_detokenizer({"page": p}) for p in PAGES
    ]
    model, tokenizer = resprout.load(shared / "models" / "stories260K")
    got = measure_loss(
        model, tokenizer, read_wikitext(tokenizer, wikitext_folder), LossOptions(window=128)
    )
    task = {
        "task": "wikitext", "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {"test": str(wikitext_folder / "wikitext" / "test.jsonl")},
            "cache_dir": str(wikitext_folder / "cache"),
        },
        "training_split": None, "validation_split": None,
    }  # fmt: skip
    theirs = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, max_length=128),
        tasks=[{"group": "lab", "task": [task]}],
        bootstrap_iters=0,
    )["results"]["wikitext"]
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert got.figures[name].value == pytest.approx(theirs[f"{name},none"], rel=1e-6)
        assert got.figures[name].items == 2
    assert "as lm-eval defines it" in got.figures["word_perplexity"].protocol


def test_bf16_is_taken_only_below_the_interval(model, words, monkeypatch):
    held = of_texts(["def function(x): return x + 1\n" * 60], words)
    options = LossOptions(window=8)
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: True)
    seconds = {None: 60.0, torch.bfloat16: 20.0}
    timed = precision._timed

    def told(model, tokens, windows, size, autocast):
        nats, _ = timed(model, tokens, windows, size, autocast)
        return nats + shift * (autocast is not None), seconds[autocast]

    monkeypatch.setattr(precision, "_timed", told)
    shift = 0.0
    found = measure_loss(model, words, held, options)
    choice = found.details["precision"]
    assert choice["precision"] == "bf16" and choice["bound"] < choice["half_width"]
    assert "bf16 (faster" in found.figures["perplexity"].protocol
    plain = measure_loss(model, words, held, LossOptions(window=8, precision="fp32"))
    low, high = plain.figures["nats_per_token"].ci95
    assert low < found.figures["nats_per_token"].value < high
    shift = 8 * (high - low)  # nats per window of 8
    choice = measure_loss(model, words, held, options).details["precision"]
    assert choice["precision"] == "fp32" and "interval" in choice["reason"]
    shift, seconds[torch.bfloat16] = 0.0, 70.0
    choice = measure_loss(model, words, held, options).details["precision"]
    assert choice["precision"] == "fp32" and "faster" in choice["reason"]
    seconds[None] = 0.5
    choice = measure_loss(model, words, held, options).details["precision"]
    assert choice["precision"] == "fp32" and "all windows take" in choice["reason"]


def test_one_window_has_no_interval(model, words):
    found = measure_loss(model, words, of_texts(["return x"], words)).figures["nats_per_token"]
    assert found.items == 1 and found.ci95 is None and "one item" in found.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 0}, "window: got 0, allowed is a whole number from 1"),
        ({"window": 200}, "window: got 200, the model has 128 positions"),
        ({"window": 8, "stride": 9}, "stride: got 9, allowed is 1 to the window's 8 tokens"),
        ({"stride": 0}, "stride: got 0, allowed is a whole number from 1"),
        ({"stride": 129}, "stride: got 129"),
        ({"batch_windows": 0}, "batch_windows: got 0"),
        ({"precision": "fp64"}, "precision: got 'fp64', allowed are auto, fp32, bf16"),
    ],
)
def test_options_that_make_no_sense(model, words, options, said):
    with pytest.raises(ValueError, match=said):
        measure_loss(model, words, of_texts(["return x"], words), LossOptions(**options))


def test_held_out_text_that_cannot_be_measured(model, tokens, words, tmp_path, wikitext_folder):
    with pytest.raises(ValueError, match="got none; text needs"):
        of_texts(["x"], None)
    for nothing in ([], [""]):
        with pytest.raises(ValueError, match="holds no text"):
            of_texts(nothing, words)
    with pytest.raises(ValueError, match=r"^data: got 'stdlob'.*did you mean 'stdlib'"):
        read_held_out("stdlob", words)
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(ValueError, match=r"^data: .*document of at least 50 characters"):
        read_held_out(tmp_path / "short.txt", words)
    with pytest.raises(ValueError, match=r"held_out: got 1\.5"):
        read_held_out("stdlib", words, share=1.5)
    with pytest.raises(ValueError, match=r"held_out: got 0\.5, not allowed with the prepared"):
        read_held_out(tokens.path, words, share=0.5)
    few = build(configuration("gpt-neox-nano", vocab_size=40), seed=0)
    with pytest.raises(ValueError, match=r"ids up to .* the model knows those up to 39"):
        measure_loss(few, words, of_texts(["return x"], words))
    empty = HeldOut([np.array([3])], np.array([1]), None, None, "one")
    with pytest.raises(ValueError, match="'one' has 1 tokens, needs 2"):
        measure_loss(model, words, empty)
    with pytest.raises(ValueError, match="there is no file"):
        read_wikitext(words, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="stride: not allowed with 'wikitext2'"):
        measure_loss(model, words, read_wikitext(words, wikitext_folder), LossOptions(stride=4))
    file = wikitext_folder / "wikitext" / "test.jsonl"
    for text, said in (
        ('{"page": "a"}\n{"page": \n', r"line 2, column 10: not JSON"),
        ('{"text": "a"}\n', "line 1: column 'page' is missing"),
        ('{"page": 3}\n', "line 1: column 'page' is not text"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_wikitext(words, wikitext_folder)
