"""BioGPT's cache and generation: the same as without a cache, in every mode of both."""

import pytest
import torch
from transformers import DynamicCache, QuantizedCache, StaticCache

from biogpt_models import MODES, tiny
from resprout.models.biogpt.cache import NeuronCache

modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def prompt(rows=1, length=6, vocabulary=61):
    return torch.randint(1, vocabulary, (rows, length))


def greedy(model, ids, **options):
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0,
               "eos_token_id": None} | options  # fmt: skip
    options.setdefault("attention_mask", torch.ones_like(ids))
    return model.generate(ids, **options)


@modes
@pytest.mark.parametrize("batch", [1, 3])
def test_cached_equals_uncached_over_200_tokens(mode, batch):
    model = tiny(max_position_embeddings=208, num_hidden_layers=4, **mode)
    ids = prompt(batch, 207)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits
        out = model(input_ids=ids[:, :7])
        got = [out.logits]
        for t in range(7, 207):
            out = model(input_ids=ids[:, t : t + 1], past_key_values=out.past_key_values)
            got.append(out.logits)
    torch.testing.assert_close(torch.cat(got, dim=1), expected, atol=1e-4, rtol=1e-4)


@modes
def test_pieces_of_any_length_continue_the_cache(mode):
    model = tiny(**mode)
    ids = prompt(2, 30)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits
        cache, got = DynamicCache(config=model.config), []
        for piece in ids.split([1, 2, 9, 3, 15], dim=1):
            got.append(model(input_ids=piece, past_key_values=cache).logits)
    torch.testing.assert_close(torch.cat(got, dim=1), expected, atol=1e-4, rtol=1e-4)


@modes
def test_left_padded_batches_generate_the_text_of_each_alone(mode):
    model = tiny(**mode)
    rows = [prompt(1, length) for length in (9, 5, 2)]
    padded = torch.zeros(3, 9, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for row, ids in enumerate(rows):
        padded[row, 9 - ids.shape[1] :] = ids
        mask[row, 9 - ids.shape[1] :] = 1
    for use_cache in (True, False):
        got = greedy(model, padded, attention_mask=mask, use_cache=use_cache)[:, 9:]
        for row, ids in enumerate(rows):
            assert got[row].tolist() == greedy(model, ids)[0, ids.shape[1] :].tolist()


@modes
def test_beam_search_with_and_without_cache(mode):
    model = tiny(**mode)
    ids = prompt(2)
    options = {"num_beams": 4, "num_return_sequences": 2}
    with_cache = greedy(model, ids, use_cache=True, **options)
    assert with_cache.tolist() == greedy(model, ids, use_cache=False, **options).tolist()


def test_sampling_with_and_without_cache():
    model = tiny()
    ids, texts = prompt(2), []
    for use_cache in (True, False):
        torch.manual_seed(3)
        texts.append(greedy(model, ids, do_sample=True, top_k=20, use_cache=use_cache).tolist())
    assert texts[0] == texts[1]


@modes
def test_assisted_decoding_gives_the_greedy_text(mode):
    model, assistant = tiny(**mode), tiny(num_hidden_layers=2, **mode)
    ids = prompt()
    assert greedy(model, ids, assistant_model=assistant).tolist() == greedy(model, ids).tolist()
    repeats = torch.tensor([[5, 6, 7, 5, 6, 7, 5, 6]])
    found = greedy(model, repeats, prompt_lookup_num_tokens=3)
    assert found.tolist() == greedy(model, repeats).tolist()


@modes
def test_a_static_cache_gives_the_same_text(mode):
    model = tiny(**mode)
    ids = prompt(2)
    assert (
        greedy(model, ids, cache_implementation="static", disable_compile=True).tolist()
        == greedy(model, ids).tolist()
    )
    cache = StaticCache(config=model.config, max_cache_len=20)
    for _ in range(2):
        with torch.inference_mode():
            whole = model(input_ids=ids, use_cache=False).logits
            first = model(input_ids=ids[:, :4], past_key_values=cache).logits
            rest = model(input_ids=ids[:, 4:], past_key_values=cache).logits
            cache.reset()
        torch.testing.assert_close(torch.cat([first, rest], 1), whole, atol=1e-4, rtol=1e-4)


def test_generation_from_embeddings_is_that_from_ids():
    model = tiny()
    ids = prompt()
    embeds = model.get_input_embeddings()(ids)
    got = model.generate(inputs_embeds=embeds, attention_mask=torch.ones_like(ids),
                         max_new_tokens=12, do_sample=False, pad_token_id=0,
                         eos_token_id=None)  # fmt: skip
    assert got.tolist() == greedy(model, ids)[:, 6:].tolist()


@modes
def test_a_cropped_cache_is_that_of_the_shorter_text(mode):
    model = tiny(**mode)
    ids, other = prompt(2, 20), prompt(2, 5)
    with torch.inference_mode():
        past = model(input_ids=ids[:, :9]).past_key_values
        for t in range(9, 20):
            model(input_ids=ids[:, t : t + 1], past_key_values=past)
        past.crop(-13)
        assert past.get_seq_length() == 7
        got = model(input_ids=other, past_key_values=past).logits
        text = torch.cat([ids[:, :7], other], dim=1)
        expected = model(input_ids=text, use_cache=False).logits[:, 7:]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_rows_of_a_cache_can_be_repeated_and_chosen():
    model = tiny(nmda="trace")
    ids, following = prompt(2, 9), prompt(3, 1)
    with torch.inference_mode():
        past = model(input_ids=ids).past_key_values
        past.batch_repeat_interleave(2)
        past.batch_select_indices(torch.tensor([0, 2, 3]))
        got = model(input_ids=following, past_key_values=past).logits
        text = torch.cat([ids[[0, 1, 1]], following], dim=1)
        expected = model(input_ids=text).logits[:, -1:]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_cache_grows_in_place():
    cache = NeuronCache()
    new = torch.randn(1, 2, 1, 3)
    cache.update(torch.randn(1, 2, 4, 3), torch.randn(1, 2, 4, 3))
    cache.update(new, new)
    first = cache.keys.data_ptr()
    for _ in range(100):
        keys, _ = cache.update(new, new)
    assert keys.data_ptr() == first
    assert keys.shape == (1, 2, 105, 3)


def test_a_cache_can_be_trained_through():
    model = tiny(n_passes=2, nmda="trace")
    ids = prompt(1, 8)
    grads = []
    for split in (8, 5):
        model.zero_grad()
        first = model(input_ids=ids[:, :split], use_cache=True)
        logits = first.logits
        if split < 8:
            past = first.past_key_values
            rest = model(input_ids=ids[:, split:], past_key_values=past, use_cache=True)
            logits = torch.cat([logits, rest.logits], dim=1)
        torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_a_foreign_cache_is_refused():
    model = tiny()
    other = DynamicCache()
    other.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    with pytest.raises(ValueError, match="another model's cache"):
        model(input_ids=prompt(), past_key_values=other)
    with pytest.raises(ValueError, match="past_key_values: got layers of Sliding"):
        from transformers.cache_utils import DynamicSlidingWindowLayer

        class SlidingLayer(DynamicSlidingWindowLayer):
            pass

        cache = DynamicCache()
        cache.layers = [SlidingLayer(sliding_window=4)]
        model(input_ids=prompt(), past_key_values=cache)
    assert QuantizedCache  # its layers are refused in the same way


def test_positions_beyond_the_limit_are_refused_before_generating():
    model = tiny()
    ids = prompt(1, 6)
    assert greedy(model, ids, max_new_tokens=27).shape[1] == 33  # the last token needs no position
    with pytest.raises(ValueError, match=r"max_length: got 34.*max_position_embeddings=32"):
        greedy(model, ids, max_new_tokens=28)
    with torch.inference_mode():
        past = model(input_ids=prompt(1, 32)).past_key_values
        with pytest.raises(ValueError, match=r"got 33 positions.*max_position_embeddings=32"):
            model(input_ids=prompt(1, 1), past_key_values=past)
