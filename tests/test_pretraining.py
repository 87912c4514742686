"""`resprout train`: from tokens to a model that others load; stopped, refused, told what to do."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from resprout.data.prepare import prepare_documents
from resprout.measure.loss import window_losses
from resprout.models.biogpt.published import read_published
from resprout.models.description import parameter_total, skeleton
from resprout.models.sizes import build, configuration
from resprout.train import plan as plan_module
from resprout.train.pretraining import pretrain
from resprout.train.request import read_request

SMALL = {
    "model": "gpt-neox-nano",
    "target_tokens": 6 * 4 * 16,
    "block_size": 16,
    "batch_size": 2,
    "grad_accum": 2,
    "max_lr": 3e-3,
    "min_lr": 3e-4,
    "warmup_steps": 2,
    "log_interval": 1,
    "eval_interval": 2,
    "device": "cpu",
}


def grow(tokens, out, **changes):
    said, noticed = [], []
    values = SMALL | {"data_dir": tokens.path, "out_dir": out} | changes
    pretrain(read_request(values), said.append, noticed.append)
    return said, noticed


def command(tokens, out, *extra, **changes):
    values = SMALL | {"data_dir": tokens.path, "out_dir": out} | changes
    options = [f"--{name}={value}" for name, value in values.items()]
    return ["train", *options, *extra]


def resprout(*arguments, module="resprout"):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def history(out):
    return json.loads((out / "training.json").read_text())


def weights(out):
    return AutoModelForCausalLM.from_pretrained(out / "final").state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_leaves_a_model_that_others_load(tokens, tmp_path):
    said, _ = grow(tokens, tmp_path / "run", eval_tokens=0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "final").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "run" / "final")
    assert words("def function").input_ids == tokens.tokenizer().encode("def function").ids
    assert model.config.vocab_size == 320  # 300, rounded up to a multiple of 64
    assert model.config.eos_token_id == tokens.manifest["end_of_text"]
    done = history(tmp_path / "run")
    losses = window_losses(model, tokens.val, 16)
    measured = losses.nats.sum() / losses.tokens.sum()
    assert done["validation"][-1] == [6, pytest.approx(measured, abs=1e-5)]
    assert [step for step, _ in done["losses"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in done["validation"]] == [2, 4, 6]
    assert done["tokens"] == 6 * 4 * 16
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["checkpoint-4", "checkpoint-6", "run.json"]
    bits = measured / math.log(2) * len(tokens.val.tokens) / tokens.val.text_bytes
    assert f"{bits:.4f} bits per byte" in said[-1]


def test_the_published_model_on_the_published_tokenizers_tokens(tokens, tmp_path):
    """GPT-NeoX's tokenizer has 50,277 entries; the published model 50,304 rows."""
    shutil.copytree(tokens.path, tmp_path / "data")
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    del manifest["content_sha256"]  # it is changed by hand
    manifest["vocab_size"] = 50277
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    request = {"data_dir": tmp_path / "data", "out_dir": tmp_path / "run", "block_size": 64}
    plan = plan_module.make_plan(read_request(request))
    assert plan.config.vocab_size == 50304
    assert parameter_total(skeleton(plan.config)) == 294_532_636
    assert plan.windows_per_step == 32
    assert plan.steps == -(-2_000_000_000 // (32 * 64))


def test_again_is_done_already(tokens, tmp_path):
    grow(tokens, tmp_path / "run")
    before = (tmp_path / "run" / "training.json").read_bytes()
    said, _ = grow(tokens, tmp_path / "run", resume=True)
    assert "finished" in said[0]
    assert (tmp_path / "run" / "training.json").read_bytes() == before


def test_accumulation_is_a_larger_batch(tokens, tmp_path):
    grow(tokens, tmp_path / "a", batch_size=4, grad_accum=1)
    grow(tokens, tmp_path / "b", batch_size=1, grad_accum=4)
    for (_, a), (_, b) in zip(
        history(tmp_path / "a")["losses"], history(tmp_path / "b")["losses"], strict=True
    ):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.slow
def test_the_seed_decides_and_recomputation_does_not(tokens, tmp_path):
    for name, changes in {
        "a": {},
        "b": {"gradient_checkpointing": "on"},
        "c": {"seed": 1},
        "d": {"order": "random"},
    }.items():
        grow(tokens, tmp_path / name, model="biogpt-nano", target_tokens=2 * 4 * 16, **changes)
    a, b, c, d = (weights(tmp_path / name) for name in "abcd")
    assert same(a, b)
    assert not same(a, c)
    assert not same(a, d)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["biogpt-nano", "llama-nano"])
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(tokens, tmp_path, model):
    changes = {"model": model, "target_tokens": 20 * 4 * 16, "eval_interval": 4}
    grow(tokens, tmp_path / "whole", **changes)
    out = tmp_path / "cut"
    arguments = command(tokens, out, **changes)
    process = subprocess.Popen(
        [sys.executable, "-m", "resprout", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (out / "checkpoints" / "checkpoint-4" / "complete.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "final").exists()
    done = resprout(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert "step 1/20" not in done.stdout
    assert same(weights(tmp_path / "whole"), weights(out))
    assert history(out)["losses"] == history(tmp_path / "whole")["losses"]
    assert history(out)["validation"] == history(tmp_path / "whole")["validation"]


def test_a_damaged_checkpoint_is_named_set_aside_and_not_used(tokens, tmp_path, monkeypatch):
    grow(tokens, tmp_path / "whole")
    grow(tokens, tmp_path / "run")
    (tmp_path / "run" / "training.json").unlink()  # as if it had died before its end
    damaged = tmp_path / "run" / "checkpoints" / "checkpoint-6" / "weights.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    _, noticed = grow(tokens, tmp_path / "run")
    assert any("weights.safetensors is damaged" in line for line in noticed)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-6.corrupt-1").is_dir()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_published_checkpoint(tokens, tmp_path):
    grow(tokens, tmp_path / "run", model="biogpt-nano", export_pt=True, n_passes=2)
    model = read_published(tmp_path / "run" / "biogpt_final.pt")
    assert same(model.state_dict(), weights(tmp_path / "run"))
    assert model.config.n_passes == 2
    assert model.config.published["step"] == 6
    assert model.config.published["tokens_processed"] == 6 * 4 * 16
    expected = history(tmp_path / "run")["validation"][-1][1]
    assert model.config.published["val_loss"] == pytest.approx(expected)


def test_a_trained_model_is_trained_on(tokens, tmp_path):
    grow(tokens, tmp_path / "first")
    source = str(tmp_path / "first" / "final")
    grow(tokens, tmp_path / "second", model=source, max_lr=1e-12, min_lr=0.0, weight_decay=0.0)
    grow(tokens, tmp_path / "third", model=source, from_scratch=True, max_lr=1e-12, min_lr=0.0,
         weight_decay=0.0)  # fmt: skip
    first, second, third = (weights(tmp_path / name) for name in ("first", "second", "third"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert not all(torch.allclose(first[name], third[name], atol=1e-3) for name in first)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # inductor's own
def test_compiled_it_learns_the_same(tokens, tmp_path):
    grow(tokens, tmp_path / "plain")
    grow(tokens, tmp_path / "compiled", compile=True)
    plain, compiled = (history(tmp_path / name)["losses"] for name in ("plain", "compiled"))
    assert [loss for _, loss in plain] == pytest.approx([loss for _, loss in compiled], abs=1e-4)
    assert weights(tmp_path / "plain").keys() == weights(tmp_path / "compiled").keys()


def test_bf16_leaves_fp32_weights_and_an_fp32_model(tokens, tmp_path):
    said, _ = grow(tokens, tmp_path / "run", model="biogpt-nano", precision="bf16")
    assert "bf16 on cpu" in said[0]
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "run").values())
    assert history(tmp_path / "run")["losses"][-1][1] < history(tmp_path / "run")["losses"][0][1]


def test_timing_says_speed_memory_and_time_and_keeps_nothing(tokens, tmp_path):
    said, _ = grow(tokens, tmp_path / "run", timing_test=True, timing_steps=4)
    told = "\n".join(said)
    for words in ("tokens/s:", "MFU:", "peak memory:", "estimated time for 384 tokens:"):
        assert words in told
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_the_step_and_the_checkpoint(tokens, tmp_path):
    with pytest.raises(FloatingPointError) as error:
        grow(tokens, tmp_path / "run", max_lr=1e30, min_lr=1e30, warmup_steps=0,
             target_tokens=40 * 4 * 16, eval_interval=1)  # fmt: skip
    assert "not finite at step" in str(error.value)
    kept = list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    named = "last good checkpoint: " + (str(kept[-1]) if kept else "none yet")
    assert named in str(error.value)
    for path in kept:
        from safetensors.torch import load_file

        assert all(
            bool(t.isfinite().all()) for t in load_file(path / "weights.safetensors").values()
        )


# Megabytes: in the weights, in the optimiser's state.
@pytest.mark.slow
@pytest.mark.parametrize("limit", [3, 5])
def test_a_full_disk_is_one_line_and_nothing_is_lost(tokens, tmp_path, limit):
    """A limit on the size of files stands in for the disk: the same errors, a real process."""
    limited = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}_000_000, {limit}_000_000))\n"
        "from resprout.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = command(tokens, tmp_path / "run", model="llama-nano", block_size=64, batch_size=1)
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    named = f"the checkpoint of step 2 in {tmp_path / 'run' / 'checkpoints'} cannot be written ("
    assert named in last
    assert "last good checkpoint: none yet" in last
    assert "Traceback" not in done.stderr
    grow(tokens, tmp_path / "run", model="llama-nano", block_size=64, batch_size=1)


class Forgetful(torch.nn.Module):
    """A norm that runs out of memory when it is asked for the third step."""

    def __init__(self, inner, error):
        super().__init__()
        self.inner, self.error, self.calls = inner, error, 0

    def forward(self, x):
        self.calls += self.training
        if self.calls > 8:  # two forward passes a step, one to choose the loss
            raise self.error
        return self.inner(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_says_what_to_change(tokens, tmp_path, monkeypatch, error):
    def build_forgetful(config, seed):
        model = build(config, seed)
        model.gpt_neox.final_layer_norm = Forgetful(model.gpt_neox.final_layer_norm, error)
        return model

    monkeypatch.setattr(plan_module, "build", build_forgetful)
    with pytest.raises(MemoryError) as told:
        grow(tokens, tmp_path / "run", target_tokens=20 * 4 * 16)
    assert "--batch_size 1 --grad_accum 4" in str(told.value)
    assert "--gradient_checkpointing on" in str(told.value)
    assert f"last good checkpoint: {tmp_path / 'run' / 'checkpoints'}" in str(told.value)


def test_memory_that_is_too_small_turns_checkpointing_on(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "available_bytes", lambda device: 10**7)
    _, noticed = grow(tokens, tmp_path / "run")
    assert any("gradient checkpointing is on" in line for line in noticed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_tokens": 0}, "target_tokens: got 0"),
        ({"batch_size": -1}, "batch_size: got -1"),
        ({"grad_accum": 0}, "grad_accum: got 0"),
        ({"max_lr": 0.0}, "max_lr: got 0.0"),
        ({"min_lr": 1.0}, "min_lr: got 1.0, allowed is at most max_lr"),
        ({"warmup_steps": -1}, "warmup_steps: got -1"),
        ({"grad_clip": 0.0}, "grad_clip: got 0"),
        ({"order": "sorted"}, "order: got 'sorted'"),
        ({"block_size": 129}, "block_size: got 129, allowed are up to the 128 positions"),
        ({"block_size": 0}, "block_size: got 0"),
        ({"model": "gpt-neox-nan"}, "did you mean 'gpt-neox-nano'"),
        ({"n_passes": 2}, "n_passes: got 2, only a BioGPT has it"),
        ({"n_passes": 3, "model": "biogpt-nano"}, "n_passes: got 3"),
        ({"soma_ffn_expansion": -1.0, "model": "biogpt-nano"}, "soma_ffn_expansion: got -1"),
        ({"device": "warp"}, "device: got 'warp'"),
        ({"report_to": ("carrier-pigeon",)}, "report_to: got 'carrier-pigeon'"),
        ({"export_pt": True}, "export_pt: a published checkpoint holds a BioGPT"),
        ({"data_dir": "nowhere"}, "data_dir"),
        ({"timing_steps": 1}, "timing_steps: got 1"),
        ({"resume": True, "start_over": True}, "start_over"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(tokens, tmp_path, changes, message):
    if "data_dir" in changes:
        changes = {"data_dir": tmp_path / "nowhere"}
    with pytest.raises(ValueError) as error:
        grow(tokens, tmp_path / "run", **changes)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_block_longer_than_the_data_is_refused(documents, tmp_path):
    few = prepare_documents(documents[:9], tmp_path / "few", 0.5, vocab_size=700)
    length = len(few.train.tokens)
    with pytest.raises(ValueError, match="allowed is less than the"):
        grow(few, tmp_path / "run", model="biogpt-294m", block_size=length)


def test_an_out_dir_of_another_run_is_refused(tokens, documents, tmp_path):
    grow(tokens, tmp_path / "run")
    with pytest.raises(ValueError, match=r"max_lr: got 0.001, but it is 0.003 in the run"):
        grow(tokens, tmp_path / "run", max_lr=1e-3)
    with pytest.raises(ValueError, match="model: got 'biogpt-nano'"):
        grow(tokens, tmp_path / "run", model="biogpt-nano")
    other = prepare_documents(documents, tmp_path / "other", 0.2, vocab_size=280)
    with pytest.raises(ValueError, match="data_dir: its tokenizer is not the same"):
        grow(other, tmp_path / "run")
    grow(tokens, tmp_path / "run", max_lr=1e-3, start_over=True)
    assert history(tmp_path / "run")["recipe"]["max_lr"] == 1e-3


def test_an_out_dir_of_something_else_is_refused(tokens, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for start_over in (False, True):
        with pytest.raises(ValueError, match=r"holds what is no run's, such as 'thesis\.tex'"):
            grow(tokens, tmp_path / "mine", start_over=start_over)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        grow(tokens, tmp_path / "file")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_data_of_another_tokenizer_than_the_model_is_refused(tokens, documents, tmp_path):
    grow(tokens, tmp_path / "run")
    source = str(tmp_path / "run" / "final")
    other = prepare_documents(documents, tmp_path / "other", 0.2, vocab_size=280)
    with pytest.raises(ValueError, match="prepared with another tokenizer"):
        grow(other, tmp_path / "new", model=source)
    larger = prepare_documents(documents, tmp_path / "larger", 0.2, vocab_size=600)
    with pytest.raises(ValueError, match="data_dir: its tokens go up to"):
        grow(larger, tmp_path / "new", model=source)


def test_mistakes_are_one_line_on_the_command_line(tokens, tmp_path):
    for module in ("resprout", "biogpt.train"):
        arguments = command(tokens, tmp_path / "run", batch_size=0)
        done = resprout(*(arguments if module == "resprout" else arguments[1:]), module=module)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "resprout: error: batch_size: got 0, allowed is greater than or equal to 1"
        ]
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_told(tokens, tmp_path):
    pytest.importorskip("tensorboard")
    grow(tokens, tmp_path / "run", report_to=("tensorboard",))
    assert list((tmp_path / "run" / "checkpoints").rglob("events.out.tfevents*"))


@pytest.mark.slow  # test_recovery.py has two processes that are fast enough
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(tokens, tmp_path, sharding):
    """Two gloo processes, half of each batch in each; FSDP2 on a model as deep as biogpt-1b."""
    model = "biogpt-nano"
    changes = {"target_tokens": 2 * 4 * 16, "eval_interval": 1}
    if sharding == "fsdp":
        shape = configuration("biogpt-1b", hidden_size=48, vocab_size=320)
        shape.save_pretrained(tmp_path / "deep")
        model = str(tmp_path / "deep")
    grow(tokens, tmp_path / "one", model=model, from_scratch=True, **changes)
    out = tmp_path / "two"
    launcher = ["--nproc_per_node=2", "--master_port=0", "--rdzv_backend=c10d",
                "--rdzv_endpoint=localhost:0", "-m", "resprout"]  # fmt: skip
    arguments = command(tokens, out, "--from_scratch", model=model, batch_size=1,
                        sharding=sharding, **changes)  # fmt: skip
    done = resprout(*launcher, *arguments, module="torch.distributed.run")
    assert done.returncode == 0, done.stderr
    one, two = history(tmp_path / "one"), history(out)
    assert two["processes"] == 2
    for kind in ("losses", "validation"):
        assert len(one[kind]) == len(two[kind]) == 2
        for (_, a), (_, b) in zip(one[kind], two[kind], strict=True):
            assert a == pytest.approx(b, abs=1e-5)
    a, b = weights(tmp_path / "one"), weights(out)
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)
