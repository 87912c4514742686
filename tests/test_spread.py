"""Models spread over devices: refused where they cannot be had, equal where they can."""

import pytest
import torch

import resprout
from resprout.models.sizes import build, configuration
from resprout.models.spread import refuse_offloaded, refuse_spread


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": "auto", "device": "cpu"}, "device: got 'cpu' with a device_map"),
        ({"device_map": "atuo"}, "device_map: got 'atuo', allowed are auto, .*mean 'auto'"),
    ],
)
def test_bad_maps_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        resprout.load(tmp_path, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is told without a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path):
    with pytest.raises(ValueError, match="device_map: got 'auto', allowed on a machine with a GPU"):
        resprout.load(tmp_path, device_map="auto")


def test_a_size_has_no_weights_to_spread():
    with pytest.raises(ValueError, match="device_map: got 'gpt2-nano', allowed is a model of"):
        resprout.load("gpt2-nano", device_map={"": "cpu"})


def test_a_mapping_gives_the_same_model(shared):
    folder = shared / "models" / "stories260K"
    plain, _ = resprout.load(folder)
    mapped, tokenizer = resprout.load(folder, device_map={"": "cpu"})
    ids = tokenizer("Once upon a time", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, mapped(ids).logits)


@pytest.fixture
def half_elsewhere():
    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    model.get_output_embeddings().to("meta")
    return model


def test_what_is_spread_is_not_cut_or_trained(half_elsewhere):
    with pytest.raises(ValueError, match="spread over cpu, meta, allowed for cutting is one"):
        resprout.prune(half_elsewhere, "magnitude", 0.5)
    with pytest.raises(ValueError, match="allowed for training is one on a single device"):
        refuse_spread(half_elsewhere, "training")


def test_what_does_not_fit_is_refused(half_elsewhere):
    half_elsewhere.hf_device_map = {"gpt_neox": 0, "lm_head": "disk"}
    with pytest.raises(ValueError, match="'x' does not fit the GPUs: 1 of its modules"):
        refuse_offloaded(half_elsewhere, "x")


@pytest.mark.gpu
def test_auto_on_gpus_gives_the_same_loss(shared):
    folder = shared / "models" / "stories260K"
    plain, tokenizer = resprout.load(folder)
    spread, _ = resprout.load(folder, device_map="auto")
    ids = tokenizer("Once upon a time, there was a little", return_tensors="pt").input_ids
    with torch.no_grad():
        got = spread(ids.to(spread.device)).logits.cpu()
        torch.testing.assert_close(got, plain(ids).logits, atol=1e-3, rtol=1e-3)
