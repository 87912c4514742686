"""BioGPT as a transformers model: embeddings, cortical layers, optional second pass, head.

Shapes: B batch, T time, D model width, V vocabulary.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .cache import adopt
from .configuration import BioGPTConfig
from .feedback import FeedbackConnection
from .linear import Linear, as_it_lies
from .neurons import CorticalLayer
from .start_values import start_values


class BioGPTPreTrainedModel(PreTrainedModel):
    """What all BioGPT models share: the configuration class and the start values."""

    config_class = BioGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CorticalLayer"]  # noqa: RUF012 (transformers wants a list)
    _supports_sdpa = True
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        start_values(module, self.config)


class BioGPTModel(BioGPTPreTrainedModel):
    """Embeddings and cortical layers, up to the last LayerNorm."""

    def __init__(self, config: BioGPTConfig):
        super().__init__(config)
        D = config.hidden_size
        self.token_emb = nn.Embedding(config.vocab_size, D)
        self.pos_emb = nn.Embedding(config.max_position_embeddings, D)
        layout = config.cortical_layout or []
        self.neurons_per_pass = sum(map(len, layout))
        self.layers = nn.ModuleList(CorticalLayer(config, entries) for entries in layout)
        # Present (and counted) with one pass too, as published; used only with two.
        self.feedback_connections = nn.ModuleDict(
            {
                f"fb_{source}_to_{target}": FeedbackConnection(config)
                for source, target in config.feedback_pairs or []
            }
        )
        self.pass_weights = nn.Parameter(torch.empty(2)) if config.n_passes == 2 else None
        self.ln_f = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.token_emb

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        assert isinstance(value, nn.Embedding)
        self.token_emb = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the layers over T new positions.

        Args:
            input_ids: (B, T) token ids; or give `inputs_embeds`, (B, T, D).
            attention_mask: (B, S), 0 = padding, S counting the cached positions too; left or right
                padding, no gaps.
            position_ids: (B, T); None = counted from the attention mask.
            past_key_values: an empty cache, or one that this model has filled.
            use_cache: return a cache; None = the configuration's, and no cache while training.
            output_hidden_states: also return the input and every layer's output, L + 1 tensors of
                (B, T, D), the last one after the last LayerNorm; with two passes those of the
                second.
            kwargs: accepted for transformers' callers (`return_dict`).

        Returns:
            `last_hidden_state` (B, T, D), after the last LayerNorm, and `past_key_values`.

        Raises:
            ValueError: more positions than `max_position_embeddings`, neither or both inputs,
                a cache of another model, or attentions asked for.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if kwargs.get("output_attentions"):
            raise ValueError("output_attentions: got True, BioGPT does not keep attention weights")
        x = self.token_emb(input_ids) if inputs_embeds is None else inputs_embeds
        if x.shape[1] == 0:
            raise ValueError("input_ids: got 0 positions, allowed is 1 or more")
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if self.gradient_checkpointing and self.training:
            use_cache, past_key_values = False, None
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        if past_key_values is not None:
            adopt(past_key_values, self.config.n_passes * self.neurons_per_pass)
        positions, token_mask = self._place(x, attention_mask, position_ids, past_key_values)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=x,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
        )
        x = x + self.pos_emb(positions)
        states = self._run(x, mask, token_mask, past_key_values, first_cell=0)
        x = states[-1]
        if self.pass_weights is not None:
            enriched = states[0]
            for source, target in self.config.feedback_pairs or []:
                connection = self.feedback_connections[f"fb_{source}_to_{target}"]
                enriched = connection(enriched, states[source + 1])
            again = self._run(enriched, mask, token_mask, past_key_values, self.neurons_per_pass)
            share = torch.softmax(self.pass_weights, dim=0)
            x = share[0] * states[-1] + share[1] * again[-1]
            states = again
        x = self.ln_f(x)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values if use_cache else None,
            hidden_states=(*states[:-1], x) if output_hidden_states else None,
        )

    def _run(
        self,
        x: Tensor,
        mask: Tensor | None,
        token_mask: Tensor | None,
        past_key_values: Cache | None,
        first_cell: int,
    ) -> list[Tensor]:
        """One pass: the input and every layer's output, each (B, T, D)."""
        states = [x]
        with nullcontext() if torch.compiler.is_compiling() else as_it_lies(x):
            for layer in self.layers:
                x = layer(
                    x,
                    mask,
                    token_mask,
                    past_key_values=past_key_values,
                    first_cell=first_cell,
                )
                states.append(x)
                assert isinstance(layer, CorticalLayer)
                first_cell += len(layer.neurons)
        return states

    def _place(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        positions: Tensor | None,
        past_key_values: Cache | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Position ids, (B or 1, T), and which of the new positions are tokens, (B, T) or None."""
        T, limit = x.shape[1], self.config.max_position_embeddings
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        padded = attention_mask is not None and attention_mask.ndim == 2
        if padded and not torch.compiler.is_compiling():
            assert attention_mask is not None
            padded = not bool(attention_mask.all())
        token_mask = None
        if padded:
            assert attention_mask is not None
            # Of a static cache's whole room, a mask may cover more than has been written.
            upto = past + T if isinstance(past, int) else attention_mask.shape[1]
            token_mask = attention_mask[:, upto - T : upto].bool()
        if positions is None:
            if padded and attention_mask is not None:
                positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, upto - T : upto]
            else:
                positions = (torch.arange(T, device=x.device) + past)[None]
        if not torch.compiler.is_compiling():
            # Counted without a look at the tensor where possible: on a GPU a look waits for it.
            countable = isinstance(past, int) and not padded and positions.device.type != "cpu"
            last = past + T if countable else int(positions.max()) + 1
            if last > limit:
                raise ValueError(
                    f"input_ids: got {last} positions, allowed are up to "
                    f"max_position_embeddings={limit}"
                )
        return positions, token_mask


class BioGPTForCausalLM(BioGPTPreTrainedModel, GenerationMixin):
    """BioGPT with its language-model head (not tied to the embedding, no bias)."""

    def __init__(self, config: BioGPTConfig):
        super().__init__(config)
        self.model = BioGPTModel(config)
        self.lm_head: nn.Linear = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The language-model head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language-model head."""
        assert isinstance(new_embeddings, nn.Linear)
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V) and, with `labels` (B, T; -100 = ignored), the shifted causal loss.

        The other arguments, and the errors, are those of `BioGPTModel.forward`.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            output_attentions=kwargs.pop("output_attentions", None),
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )

    def _validate_generated_length(
        self,
        generation_config: GenerationConfig,
        input_ids_length: int,
        has_default_max_length: bool,
    ) -> None:
        """Refuse a length that has no positions before generating, rather than in its middle.

        transformers only warns. The last token generated is never read: it needs no position.
        """
        limit = self.config.max_position_embeddings
        if (generation_config.max_length or 0) > limit + 1:
            raise ValueError(
                f"max_length: got {generation_config.max_length} tokens (prompt of "
                f"{input_ids_length} and new ones), allowed are up to "
                f"max_position_embeddings={limit} and one more"
            )
        super()._validate_generated_length(
            generation_config, input_ids_length, has_default_max_length
        )
