"""Anything at all given as an option, an amount or a layout: an answer or one line."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from resprout.models.biogpt import BioGPTConfig
from resprout.pruning.amounts import check_amount, counts_to_keep, parse_pattern
from resprout.pruning.methods import METHODS
from resprout.pruning.options import read_options
from resprout.train.options import TrainingOptions, check_distillation, training_options
from resprout.train.schedules import SCHEDULES, amount_at

SMALL = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["mask", "remove", "global", "2:4", "head", "fair", "group", 0.5])
)  # fmt: skip
ANYTHING = st.recursive(
    SMALL,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
OPTIONS = (
    "cut", "scope", "expansion_rate", "round_to", "head_unit", "seed", "protocol",
    "dead_threshold", "dead_unit",
)  # fmt: skip


def answered(call, *arguments, **options):
    """The answer, or None after a refusal in one line."""
    try:
        return call(*arguments, **options)
    except ValueError as error:
        line = str(error)
        assert line and "\n" not in line
        return None


@given(amount=ANYTHING)
def test_an_amount_is_a_fraction_or_refused(amount):
    real = isinstance(amount, int | float) and not isinstance(amount, bool)
    fine = real and 0 <= amount <= 1
    try:
        check_amount(amount)
    except ValueError as error:
        assert not fine and "amount: got" in str(error)
    else:
        assert fine


@settings(max_examples=150)
@given(
    method=st.sampled_from([*METHODS, "2:4", "wanda-2:4"]) | ANYTHING,
    amount=st.floats(0, 1) | ANYTHING,
    options=st.dictionaries(st.sampled_from(OPTIONS), ANYTHING, max_size=3),
)
def test_options_of_a_cut(method, amount, options):
    found = answered(read_options, method, amount, **options)
    if found is not None:
        assert found.method.name in METHODS
        assert found.amount is None or 0 <= found.amount <= 1
        assert (found.amount is None) == (found.expansion_rate is not None)


@given(text=ANYTHING)
def test_a_pattern(text):
    found = answered(parse_pattern, text)
    assert found is None or 1 <= found[0] < found[1]


@given(rate=ANYTHING, count=st.integers(1, 10**6), width=st.integers(1, 10**5))
def test_an_expansion_rate(rate, count, width):
    found = answered(counts_to_keep, [count], rate, [width])
    if found is not None:
        assert 1 <= found[0] <= count
        assert found[0] == max(1, math.ceil(rate / 100 * width - 1e-9))


@given(numbers=st.dictionaries(st.sampled_from(list(TrainingOptions.model_fields)), ANYTHING))
def test_numbers_of_a_training(numbers):
    found = answered(training_options, **({"steps": 1, "learning_rate": 1e-3} | numbers))
    if found is not None:
        assert found.steps >= 0 and found.learning_rate > 0 and math.isfinite(found.learning_rate)


@given(temperature=ANYTHING, weight=ANYTHING)
def test_numbers_of_a_distillation(temperature, weight):
    try:
        check_distillation(temperature, weight)
    except ValueError as error:
        assert "got" in str(error)
    else:
        assert temperature > 0 and 0 <= weight <= 1


@given(
    schedule=st.sampled_from(SCHEDULES) | ANYTHING,
    values=st.lists(ANYTHING, min_size=4, max_size=4),
)
def test_a_schedule(schedule, values):
    found = answered(amount_at, schedule, *values)
    assert found is None or 0 <= found <= 1


LAYERS = st.lists(
    st.integers(-2, 90) | st.lists(st.integers(-2, 30), max_size=3) | ANYTHING, max_size=3
)


@settings(max_examples=200)
@given(
    layout=st.lists(LAYERS | ANYTHING, max_size=4) | ANYTHING,
    pairs=st.lists(st.lists(st.integers(-1, 4), max_size=3) | ANYTHING, max_size=2) | ANYTHING,
    width=st.integers(-3, 48) | ANYTHING,
)
def test_a_layout(layout, pairs, width):
    found = answered(
        BioGPTConfig,
        hidden_size=width,
        num_hidden_layers=len(layout) if isinstance(layout, list) else 2,
        cortical_layout=layout,
        feedback_pairs=pairs,
    )
    if found is not None:
        assert len(found.cortical_layout) == found.num_hidden_layers
        assert all(len(layer) > 0 for layer in found.cortical_layout)
