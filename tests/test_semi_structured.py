"""2:4 on a GPU; on a CPU it is refused, and what is 2:4 is known without one."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import resprout
from resprout.pruning.semi_structured import is_two_of_four, to_semi_structured


def model():
    config = LlamaConfig(
        vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_a_cpu_is_refused_and_nothing_changes():
    cut = model()
    resprout.prune(cut, "2:4")
    before = cut.state_dict()
    with pytest.raises(ValueError, match="CUDA device"):
        to_semi_structured(cut)
    assert all(torch.equal(before[name], value) for name, value in cut.state_dict().items())


@pytest.mark.parametrize("method", ["2:4", "1:4", "random-2:4"])
def test_what_a_pattern_cuts_is_two_of_four(method):
    cut = model()
    names = resprout.prune(cut, method).prunable_names
    assert all(is_two_of_four(cut.get_parameter(name)) for name in names)


def test_what_is_not_two_of_four():
    assert not is_two_of_four(torch.ones(4, 4))
    assert not is_two_of_four(torch.tensor([[1.0, 1, 0, 0, 1, 1, 1, 0]]))
    assert not is_two_of_four(torch.zeros(2, 6))  # in groups of four only
    assert is_two_of_four(torch.tensor([[0.0, 1, 0, -2, 0, 0, 0, 0]]))


@pytest.mark.gpu
def test_the_same_outputs_on_a_gpu():
    dense = model().to(torch.bfloat16)
    resprout.prune(dense, "2:4")
    dense = dense.cuda()
    sparse = copy.deepcopy(dense)
    assert to_semi_structured(sparse) == 2 * 7
    ids = torch.randint(0, 64, (2, 64), device="cuda")
    with torch.inference_mode():
        torch.testing.assert_close(sparse(ids).logits, dense(ids).logits, rtol=2e-2, atol=2e-2)
