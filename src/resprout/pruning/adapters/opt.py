"""OPT: separate Q, K and V with biases, a plain MLP that lies in the block itself."""

from typing import Any

from resprout.pruning.adapters.base import Adapter, same
from resprout.pruning.amounts import Kind
from resprout.pruning.families import KINDS
from resprout.pruning.options import HeadUnit
from resprout.pruning.units import Group, group_before, rows, spread


class OPTAdapter(Adapter):
    """OPT (`opt`)."""

    kinds = KINDS["opt"]

    def groups_of(self, block: Any, layer: int, kind: Kind, head_unit: HeadUnit) -> list[Group]:
        """Heads: K rows of Q, K and V, K columns of `out_proj`; neurons: of `fc1` and `fc2`."""
        if kind == "head":
            attention = block.self_attn
            ups = [attention.q_proj, attention.k_proj, attention.v_proj]
            down = attention.out_proj
            index = spread(0, down.in_features // attention.head_dim, attention.head_dim)
        else:
            ups, down = [block.fc1], block.fc2
            index = spread(0, down.in_features, 1)
        parts = [part for up in ups for part in rows(up, index)]
        return [group_before(down, index, kind, layer, parts)]

    def layer_group(self) -> Group:
        """Layers, unless each norms the residual stream itself and so never passes it on."""
        if not self.config.do_layer_norm_before:
            raise ValueError(
                "method: this OPT norms after each layer (do_layer_norm_before=False), so no layer "
                "can be taken out without changing what the others read"
            )
        return super().layer_group()

    def fit_block(self, block: Any) -> None:
        """The number of heads is what its forward pass views by."""
        attention = block.self_attn
        attention.num_heads = attention.q_proj.out_features // attention.head_dim

    def uniform(self) -> list[dict[str, Any]]:
        """The head width follows from the heads' number, so heads cannot be said; the MLP can."""
        width = same([block.fc1.out_features for block in self.each_block()])
        return [{"ffn_dim": width}] if width else []
