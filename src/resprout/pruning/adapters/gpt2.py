"""GPT-2: one matrix for Q, K and V, stored [in, out] (`Conv1D`)."""

from typing import Any

from resprout.pruning.adapters.base import Adapter, same, stride_of
from resprout.pruning.amounts import Kind
from resprout.pruning.families import KINDS
from resprout.pruning.options import HeadUnit
from resprout.pruning.units import Group, group_before, rows, spread


class GPT2Adapter(Adapter):
    """GPT-2 and its like (`gpt2`)."""

    kinds = KINDS["gpt2"]

    def groups_of(self, block: Any, layer: int, kind: Kind, head_unit: HeadUnit) -> list[Group]:
        """Heads: columns of `c_attn` in its three thirds, rows of `c_proj`."""
        if kind == "head":
            K, up, down = block.attn.head_dim, block.attn.c_attn, block.attn.c_proj
            count = down.nx // K
            places = stride_of(count, K, 3)
        else:
            up, down, count, K = block.mlp.c_fc, block.mlp.c_proj, block.mlp.c_fc.nf, 1
            places = spread(0, count, 1)
        index = spread(0, count, K)
        return [group_before(down, index, kind, layer, rows(up, places))]

    def layer_group(self) -> Group:
        """Layers, unless a layer's place is part of its arithmetic."""
        if self.config.scale_attn_by_inverse_layer_idx:
            raise ValueError(
                "method: layers of a GPT-2 with scale_attn_by_inverse_layer_idx compute by their "
                "place, so none can be taken out"
            )
        return super().layer_group()

    def fit_block(self, block: Any) -> None:
        """`c_attn`'s output is split by a number that the module keeps."""
        block.attn.split_size = block.attn.c_attn.nf // 3
        block.attn.num_heads = block.attn.split_size // block.attn.head_dim

    def uniform(self) -> list[dict[str, Any]]:
        """The head width follows from the heads' number, so heads cannot be said; the MLP can."""
        width = same([block.mlp.c_fc.nf for block in self.each_block()])
        return [{"n_inner": width}] if width else []
