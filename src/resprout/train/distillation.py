"""Distillation: a cut model also learns from the outputs of an uncut one, its teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from resprout.refusals import check_language_model
from resprout.train.options import check_distillation


class DistillationLoss:
    """weight * T^2 * KL(teacher || student) + (1 - weight) * cross-entropy, nats per token.

    The divergence is that of the softmax of both logits divided by the temperature T, a mean over
    tokens; T^2 keeps its gradient's size as T changes (Hinton, Vinyals and Dean 2015, section 2).

    Memory: one more copy of the weights (the teacher's, on the student's device and whole in each
    process) and, of both models at once, the logits (B, T, V) in fp32; the shared loss in chunks
    (`models.cross_entropy`) never holds any. Time: the teacher's forward pass.

    Args:
        teacher: with the student's vocabulary. Put into evaluation mode and onto the student's
            device; its weights are not changed and get no gradient. Runs under the student's
            autocast.
        temperature: T, above 0.
        weight: of the divergence, 0 (plain loss, the teacher is not asked) to 1.

    Raises:
        ValueError: the teacher is no model; a number is out of range.
    """

    def __init__(self, teacher: PreTrainedModel, temperature: float = 2.0, weight: float = 0.5):
        check_language_model(teacher, "teacher")
        check_distillation(temperature, weight)
        self.teacher = teacher.eval()
        self.temperature = float(temperature)
        self.weight = float(weight)

    def check(self, student: PreTrainedModel) -> None:
        """Refuse a teacher that cannot teach this student.

        Raises:
            ValueError: its vocabulary has another size, or it shares weights with the student.
        """
        heads = student.get_output_embeddings(), self.teacher.get_output_embeddings()
        if all(getattr(head, "weight", None) is not None for head in heads):
            _check_vocabularies(*(int(head.weight.shape[0]) for head in heads))
        own = {id(parameter) for parameter in student.parameters()}
        if any(id(parameter) in own for parameter in self.teacher.parameters()):
            raise ValueError("teacher: shares weights with the model; allowed is a copy of its own")

    def __call__(self, model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar. `inputs`, `targets`: (B, T).

        Raises:
            ValueError: the vocabularies differ.
        """
        student = _logits(model, inputs)  # (B, T, V) -> (B * T, V)
        if self.weight == 0:
            return F.cross_entropy(student, targets.flatten())
        divergence = self._divergence(student, inputs)
        if self.weight == 1:
            return divergence
        # As `models.loss.logits_loss`, on the logits that are at hand.
        plain = F.cross_entropy(student, targets.flatten())
        return self.weight * divergence + (1 - self.weight) * plain

    def _divergence(self, student: Tensor, inputs: Tensor) -> Tensor:
        """T^2 * KL(teacher || student), mean per token. `student`: logits, (B * T, V)."""
        if self.teacher.device != inputs.device:
            self.teacher.to(inputs.device)
        T = self.temperature
        with torch.no_grad():
            logits = _logits(self.teacher, inputs)
            _check_vocabularies(student.shape[1], logits.shape[1])
            expected = F.log_softmax(logits / T, dim=1)
        found = F.log_softmax(student / T, dim=1)
        return T**2 * F.kl_div(found, expected, reduction="batchmean", log_target=True)


def _logits(model: PreTrainedModel, inputs: Tensor) -> Tensor:
    """(B, T) -> (B * T, V), fp32."""
    logits: Tensor = model(input_ids=inputs, use_cache=False).logits
    return logits.float().flatten(0, 1)


def _check_vocabularies(student: int, teacher: int) -> None:
    if student != teacher:
        raise ValueError(
            f"teacher: has a vocabulary of {teacher}, allowed is the model's own of {student}"
        )
