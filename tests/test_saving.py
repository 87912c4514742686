"""Folders of cut models: small where sparse, whole or not there, refused where not right."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import resprout
from families import bits, same_bits, some_ids, tiny
from resprout.files import DIGESTS

MANIFEST = "cut.json"


def test_sparse_and_portable_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="portable: not together with sparse"):
        resprout.save(tiny("gpt2"), None, tmp_path / "a", sparse=True, portable=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"portable": True}])
@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_killed_while_saving(options, end, tmp_path, monkeypatch):
    """Whatever part was being written: nothing is there, and an older folder stands."""
    model = tiny("gpt2")
    cut = resprout.prune(model, "heads-random", 0.4, cut="remove")
    before = bits(model)

    def stop(*args, **kwargs):
        raise end

    for target in ("resprout.pruning.cut.Cut.save", "resprout.files.flush_to_disk"):
        with monkeypatch.context() as patch:
            patch.setattr(target, stop)
            with pytest.raises(end):
                resprout.save(model, cut, tmp_path / "a", **options)
        assert list(tmp_path.iterdir()) == []
    assert not hasattr(model.config, "auto_map")
    resprout.save(model, cut, tmp_path / "a", **options)
    assert same_bits(resprout.load(tmp_path / "a")[0], before)


def read(file):
    """Copies: the file itself is written over, and safetensors maps it."""
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def reshaped_folder(folder):
    model = tiny("gpt2")
    cut = resprout.prune(model, "heads-random", 0.5, cut="remove")
    resprout.save(model, cut, folder)
    (folder / DIGESTS).unlink()  # whoever changes such files by hand does that, too
    return model


def rewrite(folder, change):
    """Change what both files say about the sizes, as whoever tampers would."""
    for file, key in (("config.json", "reshaped"), (MANIFEST, "reshaped")):
        content = json.loads((folder / file).read_text())
        change(content[key])
        (folder / file).write_text(json.dumps(content))


WEIGHT = "transformer.h.0.attn.c_attn.weight"
ATTENTION = "transformer.h.0.attn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["shapes"].update({"transformer.h.9.attn.weight": [1, 1]}), "no parameter"),
        (lambda r: r["shapes"].update({WEIGHT: [32, 97]}), "allowed is up to"),
        (lambda r: r["shapes"].update({WEIGHT: [0, 24]}), "allowed is up to"),
        (lambda r: r["shapes"].update({WEIGHT: [-1, 24]}), "allowed is up to"),
        (lambda r: r["shapes"].update({WEIGHT: [24]}), "allowed is up to"),
        (lambda r: r["shapes"].update({WEIGHT: ["32", "24"]}), "allowed is up to"),
        (lambda r: r["shapes"].update({WEIGHT: [True, 24]}), "allowed is up to"),
        (lambda r: r["shapes"].update({WEIGHT: 7}), "cannot be loaded"),
        (lambda r: r["shapes"].update({WEIGHT: None}), "cannot be loaded"),
        (lambda r: r["numbers"].update({"nowhere": {"num_heads": 2}}), "no module"),
        (lambda r: r["numbers"].update({ATTENTION: {"num_heads": "2"}}), "num_heads"),
        (lambda r: r["numbers"].update({ATTENTION: {"num_heads": -2}}), "num_heads"),
        (lambda r: r["numbers"].update({ATTENTION: {"forward": 2}}), "forward"),
        (lambda r: r["numbers"].update({ATTENTION: {"__class__": 2}}), "__class__"),
        (lambda r: r["numbers"].update({ATTENTION: "import os"}), "cannot be loaded"),
        (lambda r: r["config"].update({ATTENTION: {"_name_or_path": 3}}), "_name_or_path"),
        (lambda r: r.update(shapes="import os"), "cannot be loaded"),
        (lambda r: r.update(shapes=["a"]), "cannot be loaded"),
        (lambda r: r.clear(), "does not fit|cannot be loaded"),
    ],
)
def test_sizes_that_were_tampered_with(change, message, tmp_path):
    reshaped_folder(tmp_path / "a")
    rewrite(tmp_path / "a", change)
    with pytest.raises(ValueError, match=message) as caught:
        resprout.load(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_manifest_of_another_cut(tmp_path):
    reshaped_folder(tmp_path / "a")
    other = tiny("gpt2")
    cut = resprout.prune(other, "heads-random", 0.3, cut="remove")
    resprout.save(other, cut, tmp_path / "b")
    (tmp_path / "b" / MANIFEST).replace(tmp_path / "a" / MANIFEST)
    with pytest.raises(ValueError, match=r"has the cut\.json of another cut"):
        resprout.load(tmp_path / "a")


def test_sizes_from_the_manifest_alone(tmp_path):
    """Whoever writes config.json anew may lose the field; the manifest has it too."""
    model = reshaped_folder(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    del config["reshaped"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert same_bits(resprout.load(tmp_path / "a")[0], model)


def test_weights_that_the_cut_has_not(tmp_path):
    reshaped_folder(tmp_path / "a")
    file = tmp_path / "a" / "model.safetensors"
    tensors = read(file)
    save_file(tensors | {"transformer.h.0.attn.more": torch.ones(2)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="has weights that its cut has not"):
        resprout.load(tmp_path / "a")
    tensors.pop(WEIGHT)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"does not fit its configuration.*c_attn"):
        resprout.load(tmp_path / "a")


def test_manifests_that_are_no_manifests(tmp_path):
    cut = resprout.prune(tiny("llama"), "heads-random", 0.5)
    cut.save(tmp_path)
    good = json.loads((tmp_path / MANIFEST).read_text())
    groups = good["groups"]
    for change in (
        {"format": 1},
        {"groups": None},
        {"groups": [groups[0] | {"kept": "0-99"}]},
        {"groups": [groups[0] | {"kept": "2,1"}]},
        {"groups": [groups[0] | {"kept": "-1"}]},
        {"groups": [groups[0] | {"kept": 3}]},
        {"shapes": {"a": [2]}},
        {"shapes": 3},
    ):
        (tmp_path / MANIFEST).write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=r"cut|kept") as caught:
            resprout.Cut.load(tmp_path)
        assert "\n" not in str(caught.value)
    for text in ("[]", "{", "", "null"):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match=r"cut\.json"):
            resprout.Cut.load(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(good))
    assert resprout.Cut.load(tmp_path).manifest() == cut.manifest()


def test_what_was_calibrated_on_stands_in_the_manifest(tmp_path):
    cut = resprout.prune(tiny("llama"), "wanda", 0.5, calibration=some_ids(batch=3, length=10))
    cut.save(tmp_path)
    found = resprout.Cut.load(tmp_path)
    assert found.calibration == cut.calibration
    assert cut.calibration["windows"] == 3
    assert cut.calibration["tokens_per_window"] == 10
    assert len(cut.calibration["digest"]) == 16
