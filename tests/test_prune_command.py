"""`resprout prune` and `resprout methods`: what they make, say, refuse, and go on with."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

import resprout
from families import CONFIGURATIONS
from resprout.cli import main
from resprout.data.prepare import prepare_documents
from resprout.data.sources import Document
from resprout.models.subject import load
from resprout.pruning.cut import Cut
from resprout.pruning.methods import METHODS, method
from resprout.pruning.options import read_options
from resprout.study import cut_asked

LAYERS, NEURONS, HEADS = 3, 20, 4
RECOVERY = ("--batch-windows", 2, "--window", 16, "--learning_rate", 1e-3)


def llama(**changes):
    own = CONFIGURATIONS["llama"]().to_dict() | {"vocab_size": 300} | changes
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(LlamaConfig(**own))


@pytest.fixture(scope="session")
def subject(tokens, tmp_path_factory):
    """A tiny Llama in fp32 with the tokenizer of `tokens`."""
    folder = tmp_path_factory.mktemp("subject") / "llama"
    llama().save_pretrained(folder)
    tokens.transformers_tokenizer(64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def half_precision(tokens, tmp_path_factory):
    """The same in bf16."""
    folder = tmp_path_factory.mktemp("subject") / "bf16"
    llama().to(torch.bfloat16).save_pretrained(folder)
    tokens.transformers_tokenizer(64).save_pretrained(folder)
    return folder


@pytest.fixture
def command(capsys, monkeypatch):
    """The command in this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        capsys.readouterr()  # what transformers showed of models loaded by hand
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code, out, err)

    return run


@pytest.fixture
def cut(command, tmp_path):
    """A successful cut: the folder, the figures beside it, the model loaded again, the output."""

    def run(model, *arguments, name="out"):
        out = tmp_path / name
        done = command("prune", model, *arguments, "--device", "cpu", "-o", out)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        figures = json.loads((out / "prune.json").read_text())
        assert all(len(line) <= 80 for line in done.stdout.splitlines()[1:])
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
        again, tokenizer = load(out, dtype="auto")
        assert tokenizer is not None
        return out, figures, again, done.stdout

    return run


def weights(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def by_hand(subject, *arguments, **options):
    model, tokenizer = resprout.load(subject)
    made = resprout.prune(model, *arguments, tokenizer=tokenizer, **options)
    return model, made


def test_a_mask(subject, cut):
    out, figures, again, text = cut(subject, "--method", "magnitude", "--amount", 0.45)
    model, made = by_hand(subject, "magnitude", 0.45)
    assert same(weights(again), weights(model))
    assert same(Cut.load(out).masks, made.masks)
    total = sum(p.numel() for p in model.parameters())
    assert figures["parameters"] == {
        "before": total,
        "after": total,
        "non_embedding_before": total - 300 * 32,
        "non_embedding_after": total - 300 * 32,
        "held_at_zero_before": 0,
        "held_at_zero": made.held,
    }
    stored = (out / "model.safetensors").stat().st_size
    assert figures["bytes"]["weights_after"] == stored
    assert figures["bytes"]["weights_before"] == (subject / "model.safetensors").stat().st_size
    everything = {path.name: path.stat().st_size for path in out.iterdir()}
    record = everything.pop("prune.json") + everything.pop("digests.json")  # written last
    assert figures["bytes"]["folder"] == sum(everything.values())
    assert f"{(sum(everything.values()) + record) / 1e3:,.2f} kB in all" in text
    work = figures["operations"]
    assert work["context_tokens"] == 64
    assert work["flops_per_token_before"] == work["flops_per_token_after"] > 0
    assert figures["loads_with"] == "AutoModelForCausalLM.from_pretrained"
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert same(weights(plain), weights(model))
    kept = [
        sum(int(m.sum()) for name, m in made.masks.items() if f"layers.{layer}." in name)
        for layer in range(LAYERS)
    ]
    assert [layer["kept"] for layer in figures["layers"]] == kept
    assert sum(kept) == made.kept
    for layer in range(LAYERS):
        assert f"layer {layer}  " in text
    assert "computed as before" in text
    assert f"achieved    0.45: {made.prunable - made.kept:,} of {made.prunable:,} weights" in text
    assert figures["stages"]["cut"]["seconds"] >= 0


def test_a_removal(subject, cut):
    _, figures, again, text = cut(
        subject, "--method", "glu-maw", "--amount", 0.4, "--cut", "remove", "--round_to", 4
    )
    model, _ = by_hand(subject, "glu-maw", 0.4, cut="remove", round_to=4)
    assert same(weights(again), weights(model))
    assert again.config.intermediate_size == 12
    gone = LAYERS * 8 * 3 * 32
    assert figures["parameters"]["before"] - figures["parameters"]["after"] == gone
    assert figures["prunable_parameters_cut"] == pytest.approx(0.4)
    work = figures["operations"]
    saved = work["flops_per_token_before"] - work["flops_per_token_after"]
    assert saved == pytest.approx(2 * gone)
    assert [(layer["kept"], layer["of"]) for layer in figures["layers"]] == [(12, NEURONS)] * LAYERS
    assert "achieved    0.4: 24 of 60 GLU neurons, with 40.0% of their parameters" in text
    assert "60.0%      12 / 20" in text


def test_an_expansion_rate(subject, cut):
    _, figures, again, text = cut(subject, "--method", "glu-l2", "--expansion_rate", 50)
    assert [layer["kept"] for layer in figures["layers"]] == [16] * LAYERS
    assert "an expansion rate of 50 %" in text
    assert again.config.intermediate_size == NEURONS


def test_a_portable_removal_of_unequal_layers(subject, cut, tmp_path):
    what = ("--method", "heads-magnitude", "--scope", "global", "--amount", 0.6, "--cut", "remove")
    _, figures, again, text = cut(subject, *what)
    kept = [layer["kept"] for layer in figures["layers"]]
    assert len(set(kept)) > 1
    assert sum(kept) == LAYERS * HEADS - round(0.6 * LAYERS * HEADS)
    assert figures["loads_with"].startswith("resprout.load")
    assert "key-value groups" in text
    out, figures, _, _ = cut(subject, *what, "--portable", name="portable")
    assert "trust_remote_code=True" in figures["loads_with"]
    assert (out / "modeling_cut.py").is_file()
    foreign = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        assert torch.equal(foreign(ids).logits, again(ids).logits)


def test_whole_layers(subject, cut):
    _, figures, again, _ = cut(
        subject, "--method", "layers-random", "--amount", 0.34, "--cut", "remove"
    )
    assert sorted(layer["kept"] for layer in figures["layers"]) == [0, 1, 1]
    assert again.config.num_hidden_layers == 2


def test_a_pattern_stored_sparse(half_precision, cut):
    out, figures, again, text = cut(half_precision, "--method", "2:4", "--sparse")
    assert figures["achieved"] == 0.5
    assert again.dtype == torch.bfloat16
    assert figures["dtype"] == "bfloat16"
    for name, kept in Cut.load(out).masks.items():
        assert (kept.view(-1, 4).sum(1) == 2).all()
        assert (again.get_parameter(name)[~kept] == 0).all()
    assert figures["bytes"]["weights_after"] == (out / "sparse.safetensors").stat().st_size
    assert "surviving" in text
    assert "resprout.load (the weights are stored sparse)" in text


def test_calibration_from_a_text_folder(subject, cut, text_folder):
    text = ("--calibration", text_folder, "--samples", 8, "--length", 32, "--seed", 3)
    out, figures, again, _ = cut(subject, "--method", "wanda", "--amount", 0.5, *text)
    ids = resprout.data.calibration.read_calibration(
        text_folder, resprout.load(subject)[1], 8, 32, seed=3
    )
    model, _ = by_hand(subject, "wanda", 0.5, calibration=ids)
    assert same(weights(again), weights(model))
    assert figures["calibration"] == {
        "source": str(text_folder),
        "digest": ids.digest,
        "windows": 8,
        "tokens_per_window": 32,
    }
    assert Cut.load(out).calibration == figures["calibration"]


def test_what_is_done_otherwise_is_said(subject, command, text_folder, tmp_path):
    where = ("--calibration", text_folder, "--samples", 2, "--amount", 0.5, "--device", "cpu")
    done = command("prune", subject, "--method", "wanda", *where, "-o", tmp_path / "a")
    assert done.returncode == 0
    assert "windows of 64 tokens, the model has no more positions" in done.stderr
    done = command("prune", subject, "--method", "magnitude", *where, "-o", tmp_path / "b")
    assert done.returncode == 0
    assert "calibration: not read, magnitude needs none" in done.stderr


def test_recovery_in_one_go(half_precision, cut, tokens):
    """In fp32, saved in the checkpoint's precision; zeros stay zero."""
    out, figures, again, text = cut(
        half_precision, "--method", "magnitude", "--amount", 0.5,
        "--recover_steps", 3, "--tokens", tokens.path, *RECOVERY,
    )  # fmt: skip
    model, made = by_hand(half_precision, "magnitude", 0.5)
    resprout.recover(model, made, tokens, 3, batch_windows=2, window=16, learning_rate=1e-3)
    assert same(weights(again), weights(model.to(torch.bfloat16)))
    assert all((again.get_parameter(n)[~m] == 0).all() for n, m in Cut.load(out).masks.items())
    assert figures["recovery"]["steps"] == 3
    assert figures["recovery"]["learning_rate"] == 1e-3
    assert figures["recovery"]["window"] == 16
    assert figures["recovery"]["last_loss"] > 0
    assert "3 steps, one-shot; training loss " in text
    assert {"cut", "recovery"} == figures["stages"].keys()


def test_a_removal_recovers_with_a_teacher(subject, cut, tokens):
    options = ("--temperature", 3, "--distillation-weight", 0.7)
    _, figures, again, text = cut(
        subject, "--method", "glu-pon", "--amount", 0.5, "--cut", "remove",
        "--recover-steps", 3, "--tokens", tokens.path, *RECOVERY, "--distill", *options,
    )  # fmt: skip
    teacher, _ = resprout.load(subject)
    model, made = by_hand(subject, "glu-pon", 0.5, cut="remove")
    resprout.recover(
        model, made, tokens, 3, batch_windows=2, window=16, learning_rate=1e-3, teacher=teacher,
        temperature=3, distillation_weight=0.7,
    )  # fmt: skip
    assert same(weights(again), weights(model))
    assert figures["recovery"]["distilled"]
    assert "training loss and divergence" in text


@pytest.mark.slow
def test_cycles_then_a_schedule_on_a_cut_model(subject, cut, tokens):
    """What is cut stays cut, and the history has a line per command."""
    train = ("--recover-steps", 4, "--tokens", tokens.path, *RECOVERY)
    first, figures, again, text = cut(
        subject, "--method", "magnitude", "--amount", 0.4, *train, "--cycles", 2
    )
    model, _ = resprout.load(subject)
    resprout.prune_and_recover(
        model, "magnitude", 0.4, tokens, 4, cycles=2, batch_windows=2, window=16,
        learning_rate=1e-3,
    )  # fmt: skip
    assert same(weights(again), weights(model))
    assert figures["recovery"]["cycles"] == 2
    assert "4 steps, one-shot, 2 cycles; training loss" in text
    held = Cut.load(first).masks
    out, figures, again, text = cut(
        first, "--method", "glu-maw", "--amount", 0.5, "--cut", "remove", *train,
        "--schedule", "linear", name="second",
    )  # fmt: skip
    second = Cut.load(out)
    assert [earlier["method"] for earlier in second.earlier] == ["magnitude"]
    assert (second.cut, second.achieved) == ("remove", 0.5)
    assert again.config.intermediate_size == NEURONS // 2
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(second.masks[name], held[name])
    assert (again.get_parameter(name)[~held[name]] == 0).all()
    parameters = figures["parameters"]
    assert parameters["held_at_zero_before"] == Cut.load(first).held
    assert parameters["held_at_zero"] == second.held
    assert "cut before  1 time" in text
    # A folder that holds a removal is cut further too.
    out, _, again, _ = cut(
        out, "--method", "layers-random", "--amount", 0.34, "--cut", "remove", name="third"
    )
    assert [cut["method"] for cut in Cut.load(out).earlier] == ["magnitude", "glu-maw"]
    assert again.config.num_hidden_layers == 2
    assert again.config.intermediate_size == NEURONS // 2


def test_cycles_on_a_cut_model(subject, cut, tokens):
    first, _, _, _ = cut(subject, "--method", "magnitude", "--amount", 0.3)
    train = ("--recover-steps", 4, "--tokens", tokens.path, *RECOVERY, "--cycles", 2)
    out, figures, again, _ = cut(
        first, "--method", "magnitude", "--amount", 0.6, *train, name="second"
    )
    before, after = Cut.load(first).masks, Cut.load(out).masks
    assert all(not (after[name] & ~mask).any() for name, mask in before.items())
    assert figures["achieved"] == pytest.approx(0.6, abs=1e-4)
    assert all((again.get_parameter(n)[~m] == 0).all() for n, m in after.items())


def test_dead_neurons_are_taken_out(cut, tokens, tmp_path):
    """Single weights are cut, and what died of it is removed: in one go and along a ramp."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        type(CONFIGURATIONS["dendritic_biogpt"]())(
            vocab_size=300, hidden_size=24, num_hidden_layers=3, max_position_embeddings=64
        )
    )
    with torch.no_grad():
        for parameter in model.model.layers[0].neurons[0].parameters():
            parameter.mul_(1e-4)
    model.save_pretrained(tmp_path / "bio")
    tokens.transformers_tokenizer(64).save_pretrained(tmp_path / "bio")
    what = ("--method", "magnitude", "--amount", 0.5, "--dead_threshold", 0.9, "--cut", "remove")
    for name, more in (("a", ()), ("b", ("--schedule", "cubic"))):
        train = ("--recover-steps", 3, "--tokens", tokens.path, *RECOVERY) if more else ()
        out, figures, again, text = cut(tmp_path / "bio", *what, *train, *more, name=name)
        assert figures["dead_units"] == ["layer 0 neuron 0"]
        assert "1 gone whole: layer 0 neuron 0" in text
        assert len(again.model.layers[0].neurons) == 1
        assert figures["achieved"] == Cut.load(out).achieved >= 0.4999
        assert sum(layer["kept"] for layer in figures["layers"]) == Cut.load(out).kept


REFUSED = [
    ((), "Missing option '--method'"),
    (("--method", "magnitud", "--amount", 0.4), "did you mean 'magnitude'"),
    (("--method", "magnitude"), "amount: missing"),
    (("--method", "magnitude", "--amount", 40), "did you mean 0.4"),
    (("--method", "magnitude", "--amount", 0.4, "--scope", "locally"), "scope: got 'locally'"),
    (("--method", "2:4", "--amount", 0.4), "the pattern 2:4 cuts 0.5"),
    (("--method", "4:2"), "pattern: got '4:2'"),
    (("--method", "mlp-magnitude", "--amount", 0.4), "has no MLP neurons"),
    (("--method", "heads-gate", "--amount", 0.4), "needs a gate per head"),
    (("--method", "glu-maw", "--expansion-rate", 900), "expansion_rate: got 900"),
    (("--method", "glu-maw", "--amount", 0.4, "--round-to", 0), "round_to: got 0"),
    (("--method", "magnitude", "--amount", 0.4, "--cut", "remove"), "cut: got 'remove'"),
    (("--method", "magnitude", "--amount", 0.4, "--cut", "masc"), "cut: got 'masc'"),
    (("--method", "magnitude", "--amount", 0.4, "--protocol", "x"), "protocol: got 'x'"),
    (("--method", "magnitude", "--amount", 0.4, "--seed", -1), "seed: got -1"),
    (("--method", "magnitude", "--amount", 0.4, "--sequential"), "sequential: allowed only for"),
    (("--method", "magnitude", "--amount", 0.4, "--head-unit", "query"), "cuts no heads"),
    (("--method", "magnitude", "--amount", 0.4, "--dtype", "int8"), "dtype: got 'int8'"),
    (("--method", "magnitude", "--amount", 0.4, "--device", "warp"), "device: got 'warp'"),
    (("--method", "wanda", "--amount", 0.4), "calibration: missing"),
    (("--method", "wanda", "--amount", 0.4, "--calibration", "nowhere"), "'nowhere'"),
    (("--method", "wanda", "--amount", 0.4, "--calibration", "TEXT", "--samples", 0), "samples"),
    (("--method", "wanda", "--amount", 0.4, "--calibration", "TEXT", "--samples", 9999), "enough"),
    (("--method", "wanda", "--amount", 0.4, "--calibration", "OTHER"), "another vocabulary"),
    (("--method", "2:4", "--sparse", "--portable"), "sparse: not allowed with portable"),
    (("--method", "2:4", "--portable"), "portable: got with cut 'mask'"),
    (("--method", "glu-maw", "--amount", 0.4, "--cut", "remove", "--sparse"), "with cut remove"),
    (("--method", "2:4", "--tokens", "TOKENS"), "tokens: allowed only with recover_steps"),
    (("--method", "2:4", "--schedule", "cubic"), "schedule: allowed only with recover_steps"),
    (("--method", "2:4", "--cycles", 2), "cycles: allowed only with recover_steps"),
    (("--method", "2:4", "--distill"), "distill: allowed only with recover_steps"),
    (("--method", "2:4", "--recover-steps", 3), "tokens: missing"),
]
TRAINING_REFUSED = [
    (("2:4", "--cycles", 2), "whose amount cannot grow"),
    (("magnitude", "--amount", 0.4, "--recover_steps", 0), "recover_steps: got 0"),
    (("magnitude", "--amount", 0.4, "--temperature", 2), "temperature: allowed only with distill"),
    (("magnitude", "--amount", 0.4, "--distill", "--temperature", 0), "temperature: got 0"),
    (("magnitude", "--amount", 0.4, "--schedule", "cube"), "did you mean 'cubic'"),
    (("magnitude", "--amount", 0.4, "--cycles", 9), "steps: got 3, allowed is a whole number"),
    (("magnitude", "--amount", 0.4, "--cycles", 2, "--schedule", "cubic"), "cycles: got 2 with"),
    (("magnitude", "--amount", 0.4, "--learning_rate", 0), "learning_rate: got 0"),
    (("magnitude", "--amount", 0.4, "--window", 65), "window: got 65"),
    (("magnitude", "--amount", 0.4, "--tokens", "TEXT"), "it is not prepared data"),
    (("magnitude", "--amount", 0.4, "--tokens", "OTHER"), "tokens: "),
    (("glu-maw", "--expansion-rate", 40, "--cycles", 2), "expansion_rate: not allowed with cycles"),
]


@pytest.fixture(scope="session")
def other_tokens(tmp_path_factory):
    """Prepared data in another vocabulary."""
    texts = [Document(f"{i}.txt", f"{i} grey geese graze gladly, {i * i} more\n" * 9)
             for i in range(40)]  # fmt: skip
    folder = tmp_path_factory.mktemp("other") / "tokens"
    return prepare_documents(texts, folder, held_out=0.2, vocab_size=290, source="other")


@pytest.fixture
def refused(command, subject, tokens, other_tokens, text_folder, tmp_path, monkeypatch):
    """One line, exit code 2, no weight read and nothing written."""

    def never(*arguments, **options):
        raise AssertionError("weights were read")

    monkeypatch.setattr("resprout.study.single_cut.load", never)
    stand_for = {"TEXT": text_folder, "TOKENS": tokens.path, "OTHER": other_tokens.path}

    def run(arguments, message, model=subject, out=tmp_path / "out"):
        before = sorted(tmp_path.rglob("*"))
        given = [stand_for.get(argument, argument) for argument in arguments]
        done = command("prune", model, *given, "-o", out)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert sorted(tmp_path.rglob("*")) == before

    return run


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refused_before_weights_are_read(refused, arguments, message):
    refused(arguments, message)


@pytest.mark.parametrize(("arguments", "message"), TRAINING_REFUSED)
def test_a_recovery_is_refused_before_weights_are_read(refused, arguments, message):
    train = ("--recover-steps", 3, "--tokens", "TOKENS")
    refused((*train, "--method", *arguments), message)


def test_subjects_and_places_that_are_refused(refused, subject, tmp_path, cut, monkeypatch):
    what = ("--method", "magnitude", "--amount", 0.4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused(what, "exists; allowed is a new or an empty folder", out=tmp_path / "full")
    refused(what, "cannot be written", out=tmp_path / "full" / "file" / "out")
    refused(what, "is neither a size", model="biogpt-nan")
    quantised = tmp_path / "quantised"
    quantised.mkdir()
    config = json.loads((subject / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (quantised / "config.json").write_text(json.dumps(config))
    refused(what, "its weights are quantised (gptq)", model=quantised)
    monkeypatch.setattr("resprout.study.single_cut.load", load)
    removal = ("--method", "heads-magnitude", "--scope", "global", "--amount", 0.6)
    out, *_ = cut(subject, *removal, "--cut", "remove", name="removed")
    manifest = json.loads((out / "cut.json").read_text())
    manifest["reshaped"]["shapes"].popitem()
    (out / "cut.json").write_text(json.dumps(manifest))
    refused(what, "cut.json' is damaged, it is not as it was written", model=out)
    (out / "digests.json").unlink()
    refused(what, "has the cut.json of another cut", model=out)
    # A uniform removal, whose sizes the configuration says.
    uniform = ("--method", "glu-maw", "--cut", "remove", "--amount")
    half, *_ = cut(subject, *uniform, 0.5, name="half")
    less, *_ = cut(subject, *uniform, 0.25, name="less")
    (less / "cut.json").replace(half / "cut.json")
    (half / "digests.json").unlink()
    refused(what, "the manifest of another model", model=half)
    masked, *_ = cut(subject, *what, name="masked")
    (masked / "cut.safetensors").unlink()
    (masked / "digests.json").unlink()
    refused(what, "cut.safetensors", model=masked)


def test_a_size_has_no_tokenizer_for_text(refused):
    what = ("--method", "wanda", "--amount", 0.4, "--calibration", "TEXT")
    refused(what, "tokenizer: got none", model="llama-nano")


@pytest.mark.slow
def test_killed_during_recovery_it_goes_on(subject, tokens, tmp_path, command):
    def arguments(name):
        what = ["prune", subject, "--method", "magnitude", "--amount", 0.5, "--device", "cpu"]
        train = ["--recover-steps", 100, "--tokens", tokens.path, *RECOVERY]
        return [str(word) for word in (*what, *train, "-o", tmp_path / name)]

    assert command(*arguments("whole")).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "resprout", *arguments("cut")],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    work = tmp_path / ".cut.work"
    deadline = time.monotonic() + 120
    while not list(work.glob("recovery/checkpoint-*/complete*")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut").exists()
    done = command(*arguments("cut")[:-1], tmp_path / "cut", "--learning-rate", "1e-4")
    assert done.returncode == 2
    assert "is of another request (options differs); remove it first" in done.stderr
    begun = len(list(work.glob("recovery/checkpoint-*")))
    assert begun
    done = command(*arguments("cut"))
    assert done.returncode == 0, done.stderr
    whole, resumed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "cut"))
    assert same(whole, resumed)
    assert not work.exists()


def test_a_wide_bar_never_lies():
    from rich.console import Console

    from resprout.cli.prune_table import _picture

    layers = [{"name": f"layer {i}", "kept": kept, "of": 1000}
              for i, kept in enumerate((0, 1, 500, 999, 1000))]  # fmt: skip
    to = Console(width=80)
    with to.capture() as shown:
        to.print(_picture({"unit": "glu_neuron", "layers": layers}, ("#", ".")))
    bars = [line.count("#") for line in shown.get().splitlines()[1:]]
    assert bars == [0, 1, 15, 29, 30]


def test_methods_lists_them_all_without_torch():
    script = (
        "import sys\n"
        "from resprout.cli import main\n"
        "try: main(['methods'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:] if line.strip()}
    for name, listed in METHODS.items():
        assert listed.unit in rows[name]
        assert listed.source in rows[name]
        assert (" yes " in rows[name]) == listed.calibrated
    assert "2:4" in done.stdout


def test_no_path_of_this_machine_is_written(subject, cut, monkeypatch):
    monkeypatch.chdir(subject.parent)
    out, *_ = cut(subject.name, "--method", "magnitude", "--amount", 0.4)
    for file in ("prune.json", "cut.json"):
        assert str(Path.home()) not in (out / file).read_text()
        assert str(subject.parent) not in (out / file).read_text()


def test_the_commands_of_the_readme_are_understood(command, monkeypatch):
    readme = (Path(__file__).parents[1] / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^\.venv/bin/resprout (prune .*)$", readme, re.MULTILINE)
    assert len(lines) >= 4
    asked = []

    def check(given):
        cut_asked._check_together(given)
        read_options(given.method, given.amount, **given.cut_options())
        asked.append(given)
        raise ValueError("far enough")

    monkeypatch.setattr(cut_asked, "check_asked", check)
    for line in lines:
        assert "far enough" in command(*shlex.split(line, comments=True)).stderr
    assert [given.method for given in asked][:2] == ["magnitude", "glu-maw"]
    for given in asked:
        method(given.method)
