"""SparseGPT through whole models: block by block, and against the other methods in loss."""

import pytest
import torch

import resprout
from families import subject
from resprout.pruning.adapters import adapter_for
from resprout.pruning.sparsegpt import sparsegpt
from test_weight_methods import IDS, as_rows, holders, prunable, reading


@pytest.mark.parametrize("name", ["gpt2", "llama", "phi3", "dendritic_biogpt"])
@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_sparsegpt_block_by_block(name, pattern):
    """The pure function, Hessians from plain hooks, in a model whose blocks are cut in order."""
    slow = subject(name)
    modules = holders(slow)
    for block in adapter_for(slow).blocks():
        own = {id(p) for p in block.parameters()}
        names = [n for n, p in prunable(slow).items() if id(p) in own]
        read = reading(slow, {modules[n] for n in names})
        for place in names:
            rows = as_rows(modules[place], slow.get_parameter(place))
            for g, inputs in enumerate(read[modules[place]]):
                X = torch.stack(inputs)  # (c, n)
                amount = 0.5 if pattern is None else None
                rows[g] = sparsegpt(rows[g], (X @ X.T).float(), amount=amount, pattern=pattern)[0]
    fast = subject(name)
    method = "sparsegpt" if pattern is None else "sparsegpt-2:4"
    cut = resprout.prune(fast, method, None if pattern else 0.5, calibration=IDS)
    for place, mask in cut.masks.items():
        ours, theirs = fast.get_parameter(place), slow.get_parameter(place)
        assert not ours[~mask].any()
        # Hessians summed in another order: a close call may fall the other way.
        assert ((ours == 0) == (theirs == 0)).float().mean() > 0.99, place
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 0.05, (place, error)
    for place in {n for n, p in fast.named_parameters() if id(p) in first(fast)} & set(cut.masks):
        ours, theirs = fast.get_parameter(place), slow.get_parameter(place)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def first(model):
    return {id(p) for p in adapter_for(model).blocks()[0].parameters()}


def stories_text():
    """What stories260K writes at temperature 1: (32, 128) tokens to calibrate on, as many more."""
    model = subject("stories260K")
    ids = torch.full((64, 1), model.config.bos_token_id)
    generator, cache_, new = torch.Generator().manual_seed(0), None, ids
    with torch.inference_mode():
        while ids.shape[1] < 128:
            out = model(new, past_key_values=cache_, use_cache=True)
            cache_ = out.past_key_values
            new = torch.multinomial(out.logits[:, -1].softmax(-1), 1, generator=generator)
            ids = torch.cat([ids, new], dim=1)
    return ids.clone().split(32)


@torch.inference_mode()
def loss_on(model, ids):
    return float(model(input_ids=ids, labels=ids, use_cache=False).loss)


@pytest.mark.slow
def test_sparsegpt_beats_wanda_beats_magnitude(shared):
    """Loss on held-out text of the model itself at 50 %, each in its own scope and alike."""
    calibration, held_out = stories_text()
    losses = {"uncut": loss_on(subject("stories260K"), held_out)}
    for method, scope in (
        ("random", "per_row"), ("magnitude", "per_row"), ("magnitude", "global"),
        ("wanda", "per_row"), ("sparsegpt", "per_layer"),
    ):  # fmt: skip
        model = subject("stories260K")
        cut = resprout.prune(model, method, 0.5, scope=scope, calibration=calibration)
        assert cut.achieved == pytest.approx(0.5, abs=1e-3)
        losses[f"{method} {scope}"] = loss_on(model, held_out)
    assert losses["uncut"] < losses["sparsegpt per_layer"] < losses["wanda per_row"]
    assert losses["wanda per_row"] < losses["magnitude per_row"] < losses["random per_row"]
    assert losses["sparsegpt per_layer"] < losses["magnitude global"]
