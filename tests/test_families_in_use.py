"""Cut models of every family in use: written text, training, copies, folders, further cuts."""

import copy
import json
import os
import pickle
import subprocess
import sys
from functools import cache

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import resprout
from families import (
    KIN,
    NAMES,
    RANDOM,
    STORIES,
    bits,
    each_different_unit,
    each_name,
    each_unit,
    kept,
    logits,
    same_bits,
    some_ids,
    subject,
)
from resprout.models import agency
from resprout.pruning.adapters import adapter_for

# Whose configurations can say how many heads there are: those that hold the head width too.
HEADS_SAID = {"llama", "llama_bias", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text",
              "smollm3", "phi3", STORIES}  # fmt: skip


@cache
def _unevenly(name, kind, head_unit, cut, seed):
    model = subject(name)
    scope = "per_layer" if head_unit == "query" else "global"
    options = {"scope": scope, "head_unit": head_unit, "cut": cut, "seed": seed}
    return model, resprout.prune(model, RANDOM[kind], 0.4, **options)


def cut_unevenly(name, kind, head_unit="group", cut="remove", seed=5):
    """Layers differ, unless single query heads go or layers."""
    model, found = _unevenly(name, kind, head_unit, cut, seed)
    return copy.deepcopy(model), found


def cut_twice(name):
    """Unevenly, in two kinds of units."""
    model, _ = cut_unevenly(name, adapter_for(subject(name)).kinds[0])
    second = RANDOM[adapter_for(model).kinds[1]]
    return model, resprout.prune(model, second, 0.4, scope="global", cut="remove", seed=4)


@torch.inference_mode()
def text(model, **options):
    """Eight tokens behind two prompts, the first of which is padded on the left."""
    ids, mask = some_ids(seed=7), torch.ones(2, 12, dtype=torch.long)
    ids[0, :5], mask[0, :5] = 0, 0
    found = model.generate(
        ids, attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=None,
        pad_token_id=0, **options,
    )  # fmt: skip
    return found[:, ids.shape[1] :].tolist()


@each_different_unit
def test_removed_models_write_what_masked_ones_write(name, kind, head_unit):
    masked, _ = cut_unevenly(name, kind, head_unit, cut="mask")
    removed, _ = cut_unevenly(name, kind, head_unit)
    assert text(removed) == text(masked, use_cache=False)
    assert text(removed, num_beams=2) == text(masked, num_beams=2)


@each_unit
def test_removed_models_train(name, kind, head_unit):
    ids, losses, gradients = some_ids(), [], []
    for cut in ("mask", "remove"):
        model, _ = cut_unevenly(name, kind, head_unit, cut=cut)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        losses.append(loss.detach())
        gradients.append(model.get_input_embeddings().weight.grad)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@each_unit
def test_saved_and_loaded(name, kind, head_unit, tmp_path):
    model = subject(name)
    cut = resprout.prune(model, RANDOM[kind], 0.5, cut="remove", head_unit=head_unit,
                         scope="global" if kind == "layer" else "per_layer")  # fmt: skip
    said = kind != "head" or name in HEADS_SAID
    _reads_back(model, cut, tmp_path / "even", said)
    if kind != "layer" and head_unit != "query" and name not in KIN:
        model, cut = cut_unevenly(name, kind)
        assert len({len(group.kept) for group in cut.groups}) > 1
        _reads_back(model, cut, tmp_path / "uneven", said=name.startswith("dendritic"))


def _tied(model):
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def _reads_back(model, cut, folder, said):
    resprout.save(model, cut, folder)
    again, _ = resprout.load(folder)
    assert same_bits(again, model)
    assert type(again) is type(model)
    assert torch.equal(logits(again), logits(model))
    assert _tied(again) == _tied(model) == model.config.tie_word_embeddings
    assert resprout.Cut.load(folder).manifest() == cut.manifest()
    assert (json.loads((folder / "cut.json").read_text())["reshaped"] is None) == said
    if said:
        plain = AutoModelForCausalLM.from_pretrained(folder)
        assert same_bits(plain, model)
        assert torch.equal(logits(plain), logits(model))
    else:
        with pytest.raises(RuntimeError, match="mismatch"):
            AutoModelForCausalLM.from_pretrained(folder)


@each_name
def test_cut_saved_loaded_and_cut_again(name, tmp_path):
    model, cut = cut_twice(name)
    for step in range(2):
        resprout.save(model, cut, tmp_path / str(step))
        again, _ = resprout.load(tmp_path / str(step))
        assert same_bits(again, model)
        others = []
        for each in (model, again):
            kind = adapter_for(each).kinds[step]
            options = {"scope": "global", "cut": "remove", "seed": 9}
            others.append(resprout.prune(each, RANDOM[kind], 0.4, **options))
        assert kept(others[0]) == kept(others[1])
        assert others[0].achieved > 0
        assert same_bits(again, model)
        assert torch.equal(logits(again), logits(model))
        reshaped = [getattr(each.config, "reshaped", None) for each in (model, again)]
        assert reshaped[0] == reshaped[1]
        cut = others[0]


@each_name
def test_copies_and_pickles(name):
    model, _ = cut_twice(name)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(again) is type(model)
        assert same_bits(again, model)
        assert torch.equal(logits(again), logits(model))


@each_name
def test_bf16_stays_bf16(name, tmp_path):
    original = subject(name).to(torch.bfloat16)
    kinds = adapter_for(original).kinds
    masked, removed = copy.deepcopy(original), copy.deepcopy(original)
    options = {"seed": 3, "scope": "global"}
    resprout.prune(masked, RANDOM[kinds[0]], 0.4, **options)
    cut = resprout.prune(removed, RANDOM[kinds[0]], 0.4, cut="remove", **options)
    assert {p.dtype for m in (masked, removed) for p in m.parameters()} == {torch.bfloat16}
    expected = logits(masked).float()
    error = (logits(removed).float() - expected).abs().max() / expected.abs().max()
    assert error < 0.05
    resprout.save(removed, cut, tmp_path / "cut")
    again, _ = resprout.load(tmp_path / "cut", dtype="auto")
    assert same_bits(again, removed)
    wide, _ = resprout.load(tmp_path / "cut")  # fp32 unless told otherwise
    assert {p.dtype for p in wide.parameters()} == {torch.float32}


@pytest.mark.slow
def test_portable_folders_load_where_resprout_is_not(tmp_path):
    """All families in one process that cannot import Resprout; equal to the bit."""
    names = []
    for name in NAMES:
        try:
            model, cut = cut_twice(name)
        except pytest.skip.Exception:
            continue
        folder = tmp_path / name
        resprout.save(model, cut, folder, portable=True)
        save_file({"logits": logits(model), "ids": some_ids()}, tmp_path / f"{name}.expected")
        before = bits(model)
        assert not hasattr(model.config, "auto_map") or name.startswith("dendritic")
        again, _ = resprout.load(folder)
        assert same_bits(again, before)
        names.append(name)
    for name in ("gpt2", "llama"):  # gates, alone and with a cut
        for cut_heads in (False, True):
            model = agency.enable(subject(name))
            agency.set_gates(model, 1, 0.5)
            folder = f"gated_{name}_{cut_heads}"
            cut = resprout.prune(model, "heads-gate", 0.4, cut="remove") if cut_heads else None
            resprout.save(model, cut, tmp_path / folder, portable=True)
            expected = {"logits": logits(model), "ids": some_ids()}
            save_file(expected, tmp_path / f"{folder}.expected")
            names.append(folder)
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", _WITHOUT_RESPROUT, str(tmp_path), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in names:
        found, expected = (load_file(tmp_path / f"{name}.{end}") for end in ("found", "expected"))
        assert torch.equal(found["logits"], expected["logits"]), name


_WITHOUT_RESPROUT = """
import sys
sys.modules["resprout"] = None
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
for name in sys.argv[2:]:
    folder = Path(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(folder / name, trust_remote_code=True).eval()
    ids = load_file(folder / f"{name}.expected")["ids"]
    with torch.inference_mode():
        found = model(input_ids=ids, use_cache=False).logits
    save_file({"logits": found}, folder / f"{name}.found")
assert not [name for name in sys.modules if name.startswith("resprout.")]
"""
