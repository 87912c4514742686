"""BioGPT: branches and neurons as units; decays are no weights, one pass uses no feedback."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from resprout.models.biogpt.layout import entry_of
from resprout.models.biogpt.neurons import CorticalLayer, DendriticNeuron
from resprout.pruning.adapters.base import Adapter, stride_of
from resprout.pruning.amounts import Kind
from resprout.pruning.families import KINDS
from resprout.pruning.options import HeadUnit
from resprout.pruning.units import Group, Part, group_before, rows, spread


class BioGPTAdapter(Adapter):
    """The dendritic model. Its configuration can say any cut of branches, neurons and layers."""

    kinds = KINDS["dendritic_biogpt"]
    dying = "neuron"

    def is_used(self, module: nn.Module) -> bool:
        """The neuron itself holds only the NMDA decays: constants of time, not weights."""
        return not isinstance(module, DendriticNeuron)

    def extra_paper_weights(self) -> Iterator[nn.Parameter]:
        """As published: the head and the feedback matrices, gates too, whether used or not."""
        yield self.model.get_output_embeddings().weight
        for parameter in self.model.base_model.feedback_connections.parameters():
            if parameter.ndim >= 2:
                yield parameter

    def groups_of(
        self, block: nn.Module, layer: int, kind: Kind, head_unit: HeadUnit
    ) -> list[Group]:
        """Neurons: a group per layer; branches: a group per neuron."""
        assert isinstance(block, CorticalLayer)
        if kind == "branch":
            return [
                self._branches(neuron, layer, i)
                for i, neuron in enumerate(block.neurons)
                if isinstance(neuron, DendriticNeuron)
            ]
        pairs = tuple(zip(block.neurons, block.neuron_projs, strict=True))
        outputs = tuple(
            (projection, torch.full((self.config.hidden_size,), i, dtype=torch.long))
            for i, projection in enumerate(block.neuron_projs)
        )
        share = Part(block, "neuron_weights", 0, spread(0, len(pairs), 1), masked=False)
        name = f"layer {layer}"
        return [Group("neuron", layer, name, len(pairs), (share,), outputs, whole=pairs)]

    def _branches(self, neuron: DendriticNeuron, layer: int, i: int) -> Group:
        _, n, _, d = neuron.nmda_decay.shape
        index, wide = spread(0, n, d), spread(0, n, neuron.ff_up.weight.shape[0] // n)
        parts = [
            *rows(neuron.qkv, stride_of(n, d, 3)),
            Part(neuron, "nmda_decay", 1, spread(0, n, 1)),
        ]
        for module, places in (
            (neuron.temporal_conv, index),
            (neuron.ff_up, wide),
            (neuron.ff_down, index),
            (neuron.branch_norm, index),
        ):
            parts += [Part(module, "weight", 0, places), Part(module, "bias", 0, places)]
        name = f"layer {layer} neuron {i}"
        return group_before(neuron.soma_proj, index, "branch", layer, parts, name)

    def layer_group(self) -> Group:
        """Layers; with two passes those that feed back, or are fed, stay."""
        group = super().layer_group()
        if self.config.n_passes == 1:
            return group
        ends = frozenset(end for pair in self.config.feedback_pairs or [] for end in pair)
        return Group(group.kind, None, group.name, group.count, whole=group.whole, fixed=ends)

    @torch.no_grad()
    def drop_whole(self, group: Group, kept: Tensor) -> None:
        """Neurons: those that stay take over the softmax's denominator, so that nothing changes
        for them (the sum of their old shares multiplies their projections). Layers: the layout and
        the feedback pairs follow.
        """
        stays = [int(unit) for unit in kept]
        if group.kind == "layer":
            self._drop_layers(stays)
            return
        assert group.layer is not None
        layer = self.blocks()[group.layer]
        assert isinstance(layer, CorticalLayer)
        share = torch.softmax(layer.neuron_weights.float(), dim=0)[kept].sum()
        for projection in (layer.neuron_projs[unit] for unit in stays):
            assert isinstance(projection, nn.Linear)
            projection.weight.mul_(share)
        layer.neurons = nn.ModuleList(layer.neurons[unit] for unit in stays)
        layer.neuron_projs = nn.ModuleList(layer.neuron_projs[unit] for unit in stays)

    def _drop_layers(self, stays: list[int]) -> None:
        base = self.model.base_model
        base.layers = nn.ModuleList(base.layers[unit] for unit in stays)
        new = {old: place for place, old in enumerate(stays)}
        connections, pairs = {}, []
        for source, target in self.config.feedback_pairs or []:
            if source in new and target in new:
                pairs.append([new[source], new[target]])
                name = f"fb_{new[source]}_to_{new[target]}"
                connections[name] = base.feedback_connections[f"fb_{source}_to_{target}"]
        base.feedback_connections = nn.ModuleDict(connections)
        self.config.num_hidden_layers = len(stays)
        self.config.feedback_pairs = pairs
        self.config.cortical_layout = [self.config.cortical_layout[unit] for unit in stays]

    def fit_block(self, block: Any) -> None:
        """A neuron's modules keep numbers of their own: groups, channels, branches."""
        for neuron in block.neurons:
            _, n, _, d = neuron.nmda_decay.shape
            neuron.branches, neuron.branch_width = n, d
            for convolution in (neuron.temporal_conv, neuron.ff_up, neuron.ff_down):
                convolution.groups = n
                convolution.out_channels = convolution.weight.shape[0]
                convolution.in_channels = n * convolution.weight.shape[1]
            neuron.branch_norm.num_groups, neuron.branch_norm.num_channels = n, n * d
        self.model.base_model.neurons_per_pass = sum(len(b.neurons) for b in self.each_block())

    def uniform(self) -> list[dict[str, Any]]:
        """Always: the layout holds each neuron's branches and their width."""
        D = self.config.hidden_size
        layout: list[list[Any]] = []
        for block in self.each_block():
            shapes = [neuron.nmda_decay.shape for neuron in block.neurons]
            layout.append([entry_of(n, d, D) for _, n, _, d in shapes])
        return [{"cortical_layout": layout}]
