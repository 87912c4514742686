"""BioGPT: cells that can die, decays that are no weights, feedback that one pass never uses."""

from collections.abc import Iterator

from torch import nn

from resprout.models.biogpt.neurons import CorticalLayer, DendriticNeuron
from resprout.pruning.adapters.base import Adapter, DeadUnit


class BioGPTAdapter(Adapter):
    """The dendritic model. Its prunable unit above the weight is the neuron (a cell)."""

    def is_used(self, module: nn.Module) -> bool:
        """The neuron itself holds only the NMDA decays: constants of time, not weights."""
        return not isinstance(module, DendriticNeuron)

    def extra_paper_weights(self) -> Iterator[nn.Parameter]:
        """As published: the head and the feedback matrices, gates too, whether used or not."""
        yield self.model.get_output_embeddings().weight
        for parameter in self.model.base_model.feedback_connections.parameters():
            if parameter.ndim >= 2:
                yield parameter

    def dead_units(self) -> list[DeadUnit]:
        """One unit per neuron: all its parameters and its output projection P_i."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        units = []
        for index, layer in enumerate(self.blocks()):
            assert isinstance(layer, CorticalLayer)
            for i, (neuron, projection) in enumerate(
                zip(layer.neurons, layer.neuron_projs, strict=True)
            ):
                decay = id(neuron.nmda_decay)
                own = [*neuron.parameters(), *projection.parameters()]
                units.append(
                    DeadUnit(
                        name=f"layer {index} neuron {i}",
                        weights=[names[id(p)] for p in own if p.ndim >= 2 and id(p) != decay],
                        parameters=[names[id(p)] for p in own],
                    )
                )
        return units
