"""Llama and its many kin: gated MLPs, grouped queries; and Phi-3, which fuses their matrices."""

from typing import Any

import torch

from resprout.models.modeling_cut import LayerConfig
from resprout.pruning.adapters.base import Adapter, same
from resprout.pruning.amounts import Kind
from resprout.pruning.families import KINDS
from resprout.pruning.options import HeadUnit
from resprout.pruning.units import Group, Part, group_before, rows, spread


class GLUAdapter(Adapter):
    """Llama 3.x, Mistral, Qwen2 and 3, Gemma, SmolLM.

    A GLU neuron is row j of gate and of up and column j of down. Where H query heads share G < H
    keys and values, a head unit is a whole key-value group (default), or a single query head.
    """

    kinds = KINDS["llama"]

    def head_counts(self, attention: Any) -> tuple[int, int, int]:
        """Query heads H, key-value heads G and the head width K, from the tensors."""
        K = attention.head_dim
        return attention.q_proj.out_features // K, attention.k_proj.out_features // K, K

    def groups_of(self, block: Any, layer: int, kind: Kind, head_unit: HeadUnit) -> list[Group]:
        """See the class."""
        if kind == "glu_neuron":
            down = block.mlp.down_proj
            index = spread(0, down.in_features, 1)
            return [group_before(down, index, kind, layer, self.gate_and_up(block.mlp, index))]
        attention, down = block.self_attn, block.self_attn.o_proj
        H, G, K = self.head_counts(attention)
        if head_unit == "query" and G < H:
            index, strata, parts = spread(0, H, K), G, self.head_rows(attention, spread(0, H, K))
        else:
            index, strata = spread(0, G, H // G * K), 1
            parts = self.head_rows(attention, index, spread(0, G, K))
        return [group_before(down, index, kind, layer, parts, strata=strata, shared=G < H)]

    def gate_and_up(self, mlp: Any, index: torch.Tensor) -> list[Part]:
        """The rows of gate and up, with their roles."""
        return [*rows(mlp.gate_proj, index, "gate"), *rows(mlp.up_proj, index, "up")]

    def head_rows(
        self, attention: Any, queries: torch.Tensor, shared: torch.Tensor | None = None
    ) -> list[Part]:
        """The rows of Q and, where whole groups go, of K and V."""
        parts = rows(attention.q_proj, queries)
        if shared is not None:
            parts += [*rows(attention.k_proj, shared), *rows(attention.v_proj, shared)]
        return parts

    def fit_block(self, block: Any) -> None:
        """How often a key is repeated follows from the heads that are left."""
        H, G, _ = self.head_counts(block.self_attn)
        block.self_attn.num_key_value_groups = H // G

    def uniform(self) -> list[dict[str, Any]]:
        """The MLP's width; heads, with the head width said beside them."""
        changes: list[dict[str, Any]] = []
        if width := same([block.mlp.down_proj.in_features for block in self.each_block()]):
            changes.append({"intermediate_size": width})
        counts = {self.head_counts(block.self_attn) for block in self.each_block()}
        if len(counts) == 1:
            H, G, K = counts.pop()
            changes.append({"num_attention_heads": H, "num_key_value_heads": G, "head_dim": K})
        return changes


class FusedGLUAdapter(GLUAdapter):
    """Phi-3: gate and up in one matrix, Q, K and V in another."""

    def head_counts(self, attention: Any) -> tuple[int, int, int]:
        """From the tensors: `qkv_proj` has (H + 2G) K rows, `o_proj` H K columns."""
        K = attention.head_dim
        H = attention.o_proj.in_features // K
        return H, (attention.qkv_proj.out_features // K - H) // 2, K

    def gate_and_up(self, mlp: Any, index: torch.Tensor) -> list[Part]:
        """Gate above, up below."""
        fused = mlp.gate_up_proj
        return [*rows(fused, index, "gate"), *rows(fused, index + len(index), "up")]

    def head_rows(
        self, attention: Any, queries: torch.Tensor, shared: torch.Tensor | None = None
    ) -> list[Part]:
        """Queries above, then keys, then values."""
        H, G, K = self.head_counts(attention)
        parts = rows(attention.qkv_proj, queries)
        if shared is not None:
            parts += rows(attention.qkv_proj, shared + H * K)
            parts += rows(attention.qkv_proj, shared + (H + G) * K)
        return parts

    def fit_block(self, block: Any) -> None:
        """Its forward pass asks the configuration where the queries end."""
        super().fit_block(block)
        attention = block.self_attn
        H, G, _ = self.head_counts(attention)
        attention.num_key_value_heads = G
        attention.config = self.config
        if self.config.num_attention_heads != H:
            attention.config = LayerConfig(self.config, {"num_attention_heads": H})
