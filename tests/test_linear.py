"""The linear layer that decodes: torch's own numbers, whichever way it goes."""

import pytest
import torch
from torch import nn

from resprout.models.biogpt.linear import Linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1,), (2, 1), (1, 3), (6, 1), (2, 5), (0, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("out_features", [48, 61, 2])
def test_equals_torchs_linear(bias, shape, dtype, tolerance, out_features):
    ours = Linear(24, out_features, bias=bias).to(dtype)
    x = torch.randn(*shape, 24).to(dtype)
    theirs = nn.Linear(24, out_features, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    expected = theirs(x.double())
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = ours(x)
        assert found.dtype == dtype
        assert found.is_contiguous()
        torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


def test_onednn_is_left_as_it_was():
    before = torch.backends.mkldnn.enabled
    layer, row = Linear(24, 48).bfloat16(), torch.randn(1, 24).bfloat16()
    with torch.inference_mode():
        for enabled in (True, False):
            torch.backends.mkldnn.enabled = enabled
            layer(row)
            assert torch.backends.mkldnn.enabled == enabled
            with pytest.raises(RuntimeError):
                layer(row[:, :, None].expand(1, 24, 2)[..., :1, 0])  # does not fit
            assert torch.backends.mkldnn.enabled == enabled
    torch.backends.mkldnn.enabled = before


def test_a_shared_or_transposed_matrix_is_used_as_it_is():
    layer = Linear(24, 24, bias=False)
    matrix = torch.randn(24, 24)
    layer.weight = nn.Parameter(matrix.T)
    with torch.inference_mode():
        row = torch.randn(1, 24)
        torch.testing.assert_close(layer(row), row @ matrix, atol=1e-5, rtol=1e-5)


def test_under_autocast_products_are_bf16():
    layer = Linear(24, 48)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 24)).dtype == torch.bfloat16
