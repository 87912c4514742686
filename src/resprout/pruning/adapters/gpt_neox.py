"""GPT-NeoX and Pythia: Q, K and V of a head lie together in one matrix, head by head."""

from typing import Any

from resprout.pruning.adapters.base import Adapter, same
from resprout.pruning.amounts import Kind
from resprout.pruning.families import KINDS
from resprout.pruning.options import HeadUnit
from resprout.pruning.units import Group, group_before, rows, spread


class GPTNeoXAdapter(Adapter):
    """GPT-NeoX (`gpt_neox`)."""

    kinds = KINDS["gpt_neox"]

    def groups_of(self, block: Any, layer: int, kind: Kind, head_unit: HeadUnit) -> list[Group]:
        """Heads: 3K consecutive rows of `query_key_value`, K columns of `dense`."""
        if kind == "head":
            K, up = block.attention.head_size, block.attention.query_key_value
            down = block.attention.dense
            count = down.in_features // K
            places, index = spread(0, count, 3 * K), spread(0, count, K)
        else:
            up, down = block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h
            count = up.out_features
            places = index = spread(0, count, 1)
        return [group_before(down, index, kind, layer, rows(up, places))]

    def uniform(self) -> list[dict[str, Any]]:
        """The head width follows from the heads' number, so heads cannot be said; the MLP can."""
        width = same([block.mlp.dense_h_to_4h.out_features for block in self.each_block()])
        return [{"intermediate_size": width}] if width else []
