"""BioGPT as a transformers model: embeddings, cortical layers, optional second pass, head.

Shapes: B batch, T time, D model width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from resprout.models.biogpt.configuration import BioGPTConfig
from resprout.models.biogpt.neurons import CorticalLayer, DendriticNeuron


class FeedbackConnection(nn.Module):
    """Gated feedback: `x0 + sigmoid(G [x0 ; P o]) * LayerNorm(P o)`, all (B, T, D)."""

    def __init__(self, config: BioGPTConfig):
        super().__init__()
        D = config.hidden_size
        self.proj = nn.Linear(D, D, bias=False)
        self.gate = nn.Sequential(nn.Linear(2 * D, D), nn.Sigmoid())
        self.ln = nn.LayerNorm(D, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Enrich the embedding-level input `x` by a late layer's output `source`."""
        projected = self.proj(source)
        return x + self.gate(torch.cat([x, projected], dim=-1)) * self.ln(projected)


class BioGPTPreTrainedModel(PreTrainedModel):
    """What all BioGPT models share: the configuration class and the published start values."""

    config_class = BioGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CorticalLayer"]  # noqa: RUF012 (transformers wants a list)
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier uniform for matrices, 0 for biases, 1 for norm weights, NMDA decay near 0.9."""
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
            init.xavier_uniform_(module.weight)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, DendriticNeuron):
            init.normal_(module.nmda_decay, mean=0.9, std=0.1)
        elif isinstance(module, CorticalLayer):
            init.zeros_(module.neuron_weights)
        elif isinstance(module, BioGPTModel) and module.pass_weights is not None:
            init.zeros_(module.pass_weights)


class BioGPTModel(BioGPTPreTrainedModel):
    """Embeddings and cortical layers, up to the last LayerNorm."""

    def __init__(self, config: BioGPTConfig):
        super().__init__(config)
        D = config.hidden_size
        self.token_emb = nn.Embedding(config.vocab_size, D)
        self.pos_emb = nn.Embedding(config.max_position_embeddings, D)
        layout = config.cortical_layout or []
        self.layers = nn.ModuleList(CorticalLayer(config, counts) for counts in layout)
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
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Run the layers.

        Args:
            input_ids: (B, T) token ids; or give `inputs_embeds`, (B, T, D).
            attention_mask: (B, T), 0 = padding; left or right padding, no gaps.
            output_hidden_states: also return the input and every layer's output, L + 1 tensors.
            kwargs: accepted for transformers' callers (`use_cache=False`, `return_dict`).

        Returns:
            `last_hidden_state` (B, T, D), after the last LayerNorm.

        Raises:
            ValueError: more positions than `max_position_embeddings`, or neither/both inputs.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        x = self.token_emb(input_ids) if inputs_embeds is None else inputs_embeds
        T = x.shape[1]
        limit = self.config.max_position_embeddings
        if limit < T:
            raise ValueError(
                f"input_ids: got {T} positions, allowed are up to max_position_embeddings={limit}"
            )
        attention, token_mask, positions = _masks(attention_mask, T, x.device)
        x = x + self.pos_emb(positions)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], attention, token_mask))
        x = states[-1]
        if self.pass_weights is not None:
            enriched = states[0]
            for source, target in self.config.feedback_pairs or []:
                connection = self.feedback_connections[f"fb_{source}_to_{target}"]
                enriched = connection(enriched, states[source + 1])
            again = [enriched]
            for layer in self.layers:
                again.append(layer(again[-1], attention, token_mask))
            share = torch.softmax(self.pass_weights, dim=0)
            x = share[0] * states[-1] + share[1] * again[-1]
            states = again
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return BaseModelOutput(
            last_hidden_state=self.ln_f(x),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


def _masks(
    attention_mask: Tensor | None, T: int, device: torch.device
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Attention mask (B, 1, T, T) or None, token mask (B, T) or None, position ids."""
    positions = torch.arange(T, device=device)
    if attention_mask is None or bool(attention_mask.all()):
        return None, None, positions
    token_mask = attention_mask.bool()
    causal = positions[None, :] <= positions[:, None]  # (T, T)
    allowed = causal & token_mask[:, None, None, :]
    # A padding row attends to itself alone: an empty row would be NaN.
    allowed = allowed | torch.eye(T, dtype=torch.bool, device=device)
    return allowed, token_mask, (token_mask.long().cumsum(-1) - 1).clamp(min=0)


class BioGPTForCausalLM(BioGPTPreTrainedModel, GenerationMixin):
    """BioGPT with its language-model head (not tied to the embedding, no bias)."""

    def __init__(self, config: BioGPTConfig):
        super().__init__(config)
        self.model = BioGPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
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
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Logits (B, T, V) and, with `labels` (B, T; -100 = ignored), the shifted causal loss."""
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # The model has no cache yet: generation runs the whole context for each token.
        return False

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The whole context each time, whatever `use_cache` says: without a cache, it is needed."""
        if inputs_embeds is not None:
            raise ValueError("inputs_embeds: generation needs input_ids, the model has no cache")
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if (keep := kwargs.get("logits_to_keep")) is not None:
            inputs["logits_to_keep"] = keep
        return inputs
