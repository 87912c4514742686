"""Folders without zeros: small, read back to the bit, refused where damaged."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

import resprout
from families import each_name, logits, same_bits, subject, tiny
from resprout.files import DIGESTS
from resprout.models.sparse import SPARSE, read_places, read_sparse, write_sparse
from test_saving import read


def larger(dtype):
    """A few MB, nearly all of it prunable."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=32,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("amount", [0.5, 0.9])
def test_sparse_size(dtype, amount, tmp_path):
    model = larger(dtype)
    cut = resprout.prune(model, "magnitude", amount)
    resprout.save(model, cut, tmp_path / "sparse", sparse=True)
    resprout.save(model, cut, tmp_path / "dense")
    size = dtype.itemsize
    dense = sum(p.numel() for p in model.parameters()) - cut.prunable
    allowed = cut.kept * size + cut.prunable / 8 + dense * size
    found = sum(file.stat().st_size for file in (tmp_path / "sparse").glob("*.safetensors"))
    assert 0.99 * allowed < found < 1.1 * allowed
    whole = sum(file.stat().st_size for file in (tmp_path / "dense").glob("*.safetensors"))
    assert found < (1.1 - amount + 1 / 8 / size) * whole
    assert not (tmp_path / "sparse" / "model.safetensors").exists()
    again, _ = resprout.load(tmp_path / "sparse", dtype="auto")
    assert same_bits(again, model)
    for place, mask in resprout.Cut.load(tmp_path / "sparse").masks.items():
        assert torch.equal(mask, cut.masks[place])


@each_name
def test_sparse_folders_read_back(name, tmp_path):
    """To the bit, -0 too, masks with them; also where a mask holds a zero that it kept."""
    model = subject(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[::7] = -0.0
            parameter.view(-1)[1::11] = 0.0
    cut = resprout.prune(model, "random", 0.3, seed=1)
    resprout.save(model, cut, tmp_path / "a", sparse=True)
    again, _ = resprout.load(tmp_path / "a")
    assert same_bits(again, model)
    assert torch.equal(logits(again), logits(model))
    found = resprout.Cut.load(tmp_path / "a")
    assert found.manifest() == cut.manifest()
    assert found.masks.keys() == cut.masks.keys()
    assert all(torch.equal(found.masks[place], cut.masks[place]) for place in cut.masks)


def test_sparse_after_a_removal(tmp_path):
    model = tiny("gpt2")
    cut = resprout.prune(model, "heads-random", 0.4, cut="remove")
    resprout.save(model, cut, tmp_path / "removed", sparse=True)
    again, _ = resprout.load(tmp_path / "removed")
    assert same_bits(again, model)
    masks = resprout.prune(again, "magnitude", 0.8)
    resprout.save(again, masks, tmp_path / "both", sparse=True)
    last, _ = resprout.load(tmp_path / "both")
    assert same_bits(last, again)
    assert type(last).__name__ == "CutGPT2LMHeadModel"
    dense, _ = resprout.load(tmp_path / "removed")
    assert same_bits(dense, model)


def test_special_values_in_sparse_files(tmp_path):
    nan = torch.tensor([float("nan"), -0.0, 0.0, float("inf"), 1e-45, 0, 0, 0, 0, 0, 0, 0])
    tensors = {
        "a": nan, "b": nan.to(torch.bfloat16).view(3, 4), "full": torch.ones(5),
        "none": torch.empty(0, 3), "zero": torch.zeros(40), "scalar": torch.tensor(2.0),
    }  # fmt: skip
    write_sparse(tmp_path / SPARSE, tensors)
    found = read_sparse(tmp_path / SPARSE)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape
        assert found[name].dtype == tensor.dtype
        assert found[name].flatten().view(torch.uint8).tolist() == (
            tensor.flatten().view(torch.uint8).tolist()
        )
    assert int(read_places(tmp_path / SPARSE)["a"].sum()) == 4


def test_damaged_sparse_files(tmp_path):
    model = tiny("llama")
    cut = resprout.prune(model, "magnitude", 0.5)
    resprout.save(model, cut, tmp_path / "a", sparse=True)
    (tmp_path / "a" / DIGESTS).unlink()  # which would tell of each of them
    file = tmp_path / "a" / SPARSE
    whole = file.read_bytes()
    tensors = read(file)
    name = next(key for key in tensors if key.endswith(".places"))
    shapes = {"format": "pt", "shapes": json.dumps({"x": [4, 4]})}
    damages = [
        lambda: file.write_bytes(whole[: len(whole) // 2]),
        lambda: file.write_bytes(b""),
        lambda: file.write_bytes(b"not a file of tensors at all"),
        lambda: save_file(tensors, file),
        lambda: save_file(tensors, file, shapes),
        lambda: save_file(tensors, file, {"shapes": "no JSON"}),
        lambda: save_file(tensors, file, {"shapes": '["a"]'}),
        lambda: save_file(tensors, file, {"shapes": '{"lm_head.weight": [-1, "a"]}'}),
        lambda: save_file(tensors | {name: tensors[name][1:]}, file, _shapes_of(model, cut)),
        lambda: save_file(tensors | {name: ~tensors[name]}, file, _shapes_of(model, cut)),
    ]
    for damage in damages:
        damage()
        with pytest.raises(ValueError, match="damaged, or not a file of sparse weights") as caught:
            resprout.load(tmp_path / "a")
        assert "\n" not in str(caught.value)
    for damage in damages[:-1]:  # the last has places that are no less places
        damage()
        with pytest.raises(ValueError, match=r"damaged|does not belong") as caught:
            resprout.Cut.load(tmp_path / "a")
        assert "\n" not in str(caught.value)


def _shapes_of(model, cut):
    shapes = {name: list(model.get_parameter(name).shape) for name in cut.masks}
    return {"format": "pt", "shapes": json.dumps(shapes)}
