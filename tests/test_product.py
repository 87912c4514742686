"""Large fp32 products of training through oneDNN: the usual numbers, in every way torch derives."""

import pytest
import torch
import torch.nn.functional as F

from biogpt_models import tiny
from resprout.models.biogpt import product
from resprout.models.biogpt.linear import Linear

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def every_product(monkeypatch):
    """Products of any size take that way, whichever processor this is."""
    monkeypatch.setattr(product, "mkl_leaves_avx512", lambda: True)
    monkeypatch.setattr(product, "LARGE", 0)


def operands(rows=(2, 7), width=24, out=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*rows, width, generator=generator, requires_grad=True)
    weight = torch.randn(out, width, generator=generator, requires_grad=True)
    return x, weight


@pytest.mark.parametrize("rows", [(1,), (2, 7), (3, 1, 5), (257,)])
def test_it_equals_the_product_in_double_precision_and_so_do_its_derivatives(rows):
    x, weight = operands(rows)
    grad = torch.randn(*rows, 40)
    y = product.multiply(x, weight)
    y.backward(grad)
    x64, weight64 = (t.detach().double().requires_grad_() for t in (x, weight))
    F.linear(x64, weight64).backward(grad.double())
    torch.testing.assert_close(y.double(), F.linear(x64, weight64), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x.grad.double(), x64.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weight.grad.double(), weight64.grad, atol=1e-4, rtol=1e-5)


def test_rows_that_do_not_lie_side_by_side():
    x, weight = operands()
    turned = x.detach().transpose(0, 1).requires_grad_()
    torch.testing.assert_close(product.multiply(turned, weight), F.linear(turned, weight))


def test_a_frozen_weight_gets_no_gradient():
    x, weight = operands()
    weight.requires_grad_(False)
    product.multiply(x, weight).sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(x.grad, weight.sum(0).expand_as(x))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, of its own
def test_derivatives_of_derivatives_forward_mode_and_batches():
    x, weight = operands()

    def squared(x, weight, by):
        return by(x, weight).square().sum()

    def second(by):
        (first,) = torch.autograd.grad(squared(x, weight, by), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    torch.testing.assert_close(second(product.multiply), second(F.linear), rtol=1e-4, atol=1e-2)
    both = (x.detach(), weight.detach()), (torch.ones_like(x), torch.ones_like(weight))
    for ours, theirs in zip(
        torch.func.jvp(product.multiply, *both), torch.func.jvp(F.linear, *both), strict=True
    ):
        torch.testing.assert_close(ours, theirs)

    def of_each(by):
        gradient = torch.func.grad(lambda w, x: squared(x, w, by))
        return torch.vmap(gradient, in_dims=(None, 0))(weight.detach(), x.detach())

    torch.testing.assert_close(of_each(product.multiply), of_each(F.linear), rtol=1e-4, atol=1e-3)


def test_only_training_in_fp32_on_a_cpu_takes_it(monkeypatch):
    taken = []
    original = product.multiply
    monkeypatch.setattr(
        "resprout.models.biogpt.linear.multiply",
        lambda *given: taken.append(given) or original(*given),
    )
    x, layer = torch.randn(8, 16), Linear(16, 4)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert len(taken) == 1
    with torch.no_grad():  # what is measured of models that are compared stays on one library
        layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
    Linear(16, 4, dtype=torch.bfloat16)(x.bfloat16())
    Linear(16, 4, dtype=torch.float64)(x.double())
    with monkeypatch.context() as without:
        without.setattr(torch.backends.mkldnn, "enabled", False)
        layer(x)
    monkeypatch.setattr(product, "LARGE", 8 * 16 * 4)
    layer(x)
    assert len(taken) == 1
    monkeypatch.setattr(product, "LARGE", 8 * 16 * 4 - 1)
    layer(x)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("about", "left"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n", True),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n", False),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 26\nmodel\t\t: 143\n", False),
        ("AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD", True),
        ("vendor_id\t: AuthenticAMD\n", False),
        ("", False),
    ],
)
def test_processors_by_what_the_system_says(about, left):
    assert product.leaves_avx512(about) == left


def test_training_a_model_through_it_gives_the_gradients_of_the_usual_way(monkeypatch):
    model = tiny()
    ids = torch.randint(model.config.vocab_size, (2, 30))

    def gradients():
        model.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    loss, ours = gradients()
    monkeypatch.setattr(product, "mkl_leaves_avx512", lambda: False)
    usual_loss, usual = gradients()
    torch.testing.assert_close(loss, usual_loss)
    assert ours.keys() == usual.keys()
    for name, gradient in usual.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
