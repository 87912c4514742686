"""Generated text: figures against slow definitions, batches against single texts."""

import json
import math
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import resprout
from resprout.data.tokenizer import for_transformers, train_bpe
from resprout.measure.text import (
    FIVE,
    TWELVE,
    Reference,
    TextOptions,
    check_lengths,
    distinct_n,
    generate_texts,
    measure_text,
    prompt_set,
    read_prompts,
    repetition_n,
)
from resprout.measure.text.code import code_parses
from resprout.measure.text.drawing import draw, uniforms_of
from resprout.measure.text.figures import count_figure, distinct_figure, mean_figure
from resprout.measure.text.lengths import encode
from resprout.measure.text.prompts import Prompt, named_prompts
from resprout.measure.text.reference import same_tokens, score
from resprout.measure.text.repetition import (
    compression_ratio,
    distinct_without_each,
    is_looping,
    longest_run,
    z_function,
)
from resprout.measure.text.writing import Text, write
from resprout.models.sizes import build, configuration

SHORT = {"a": "def function", "b": "return x * 2 + 1\n", "c": "x"}


@pytest.fixture(scope="module")
def words(tokens):
    return for_transformers(tokens.tokenizer())


def nano(family):
    return build(configuration(f"{family}-nano", vocab_size=300), seed=0).eval()


@pytest.fixture(scope="module")
def model():
    return nano("gpt-neox")


@pytest.fixture
def stories(shared):
    return resprout.load(str(shared / "models" / "stories260K"))


# Repetition

few = st.lists(st.integers(0, 2), max_size=40)


def test_distinct_and_repetition_by_hand():
    loop, plain = [7, 8, 7, 8, 7, 8], [1, 2, 3, 4, 5, 6]
    assert distinct_n([loop], 1) == pytest.approx(2 / 6)
    assert distinct_n([loop], 2) == pytest.approx(2 / 5)
    assert distinct_n([loop, plain], 2) == pytest.approx(7 / 10)
    assert repetition_n([loop], 3) == pytest.approx(1 - 2 / 4)
    assert repetition_n([plain], 3) == 0
    assert repetition_n([loop, plain], 3) == pytest.approx(0.25)
    assert distinct_n([[1]], 2) is None
    assert repetition_n([[1, 2]], 3) is None


@given(few, st.integers(1, 4))
def test_repetition_counts_what_stood_there_before(ids, n):
    grams = ["".join(map(str, ids[i : i + n])) for i in range(len(ids) - n + 1)]
    seen = sum(gram in grams[:i] for i, gram in enumerate(grams))
    assert repetition_n([ids], n) == (pytest.approx(seen / len(grams)) if grams else None)


@given(st.lists(st.lists(few, min_size=1, max_size=3), min_size=2, max_size=4), st.integers(1, 3))
def test_distinct_without_each_is_distinct_without_it(groups, n):
    expected = []
    for left in range(len(groups)):
        rest = [ids for i, texts in enumerate(groups) if i != left for ids in texts]
        if distinct_n(groups[left], n) is not None and distinct_n(rest, n) is not None:
            expected.append(distinct_n(rest, n))
    assert distinct_without_each(groups, n) == pytest.approx(expected)


@given(few)
def test_the_z_function_is_a_common_prefix(ids):
    def common(i):
        return next((k for k in range(len(ids) - i) if ids[k] != ids[i + k]), len(ids) - i)

    assert z_function(ids) == [common(i) for i in range(len(ids))]


def runs(ids):
    """Every stretch that repeats one period, whole to the letter: (tokens, period, end)."""
    for p in range(1, len(ids) // 2 + 1):
        for start in range(len(ids) - 2 * p + 1):
            end = start + p
            while end < len(ids) and ids[end] == ids[end - p]:
                end += 1
            if end - start >= 2 * p:
                yield end - start, p, end


@given(few)
def test_the_longest_run_is_the_longest_of_all(ids):
    expected = min(((-t, p) for t, p, _ in runs(ids)), default=(0, 0))
    assert longest_run(ids) == (-expected[0], expected[1])


@given(few, st.integers(2, 12), st.integers(2, 5))
def test_looping_is_a_run_that_ends_the_text(ids, tokens, repeats):
    expected = any(end == len(ids) and t >= max(tokens, repeats * p) for t, p, end in runs(ids))
    assert is_looping(ids, tokens, repeats) == expected


def test_runs_by_hand():
    assert longest_run([*"abcabcabcx"]) == (9, 3)
    assert longest_run([*"abcabcabx"]) == (8, 3)
    assert longest_run([]) == longest_run([1]) == longest_run([1, 2, 1]) == (0, 0)
    assert longest_run([5, 5]) == (2, 1)
    assert is_looping([9, 9, 9, *[1, 2, 3, 4] * 4])
    assert not is_looping([*[1, 2, 3, 4] * 4, 9])  # it went on
    assert not is_looping([1, 2, 3] * 4)  # too short to be sure
    assert not is_looping([*range(8)] * 2)  # twice is no loop


def test_compression():
    prose = (
        "The old lighthouse had been dark for years, until one evening in October a light was seen "
        "again by the fishermen coming home. Nobody in the village knew who had climbed the stairs."
    )
    assert compression_ratio("") is None
    assert compression_ratio("a") < 0.2  # which is why short texts are not judged by it
    assert 1.1 < compression_ratio(prose) < 2
    assert compression_ratio("S." * 200) > 15
    assert compression_ratio("ü" * 10) == compression_ratio("ü" * 10 + "")
    assert compression_ratio("\ud800") > 0


# Code


@pytest.mark.parametrize(
    ("prompt", "text", "ended", "expected"),
    [
        ("def f(x):\n", "    return x\n", False, True),
        ("def f(x):\n", "    return x\nprint(f(", False, True),  # stopped within a line
        ("def f(x):\n", "    return x", False, False),  # no whole line
        ("def f(x):\n", "    return x", True, True),
        ("def f(x):\n    return", " x\n", False, True),  # finishes the prompt's line
        ("def f(x):\n", "\n\n   \n", True, False),  # nothing of its own
        ("def f(x):\n", "return x\n", True, False),
        ("def f(x):\n", "    with_k_k_k = 0;\n    with_k_k_k = 0;\n", True, True),
        ("    def m(self):\n", "        return 1\n", True, True),  # inside a class
        ("    def m(self):\n", "        return 1\n\nclass B:\n    pass\n", True, True),
        ('    """Return the ', 'sum."""\n    return 1\n', True, True),
        ("x = ", "'\\d' is 'a'\n", True, True),  # which Python warns about
        ("x = ", "1\0\n", True, False),
        ("x = ", "\ud800\n", True, False),
        ("x = ", "(" * 5000 + ")" * 5000 + "\n", True, False),
        ("x = ", "-" * 50_000 + "1\n", True, False),
        ("x = ", "9" * 10_000 + "\n", True, False),  # more digits than Python reads
        ("", "import os\nos.abort()\n", True, True),  # parsed, not run
    ],
)  # fmt: skip
def test_code_that_parses(prompt, text, ended, expected):
    assert code_parses(prompt, text, ended) is expected


@given(st.text(), st.text(), st.booleans())
def test_any_text_is_code_or_not(prompt, text, ended):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code_parses(prompt, text, ended) in (True, False)


# Prompts


def test_our_own_prompts():
    twelve, five = named_prompts(TWELVE), named_prompts(FIVE)
    assert (len(twelve), len(five)) == (12, 5)
    assert len({prompt.text for prompt in twelve}) == 12
    assert list(TWELVE) == [
        "knowledge", "reasoning", "code", "science", "mathematics", "writing", "instruction",
        "coherence",
    ]  # fmt: skip
    assert [prompt.name for prompt in twelve[:3]] == ["knowledge", "knowledge_2", "reasoning"]
    assert prompt_set("five") is FIVE
    with pytest.raises(ValueError, match=r"'twelv'.*did you mean 'twelve'"):
        prompt_set("twelv")


@pytest.mark.parametrize("name", ["p.json", "p.yaml", "p.yml"])
def test_a_users_prompts(tmp_path, name):
    values = {"code": ["def f(", "class "], "prose": "Once"}
    path = tmp_path / name
    path.write_text(json.dumps(values))  # which is YAML too
    assert read_prompts(path) == values
    names = [prompt.name for prompt in named_prompts(read_prompts(path))]
    assert names == ["code", "code_2", "prose"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "{}", "got .txt, allowed is .json or .yaml"),
        ("p.json", '{"a": "x",\n "b" 1}', "line 2, column 6: Expecting ':' delimiter"),
        ("p.json", '{"a": "x", "a": "y"}', "the category 'a' stands there twice"),
        ("p.json", '["a"]', "got a list, allowed is category -> prompt or prompts"),
        ("p.json", "{}", "got none, allowed is one prompt or more"),
        ("p.json", '{"a": 3}', "'a': got the number 3, allowed is a text or a list of texts"),
        ("p.json", '{"a": ["x", null]}', "'a_2': got nothing, allowed is a text"),
        ("p.json", '{"a": []}', "'a': got an empty list"),
        ("p.json", '{"a": " "}', "'a': got ' ', allowed is a text with words"),
        ("p.json", '{"a": ["x", "y"], "a_2": "z"}', "two prompts are named 'a_2'"),
        ("p.yaml", "a: 'x\nb: y\n", "line 3, column 1: found unexpected end of stream"),
        ("p.yaml", "a: x\na: y\n", "the category 'a' stands there twice"),
        ("p.yaml", "a: yes\n", "'a': got true or false"),
        ("p.yaml", "1: x\n", "got the category 1, allowed is a word"),
        ("p.yaml", "", "got nothing"),
        ("p.yaml", "a: \x07\n", "not to be read"),
        ("p.json", "[" * 100_000, "not to be read"),
        ("missing.json", None, "cannot be read (No such file or directory)"),
        ("p.json", b"\xff", "not UTF-8 text (byte 0)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_of_prompts(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:
        read_prompts(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# Drawing


@pytest.mark.parametrize(("temperature", "top_k"), [(0.7, 0), (1.0, 3), (2.0, 5), (0.3, 7)])
def test_draws_have_the_distribution_of_the_softmax(temperature, top_k):
    logits = torch.tensor([0.1, 2.0, -1.0, 0.5, 1.5, -0.2])
    N = 20_000
    uniforms = torch.from_numpy(np.random.default_rng(1).random(N))
    drawn = draw(logits.expand(N, -1), uniforms, temperature, top_k)
    counts = np.bincount(drawn.numpy(), minlength=6)
    expected = np.exp(logits.double().numpy() / temperature)
    if 0 < top_k < 6:
        expected[np.argsort(expected)[:-top_k]] = 0
    expected = expected / expected.sum() * N
    assert (counts[expected == 0] == 0).all()
    there = expected > 0
    assert scipy.stats.chisquare(counts[there], expected[there]).pvalue > 0.001


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 3.0, -torch.inf, 3.0, -torch.inf]])
    for uniform in (0.0, 0.4999, 0.5001, 1 - 2**-53):
        token = draw(logits, torch.tensor([uniform], dtype=torch.float64), 0.7, 0)
        assert token.tolist() == [1 if uniform < 0.5 else 3]


def test_a_texts_random_numbers_are_its_own():
    ten, five = uniforms_of("a", 3, 10), uniforms_of("a", 3, 5)
    assert torch.equal(ten[:5], five)  # a longer text begins like a shorter one
    assert not torch.equal(five, uniforms_of("b", 3, 5))
    assert not torch.equal(five, uniforms_of("a", 4, 5))
    assert bool(((ten >= 0) & (ten < 1)).all())


def test_written_texts_have_the_models_own_distribution(words):
    tiny = nano("gpt2")
    encoded = encode(tiny, words, [Prompt("a", "a", "return")])
    with torch.inference_mode():
        tiny.lm_head.weight *= 30  # far from uniform
        logits = tiny(torch.tensor([encoded[0][1]])).logits[0, -1]
    likely = logits.topk(4).indices.tolist()
    expected = logits.double()[likely].softmax(0).numpy() * 2000
    texts, _ = write(tiny, words, encoded, 1, 1.0, 4, range(2000), batch_texts=500)
    first = [words.eos_token_id if text.ended else text.ids[0] for text in texts]
    counts = [first.count(token) for token in likely]
    assert sum(counts) == 2000
    assert scipy.stats.chisquare(counts, expected).pvalue > 0.001


# Writing


def texts_of(model, tokenizer, prompts, temperature, batch_texts, new_tokens=24, seeds=(0,)):
    encoded = encode(model, tokenizer, named_prompts(prompts))
    texts, _ = write(
        model, tokenizer, encoded, new_tokens, temperature, 40, seeds, batch_texts=batch_texts
    )
    return [(text.prompt.name, text.seed, text.ids, text.text, text.ended) for text in texts]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("family", ["biogpt", "gpt-neox", "gpt2"])
def test_a_batch_writes_what_each_prompt_alone_gets(family, temperature, words):
    model = nano(family)
    together = texts_of(model, words, SHORT, temperature, 3)
    assert together == texts_of(model, words, SHORT, temperature, 1)
    backwards = dict(reversed(SHORT.items()))
    assert together == texts_of(model, words, backwards, temperature, 2)[::-1]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_real_models_batch_writes_what_each_prompt_alone_gets(stories, temperature):
    model, tokenizer = stories
    prompts = {"long": "One day, Lily and her mom went to the park to", "short": "Tom", "b": "The"}
    together = texts_of(model, tokenizer, prompts, temperature, 3, 60)
    assert together == texts_of(model, tokenizer, prompts, temperature, 1, 60)
    assert "," in together[0][3] and together[0][3].startswith(" ")  # the space is kept


def test_greedy_texts_are_those_of_transformers(stories):
    model, tokenizer = stories
    ids = tokenizer("Once upon a time", return_tensors="pt").input_ids
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False, pad_token_id=2
    )[0, ids.shape[1] :]
    [(_, _, got, text, ended)] = texts_of(model, tokenizer, {"a": "Once upon a time"}, 0, 1, 40)
    assert got == expected.tolist()
    assert not ended
    assert text.startswith(", there was a little girl")


def test_nothing_is_changed_by_writing(words, model):
    words.pad_token, words.padding_side = None, "right"
    settings = model.generation_config
    settings.top_p, settings.repetition_penalty = 0.01, 5.0  # would change every text
    before, state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    try:
        with_own = texts_of(model, words, SHORT, 0.9, 2)
    finally:
        settings.top_p, settings.repetition_penalty = None, None
    assert model.generation_config is settings
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == state
    assert (words.pad_token, words.padding_side) == (None, "right")
    words.pad_token = words.eos_token
    assert with_own == texts_of(model, words, SHORT, 0.9, 2)  # nor did they change the texts


def test_a_text_ends_where_the_model_ends_it(words, model):
    plain = texts_of(model, words, SHORT, 0.9, 3)
    end = plain[0][2][5]  # let this one be an end of text as well
    own = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [0, end]
    try:
        encoded = encode(model, words, named_prompts(SHORT))
        texts, [batch] = write(model, words, encoded, 24, 0.9, 40)
    finally:
        model.generation_config.eos_token_id = own
    for (_, _, ids, _, _), text in zip(plain, texts, strict=True):
        expected = ids[: ids.index(end)] if end in ids else ids
        assert text.ids == expected
        assert text.ended == (end in ids)
    assert texts[0].ended
    assert batch.tokens == sum(len(text.ids) + text.ended for text in texts)


def test_seeds_give_texts_of_their_own(words, model):
    several = texts_of(model, words, SHORT, 0.9, 4, seeds=(0, 7))
    assert several[:3] == texts_of(model, words, SHORT, 0.9, 4)
    assert several[3:] == texts_of(model, words, SHORT, 0.9, 4, seeds=(7,))
    assert [text for *_, text, _ in several[:3]] != [text for *_, text, _ in several[3:]]


def test_a_model_that_cannot_write_is_a_failure(words):
    broken = nano("gpt-neox")
    with torch.no_grad():
        broken.lm_head.weight[5] = float("nan")
    for temperature in (0, 0.7):
        with pytest.raises(FloatingPointError, match="not a number"):
            generate_texts(broken, words, SHORT, 4, temperature, 40, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_gpu_writes_what_a_cpu_writes(words, temperature):
    model = nano("gpt-neox")
    expected = texts_of(model, words, SHORT, temperature, 3)
    state = torch.cuda.get_rng_state()
    assert texts_of(model.to("cuda"), words, SHORT, temperature, 3) == expected
    assert torch.equal(state, torch.cuda.get_rng_state())


# Lengths


def test_lengths_are_checked_by_name(words, model):
    T = len(words("x = 1\n" * 20).input_ids)
    long = {"short": "x", "long": "x = 1\n" * 20}
    assert check_lengths(model, words, long, 128 - T) == 128 - T
    assert check_lengths(model, words, long) == min(120, 128 - T)
    assert check_lengths(model, words, {"short": "x"}) == 120
    needs = rf"prompts: 'long' needs {T + 129 - T} positions .* up to the model's 128"
    with pytest.raises(ValueError, match=needs):
        check_lengths(model, words, long, 129 - T)
    with pytest.raises(ValueError, match=r"'long' needs \d+ positions by itself.* 127"):
        check_lengths(model, words, {"long": "x = 1\n" * 100})
    with pytest.raises(ValueError, match=r"'long' needs .* up to the model's 128"):
        generate_texts(model, words, {"long": "x = 1\n" * 100}, 5, 0, 0, 0)
    with pytest.raises(ValueError, match="'empty': got ''"):
        check_lengths(model, words, {"empty": ""})


def test_a_text_fills_the_context_to_its_end(words):
    for family in ("biogpt", "gpt2"):
        model = nano(family)
        T = len(words("x = 1\n" * 20).input_ids)
        prompts = {"long": "x = 1\n" * 20, "short": "x"}
        found = texts_of(model, words, prompts, 0.9, 2, new_tokens=128 - T)
        assert found == texts_of(model, words, prompts, 0.9, 1, new_tokens=128 - T)


def test_anothers_tokenizer_is_refused(words):
    small = build(configuration("gpt2-nano", vocab_size=60), seed=0)
    with pytest.raises(ValueError, match="knows those up to 59: this is not its tokenizer"):
        check_lengths(small, words, {"a": "def function"})


# Reference


def slow_nats(model, ids, start):
    with torch.inference_mode():
        log = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return -sum(float(log[at - 1, ids[at]]) for at in range(start, len(ids)))


def texts_for(words, *pairs):
    return [
        Text(
            Prompt("a", "a", prompt),
            0,
            words(prompt).input_ids,
            words(text, add_special_tokens=False).input_ids,
            text,
            False,
        )
        for prompt, text in pairs
    ]


@pytest.mark.parametrize("family", ["biogpt", "gpt-neox", "gpt2"])
def test_the_references_loss_is_a_slow_loops(words, family):
    model = nano(family)
    pairs = [("def f", "unction_1(x):"), ("x", " y"), ("a", ""), ("b" * 30, "return " * 30)]
    texts = texts_for(words, *pairs)
    assert len(texts[3].prompt_ids) + len(texts[3].ids) < 128
    for text, got in zip(texts, score(Reference(model, words, "r"), words, texts), strict=True):
        assert got.tokens == len(text.ids)
        expected = slow_nats(model, text.prompt_ids + text.ids, len(text.prompt_ids))
        assert got.nats == pytest.approx(expected, rel=1e-4)


def test_another_tokenizers_text_is_tokenised_anew(words, model, documents):
    other = for_transformers(train_bpe((d.text for d in documents), 280))
    assert not same_tokens(words, other)
    assert same_tokens(words, for_transformers(words.backend_tokenizer))
    [text] = texts_for(other, ("def fun", "ction_1(x):\n    return"))
    [got] = score(Reference(model, words, "r"), other, [text])
    alone, whole = words("def fun").input_ids, words("def function_1(x):\n    return").input_ids
    start = next((i for i, pair in enumerate(zip(alone, whole, strict=False))
                  if pair[0] != pair[1]), len(alone))  # fmt: skip
    start = max(start, 1)
    assert got.tokens == len(whole) - start
    assert got.nats == pytest.approx(slow_nats(model, whole, start), rel=1e-4)


def test_of_a_text_beyond_the_references_context_the_end_is_scored(words, model):
    texts = texts_for(words, ("x = 1\n" * 40, " return 2"), ("x", "y = 3\n" * 60))
    got = score(Reference(model, words, "r"), words, texts)
    assert got[0].tokens == len(texts[0].ids)
    assert got[1].tokens == 128
    ids = (texts[0].prompt_ids + texts[0].ids)[-129:]
    assert got[0].nats == pytest.approx(slow_nats(model, ids, 129 - len(texts[0].ids)), rel=1e-4)
    broken = nano("gpt-neox")
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="reference 'r'"):
        score(Reference(broken, words, "r"), words, texts)


# Figures


def test_the_mean_over_prompts_is_students():
    values = [0.1, 0.4, 0.3, 0.25, 0.35]
    found = mean_figure(values, list("abcde"), "share", "p", 1.0, "none")
    assert found.value == pytest.approx(np.mean(values))
    expected = scipy.stats.t.interval(0.95, 4, np.mean(values), scipy.stats.sem(values))
    assert found.ci95 == pytest.approx(expected)
    # Two texts of one prompt that are the same say no more than one.
    twice = mean_figure(values * 2, list("abcde") * 2, "share", "p", 1.0, "none")
    assert twice.ci95 == pytest.approx(found.ci95)
    assert mean_figure([None, 0.5], ["a", "b"], "share", "p", 1.0, "none").ci95 is None
    assert mean_figure([None], ["a"], "share", "p", 1.0, "none").reason == "none"


def test_none_of_twelve_is_not_none_at_all():
    found = count_figure([False] * 12, list("abcdefghijkl"), "p", 1.0, "none")
    assert (found.value, found.items) == (0, 12)
    expected = scipy.stats.binomtest(0, 12).proportion_ci(method="wilson")
    assert found.ci95 == pytest.approx((expected.low, expected.high))
    same = count_figure([False] * 24, list("abcdefghijkl") * 2, "p", 1.0, "none")
    assert same.ci95 == found.ci95
    draws = count_figure([False] * 4, ["a"] * 4, "p", 1.0, "none")  # of one prompt
    expected = scipy.stats.binomtest(0, 4).proportion_ci(method="wilson")
    assert draws.ci95 == pytest.approx((expected.low, expected.high))
    assert count_figure([True, None], ["a", "b"], "p", 1.0, "none").ci95 is None
    differ = count_figure([True, False, False, False], [*"abab"], "p", 1.0, "none")
    assert differ.ci95 == (0, 1)


def test_the_interval_of_distinct_n_covers():
    """The jackknife's interval against the mean over many sets of texts of the same kind."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(1, 200)
    shares /= shares.sum()

    def texts():
        return generator.choice(len(shares), (12, 60), p=shares).tolist()

    truth = np.mean([distinct_n(texts(), 2) for _ in range(200)])
    names = [str(i) for i in range(12)]
    found = [distinct_figure(texts(), names, 2, "p", 0.0).ci95 for _ in range(200)]
    hits = sum(low <= truth <= high for low, high in found)
    assert hits / 200 >= 0.93


# The measure


def test_the_measure_whole(words, model):
    options = TextOptions(
        {"code": ["def function", "return"], "prose": "x ="}, 12, 0.9, 40, seeds=(0, 1)
    )
    reference = Reference(nano("gpt2"), words, "another")
    first = measure_text(model, words, options, reference)
    again = measure_text(model, words, options, reference)
    assert first.details == again.details
    json.dumps(first.as_json(), allow_nan=False)
    assert set(first.figures) == {
        "distinct_1", "distinct_2", "distinct_3", "repetition_1", "repetition_2", "repetition_3",
        "repetition_4", "longest_run", "looping_share", "compression_ratio", "code_parses_share",
        "reference_nats_per_token", "reference_perplexity", "degraded_share", "collapsed_share",
        "tokens_per_text", "tokens_per_second",
    }  # fmt: skip
    samples = first.details["samples"]
    assert [(s["name"], s["seed"]) for s in samples] == [
        ("code", 0), ("code_2", 0), ("prose", 0), ("code", 1), ("code_2", 1), ("prose", 1),
    ]  # fmt: skip
    assert [s["code_parses"] is None for s in samples] == [False, False, True] * 2
    assert first.figures["code_parses_share"].items == 4
    nats = sum(s["reference_nats"] for s in samples) / sum(s["reference_tokens"] for s in samples)
    assert first.figures["reference_nats_per_token"].value == pytest.approx(nats)
    perplexity = first.figures["reference_perplexity"]
    assert perplexity.value == pytest.approx(math.exp(nats))
    low, high = perplexity.ci95
    assert low < perplexity.value < high
    for name in ("distinct_1", "distinct_2", "distinct_3", "repetition_3"):
        assert first.figures[name].value == pytest.approx(first.details[name])
    assert first.figures["tokens_per_second"].value > 0
    for figure in first.figures.values():
        assert figure.value is not None or figure.reason


def test_without_a_reference_its_figures_are_absent_with_the_reason(words, model):
    found = measure_text(model, words, TextOptions({"a": "x"}, 4))
    for name in ("reference_nats_per_token", "reference_perplexity"):
        assert found.figures[name].value is None
        assert found.figures[name].reason == "no reference was given"
    assert found.figures["code_parses_share"].reason == "no prompt of the category code"
    assert "short ones compress badly" in found.figures["compression_ratio"].reason
    assert found.figures["repetition_4"].ci95 is None
    assert "not seen" in found.details["verdicts"]["basis"]


def test_texts_are_reproducible_and_leave_the_random_state(model, words):
    prompts = {"a": "def function", "b": "return"}
    before = torch.get_rng_state()
    first = generate_texts(model, words, prompts, 6, 0.7, 40, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert first == generate_texts(model, words, prompts, 6, 0.7, 40, seed=3)
    other = generate_texts(model, words, prompts, 6, 0.7, 40, seed=4)
    assert first["samples"] != other["samples"]
    greedy = generate_texts(model, words, prompts, 6, 0.0, 40, seed=3)
    assert greedy["samples"] == generate_texts(model, words, prompts, 6, 0.0, 0, 9)["samples"]
    assert [sample["prompt"] for sample in first["samples"]] == list(prompts.values())
    assert (first["new_tokens"], first["temperature"], first["top_k"], first["seed"]) == (
        6, 0.7, 40, 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"new_tokens": 0}, "new_tokens: got 0, allowed is 1 or more"),
        ({"temperature": -1}, "temperature: got -1, allowed is 0"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"temperature": 1e-38}, "temperature: got 1e-38, allowed is 0 (greedy) or 1e-06 and more"),
        ({"temperature": "x"}, "temperature: got x, allowed is 0"),
        ({"new_tokens": "4"}, "new_tokens: got 4, allowed is 1 or more"),
        ({"seeds": 3}, "seeds: got 3, allowed are several"),
        ({"seeds": ([],)}, "seeds: got ([],), allowed is each 0 to 2^63 - 1"),
        ({"top_k": -1}, "top_k: got -1"),
        ({"seeds": ()}, "seeds: got (), allowed is one or more"),
        ({"seeds": (1, 1)}, "seeds: got (1, 1), allowed is one or more, each once"),
        ({"seeds": (-1,)}, "seeds: got (-1,), allowed is each 0 to 2^63 - 1"),
        ({"seeds": (0, 1), "temperature": 0}, "allowed is one with temperature 0"),
        ({"batch_texts": 0}, "batch_texts: got 0"),
        ({"prompts": {}}, "prompts: got none"),
        ({"prompts": {"a": "\ud800"}}, "prompts: 'a': got '\\ud800', which holds half a surrogate"),
        ({"prompts": {"\ud800": "a"}}, "got the category '\\ud800', which holds half a surrogate"),
    ],
)
def test_options_out_of_range(values, message):
    with pytest.raises(ValueError) as error:
        TextOptions(**values)
    assert message in str(error.value)


def test_an_uncut_subject_measured_otherwise_is_refused(words, model):
    reference = Reference(model, words, "r")
    options = TextOptions({"a": "x"}, 4)
    uncut = measure_text(model, words, options, reference)
    with pytest.raises(ValueError, match="reference: got none"):
        measure_text(model, words, options, None, uncut)
    with pytest.raises(ValueError, match="under the reference 'r', allowed is 'other'"):
        measure_text(model, words, options, Reference(model, words, "other"), uncut)
    with pytest.raises(ValueError, match=r"temperature 0.7, allowed is 0"):
        measure_text(model, words, TextOptions({"a": "x"}, 4, 0.0), reference, uncut)
    # The same subject again: its texts are as probable as themselves. A record will do as well.
    again = measure_text(model, words, options, reference, json.loads(json.dumps(uncut.as_json())))
    assert again.details["samples"][0]["perplexity_ratio"] == pytest.approx(1)
