"""Speed: the right tokens, decoded the right number of times, and figures that follow from them."""

import copy
import dataclasses
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import resprout
from resprout.measure.speed import SpeedOptions, Workload, check_speed, measure_speed
from resprout.measure.speed.decoding import Decoder, Run, undisturbed
from resprout.measure.speed.figures import PER_RUN, ratio_figures, workload_figures
from resprout.measure.speed.percentiles import median_step_interval, step_percentiles
from resprout.measure.speed.size import flops_figure, model_bytes
from resprout.measure.speed.timing import Timed, in_turn
from resprout.measure.speed.workloads import prompt, special_ids
from resprout.measure.statistics import median_interval
from resprout.models.cost import count_cost
from resprout.models.description import skeleton
from resprout.models.sizes import build, configuration

FAMILIES = ("llama-nano", "biogpt-nano", "gpt-neox-nano", "gpt2-nano")
SMALL = SpeedOptions(batches=(1, 2), prompt_tokens=(6,), new_tokens=(4,), repeats=5, warmup=1)


def nano(name, seed=0):
    return build(configuration(name, vocab_size=300), seed=seed).eval()


def generated(model, ids, mask, new):
    mask = torch.ones_like(ids) if mask is None else mask
    model.generation_config.eos_token_id = None  # it must not end early, as here
    found = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=new, min_new_tokens=new,
        pad_token_id=0,
    )  # fmt: skip
    return found[:, ids.shape[1] :]


@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_generate(name, batch, unequal):
    model = nano(name)
    workload = Workload(batch, 20, 12, unequal)
    ids, mask = prompt(workload, model.config, seed=3)
    with undisturbed([model]):
        run = Decoder(model).run(ids, 12, mask)
    assert run.tokens.shape == (batch, 12) and len(run.step_seconds) == 11
    assert torch.equal(run.tokens, generated(model, ids, mask, 12))
    if batch > 1:
        assert len({tuple(row.tolist()) for row in run.tokens}) > 1


def test_tokens_of_a_trained_model_and_of_its_cut_ones(shared):
    model, _ = resprout.load(shared / "models" / "stories260K")
    ids, mask = prompt(Workload(4, 16, 20, unequal=True), model.config, seed=0)
    for method in (None, "glu-maw", "heads-random"):
        smaller = copy.deepcopy(model)
        if method:
            resprout.prune(smaller, method, 0.5, cut="remove")
        with undisturbed([smaller]):
            run = Decoder(smaller).run(ids, 20, mask)
        assert torch.equal(run.tokens, generated(smaller, ids, mask, 20)), method


def test_uneven_heads_decode():
    model = nano("gpt-neox-nano")
    resprout.prune(model, "heads-random", 0.4, cut="remove", scope="global")
    ids, _ = prompt(Workload(2, 8, 6), model.config, seed=0)
    with undisturbed([model]):
        run = Decoder(model).run(ids, 6)
    assert torch.equal(run.tokens, generated(model, ids, None, 6))


@pytest.fixture
def uncompiled(monkeypatch):
    """torch.compile's way of running (traced whole, static shapes) without its C++ compiler."""
    asked = []
    real = torch.compile

    def compile(function, **options):
        asked.append(options)
        return real(function, fullgraph=options["fullgraph"], dynamic=False, backend="eager")

    monkeypatch.setattr(torch, "compile", compile)
    yield asked
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("name", "unequal"),
    [
        ("llama-nano", False),
        pytest.param("biogpt-nano", True, marks=pytest.mark.slow),
        ("gpt-neox-nano", True),
    ],
)
def test_the_compiled_step_gives_the_same_tokens(name, unequal, uncompiled):
    model = nano(name)
    ids, mask = prompt(Workload(3, 10, 4, unequal), model.config, seed=5)
    with undisturbed([model]):
        decoder = Decoder(model, "compile")
        runs = [decoder.run(ids, 4, mask) for _ in range(2)]  # the second one's cache was in use
        plain = Decoder(model).run(ids, 4, mask)
    assert uncompiled == [{"fullgraph": True, "dynamic": False, "mode": None}]
    for run in runs:
        assert torch.equal(run.tokens, plain.tokens)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # inductor's own
def test_compiled_for_real():
    model = nano("gpt-neox-nano")
    options = dataclasses.replace(SMALL, batches=(2,), compile="compile", repeats=2)
    measured = measure_speed({"a": model}, options)["a"]
    assert not measured.details["failed"]
    figure = measured.figures["batch2/prompt6/new4/time_to_first_token"]
    assert figure.value > 0 and "decode step compiled whole" in figure.protocol
    raw = measured.details["workloads"]["batch2/prompt6/new4"]
    assert raw["first_run_extra_seconds"] > 10 * figure.value / 1e3
    ids, mask = prompt(Workload(2, 6, 4), model.config, seed=options.seed)
    with undisturbed([model]):
        tokens = Decoder(model, "compile").run(ids, 4, mask).tokens
    torch.compiler.reset()
    assert torch.equal(tokens, generated(model, ids, mask, 4))


def test_what_cannot_be_compiled_is_said_and_nothing_else_is_timed(monkeypatch):
    def refuse(function, **options):
        def step(*arguments):
            raise RuntimeError("this step has a graph break\nand a long story")

        return step

    monkeypatch.setattr(torch, "compile", refuse)
    options = dataclasses.replace(SMALL, batches=(1,), compile="compile")
    measured = measure_speed({"a": nano("llama-nano")}, options)["a"]
    reason = "RuntimeError: this step has a graph break"
    assert measured.details["failed"] == {"batch1/prompt6/new4": reason}
    for name in (*PER_RUN, "time_per_token_p99"):
        figure = measured.figures[f"batch1/prompt6/new4/{name}"]
        assert figure.value is None and figure.ci95 is None and figure.reason == reason
    assert measured.figures["model_bytes"].value > 0


def test_what_the_compiler_says_is_kept(monkeypatch):
    def backend(graph, inputs):
        raise OSError("no C++ compiler")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **_: real(f, fullgraph=True, backend=backend))
    options = dataclasses.replace(SMALL, batches=(1,), compile="compile")
    measured = measure_speed({"a": nano("llama-nano")}, options)["a"]
    reason = measured.details["failed"]["batch1/prompt6/new4"]
    assert reason == "BackendCompilerFailed: OSError: no C++ compiler"


def test_figures_of_two_models_in_turn():
    models = {"neox": nano("gpt-neox-nano"), "bio": nano("biogpt-nano")}
    measured = measure_speed(models, SMALL)
    assert list(measured) == ["neox", "bio"]
    works = ["batch1/prompt6/new4", "batch2/prompt6/new4", "batch2/prompt6-unequal/new4"]
    sizes = {"model_bytes", "flops_per_token", "peak_memory_bytes"}
    names = {f"{work}/{name}" for work in works for name in PER_RUN}
    names |= {f"{work}/time_per_token_p{p}" for work in works for p in (95, 99)}
    assert set(measured["neox"].figures) == names | sizes
    ratios = {f"{work}/{name}/ratio" for work in works for name in PER_RUN}
    assert set(measured["bio"].figures) == names | sizes | ratios
    for name in names | ratios:
        figure = measured["bio"].figures[name]
        if name.endswith(("_p95", "_p99")):  # of the slowest steps few runs say too little
            assert figure.ci95 is None and "few runs" in figure.reason and figure.value > 0
            continue
        low, high = figure.ci95
        assert 0 < low <= figure.value <= high and figure.reason is None
        assert figure.items == (15 if "per_token_p" in name and "ratio" not in name else 5)
        assert "random" in figure.protocol or "ratio" in name
    raw = measured["bio"].details["workloads"]["batch2/prompt6-unequal/new4"]
    assert raw["prompt_lengths"] == [6, 3] and raw["padding_share"] == 0.25
    assert raw["real_new_tokens_per_run"] == 8
    assert [len(raw["step_ms"]), len(raw["step_ms"][0])] == [5, 3]
    figures = measured["bio"].figures
    first = raw["time_to_first_token_ms"]
    name = "batch2/prompt6-unequal/new4"
    assert figures[f"{name}/time_to_first_token"].value == pytest.approx(np.median(first), abs=1e-3)
    whole = [a + sum(b) for a, b in zip(first, raw["step_ms"], strict=True)]
    rates = [8 / (ms / 1e3) for ms in whole]
    assert figures[f"{name}/tokens_per_second"].value == pytest.approx(np.median(rates), rel=1e-3)
    rates = [6 / (sum(ms) / 1e3) for ms in raw["step_ms"]]
    rate = figures[f"{name}/decode_tokens_per_second"].value
    assert rate == pytest.approx(np.median(rates), rel=1e-3)
    assert "25% of the prompt is padding" in figures[f"{name}/tokens_per_second"].protocol
    measured["bio"].as_json()


def timed(first, steps):
    tokens = torch.zeros(2, 1 + len(steps[0]), dtype=torch.long)
    return Timed(runs=[Run(f, list(s), tokens) for f, s in zip(first, steps, strict=True)])


def test_figures_of_known_times():
    steps = [[0.01, 0.02, 0.03]] * 4 + [[0.01, 0.02, 0.9]]
    own = timed([0.1, 0.2, 0.3, 0.4, 0.5], steps)
    work, options = Workload(2, 8, 4), SpeedOptions()
    figures = workload_figures(own, work, options, "so")
    value = {name.rpartition("/")[2]: f.value for name, f in figures.items()}
    assert value["time_to_first_token"] == pytest.approx(300)
    assert value["time_per_token_p50"] == pytest.approx(20)
    assert value["tokens_per_second"] == pytest.approx(8 / 0.36)
    assert value["decode_tokens_per_second"] == pytest.approx(6 / 0.06)
    assert value["time_per_token_p99"] == pytest.approx(np.percentile(steps, 99) * 1e3)
    assert figures["batch2/prompt8/new4/time_to_first_token"].ci95 == pytest.approx((100, 500))
    half = timed([0.05, 0.1, 0.15, 0.2, 0.25], steps)
    ratios = ratio_figures(half, own, "whole", work, options)
    first = ratios["batch2/prompt8/new4/time_to_first_token/ratio"]
    assert (first.value, *first.ci95) == pytest.approx((0.5, 0.5, 0.5))  # paired: nothing is left


def test_the_turns(monkeypatch):
    """A B A B within each workload, warm-up before; a failing model is left out of the rest."""
    seen = []
    models = {"a": nano("llama-nano"), "b": nano("llama-nano", seed=1)}
    real = Decoder.run

    def run(self, *arguments):
        name = next(name for name, model in models.items() if model is self.model)
        seen.append(name)
        if name == "b" and seen.count("b") > 4:
            raise MemoryError("out of memory")
        return real(self, *arguments)

    monkeypatch.setattr(Decoder, "run", run)
    options = dataclasses.replace(SMALL, warmup=2, repeats=4)
    with torch.no_grad():
        found = in_turn(models, Workload(1, 6, 2), options)
    assert "".join(seen) == "aabb" + "ababab" + "a"
    assert found["b"].failure == "MemoryError: out of memory" and not found["b"].runs
    assert len(found["a"].runs) == 4


def test_models_are_left_as_they_were():
    model = nano("biogpt-nano").train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, forward = torch.get_rng_state(), model.forward
    measure_speed({"a": model}, dataclasses.replace(SMALL, repeats=1))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert model.forward == forward and "forward" not in vars(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.is_grad_enabled()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_few_repeats_have_no_interval_and_one_token_no_further_ones():
    options = SpeedOptions(batches=(1,), prompt_tokens=(3,), new_tokens=(1, 2), repeats=2, warmup=1)
    figures = measure_speed({"a": nano("llama-nano")}, options)["a"].figures
    figure = figures["batch1/prompt3/new2/time_per_token_p95"]
    assert figure.value > 0 and figure.ci95 is None
    assert figure.reason == "an interval needs 5 repeats or more, got 2"
    absent = figures["batch1/prompt3/new1/decode_tokens_per_second"]
    assert absent.value is None and absent.reason == "one new token: there is no further one"
    assert figures["batch1/prompt3/new1/time_per_token_p99"].value is None
    assert figures["batch1/prompt3/new1/tokens_per_second"].value > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"repeats": 0}, "repeats: got 0, allowed is 1 or more"),
        ({"repeats": True}, "repeats: got True, allowed is 1 or more"),
        ({"warmup": 0}, "warmup: got 0, allowed is 1 or more"),
        ({"batches": ()}, r"batches: got \(\), allowed is a list of whole numbers"),
        ({"batches": None}, "batches: got None"),
        ({"batches": "18"}, "batches: got '18'"),
        ({"new_tokens": (20, -1)}, "new_tokens: got -1, allowed is 1 or more"),
        ({"prompt_tokens": (1.5,)}, "prompt_tokens: got 1.5, allowed is 1 or more"),
        ({"compile": "cuda-graph"}, "compile: got 'cuda-graph'.*did you mean 'cuda-graphs'"),
        ({"seed": -1}, "seed: got -1, allowed is a whole number, 0 or more"),
    ],
)
def test_bad_options(values, message):
    with pytest.raises(ValueError, match=message):
        SpeedOptions(**values)


def test_what_does_not_fit_is_refused_or_said():
    config = configuration("gpt-neox-nano", vocab_size=300)  # 128 positions
    said = []
    found = check_speed(config, SpeedOptions(), "cpu", said.append)
    assert sorted({work.new_tokens for work in found}) == [20, 50]
    assert said == ["speed: the model has 128 positions; left out: 150 after a prompt of 32"]
    assert [work.name for work in found if work.unequal] == ["batch8/prompt32-unequal/new50"]
    with pytest.raises(ValueError, match="got 150 after a prompt of 32 tokens, allowed are 128"):
        check_speed(config, SpeedOptions(new_tokens=(20, 150)), "cpu")
    with pytest.raises(ValueError, match="got 20 after a prompt of 120 tokens, allowed are 128"):
        check_speed(config, SpeedOptions(prompt_tokens=(32, 120)), "cpu")
    exact = check_speed(config, SpeedOptions(prompt_tokens=(28,), new_tokens=(100,)), "cpu")
    assert {work.positions for work in exact} == {128}
    with pytest.raises(ValueError, match="allowed on cpu are off, compile"):
        check_speed(config, SpeedOptions(compile="cuda-graphs"), "cpu")
    with pytest.raises(ValueError, match="device: got 'tpu'"):
        check_speed(config, SpeedOptions(), "tpu")
    with pytest.raises(ValueError, match="models: got no model"):
        measure_speed({})


def test_a_smaller_model_sets_the_lengths_of_all():
    small, large = nano("llama-nano"), nano("llama-nano")
    large.config.max_position_embeddings = 4096
    options = SpeedOptions(batches=(1,), repeats=1, warmup=1)
    for found in measure_speed({"b": large, "a": small}, options).values():
        names = ["batch1/prompt32/new20", "batch1/prompt32/new50"]
        assert list(found.details["workloads"]) == names


@given(
    batch=st.integers(1, 9),
    tokens=st.integers(1, 40),
    unequal=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_prompts(batch, tokens, unequal, seed):
    config = configuration("llama-nano", vocab_size=20)
    config.eos_token_id, config.pad_token_id, config.bos_token_id = [3, 4], 7, 0
    assert special_ids(config) == {0, 3, 4, 7}
    workload = Workload(batch, tokens, 1, unequal)
    ids, mask = prompt(workload, config, seed)
    assert ids.shape == (batch, tokens)
    real = torch.ones_like(ids) if mask is None else mask
    assert real.sum(1).tolist() == workload.lengths and max(workload.lengths) == tokens
    assert torch.equal(real, real.sort(dim=1).values)  # padding lies on the left
    assert not {0, 3, 4, 7} & set(ids[real.bool()].tolist())
    assert workload.padding_share == pytest.approx(1 - real.double().mean().item())
    assert torch.equal(prompt(workload, config, seed)[0], ids)


def test_percentiles_of_steps():
    generator = np.random.default_rng(0)
    steps = generator.gamma(4, 5, size=(7, 30))
    found = step_percentiles(steps, (50, 99))
    assert found == pytest.approx([np.median(steps), np.quantile(steps, 0.99)])
    assert median_step_interval(steps, 1) == median_interval(np.median(steps, axis=1), 1)
    # Whole runs are drawn: steps that are the same within each run do not narrow the interval.
    runs = generator.normal(10, 1, size=(20, 1))
    once, often = (median_step_interval(np.repeat(runs, n, axis=1), 0) for n in (1, 31))
    assert often == pytest.approx(once)


@pytest.mark.parametrize("between", [0.0, 1.0, 5.0])
def test_the_interval_of_the_median_step_covers_however_runs_differ(between):
    generator = np.random.default_rng(0)
    hits, trials = 0, 300
    for trial in range(trials):
        runs = generator.normal(0, between, (5, 1)) + generator.normal(0, 1, (5, 49))
        low, high = median_step_interval(10 + runs, trial)
        hits += low <= 10 <= high
    assert 0.89 < hits / trials < 0.98


def test_sizes():
    config = configuration("gpt2-nano", vocab_size=300)
    config.tie_word_embeddings = True
    model = build(config, seed=0)
    assert model.lm_head.weight is model.transformer.wte.weight
    by_hand = sum(p.numel() * 4 for p in set(model.parameters()))
    by_hand += sum(b.numel() * b.element_size() for b in model.buffers())
    assert model_bytes(model) == by_hand
    assert model_bytes(model.to(torch.bfloat16)) < 0.51 * by_hand
    figure = flops_figure(model, 40)
    assert figure.value == count_cost(skeleton(model.config), 40).flops_per_token
    cut = nano("llama-nano")
    before = flops_figure(cut, 40).value
    resprout.prune(cut, "glu-maw", 0.5, cut="remove")
    assert flops_figure(cut, 40).value < before
    cut.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(1, 1))
    absent = flops_figure(cut, 40)
    assert absent.value is None and "does not say the shapes" in absent.reason


def test_time_to_first_token_grows_with_the_prompt_and_not_with_what_follows(monkeypatch):
    """The published figure was the time of the whole generation."""
    model, clock = nano("llama-nano"), [0.0]
    real = model.forward

    def forward(*arguments, **more):
        clock[0] += 0.002 * more["input_ids"].shape[1]  # seconds per position read
        return real(*arguments, **more)

    model.forward = forward
    fake = types.SimpleNamespace(perf_counter=lambda: clock[0])
    monkeypatch.setattr("resprout.measure.speed.decoding.time", fake)
    options = SpeedOptions(batches=(1,), prompt_tokens=(5, 50), new_tokens=(2, 20), repeats=2)
    figures = measure_speed({"a": model}, options)["a"].figures
    for prompt_tokens in (5, 50):
        for new_tokens in (2, 20):
            name = f"batch1/prompt{prompt_tokens}/new{new_tokens}"
            first = figures[f"{name}/time_to_first_token"].value
            assert first == pytest.approx(2 * prompt_tokens)
            assert figures[f"{name}/time_per_token_p99"].value == pytest.approx(2)
            whole = first + 2 * (new_tokens - 1)
            rate = figures[f"{name}/tokens_per_second"].value
            assert rate == pytest.approx(new_tokens / whole * 1e3)
            assert figures[f"{name}/decode_tokens_per_second"].value == pytest.approx(500)
