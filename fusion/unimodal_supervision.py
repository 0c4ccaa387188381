"""Unimodal supervision: any head, with a prediction per modality that learns that modality's own label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName
from fusion.head import FusionHead, stack_present
from fusion.late import UnimodalPredictor
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence
from fusion.wrapper import HeadWrapper, eval_mode

PRESENT = "present"
"""Key of `FusionOutput.representations` under which the wrapper notes `(B, M)` which modalities a clip had."""


class UnimodalSupervision(HeadWrapper):
    """A head that also predicts from each modality alone, trained on that modality's own label.

    Yu et al., "CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality",
    ACL 2020, section on the multi-task framework. There MTFN, MLF-DNN and MLMF are TFN, LF-DNN and LMF with
    unimodal outputs that share the subnetworks of the fusion; here one wrapper does that to every head.

    Where the unimodal prediction of a modality comes from:

    1. the head's own `unimodal`, where it has one;
    2. else a small network on the head's `representations` of that modality, where these are computed from that
       modality alone: the source's case, in which the unimodal label also shapes what the fusion reads. Whether
       they are is read from autograd's graph of one forward pass at construction; a representation that other
       modalities flow into would leak them into the unimodal prediction;
    3. else an encoder of its own. It yields unimodal predictions and losses, but shares nothing with the head.

    `sources` says which of the three each modality got. The representations gain one entry, `"present"` `(B, M)`:
    1 where a clip has the modality, so that losses can leave missing ones out.

    Deviations: the source weighs tasks by hand and adds weight decay on the unimodal subnetworks; the weights are
    an argument here and weight decay is the optimiser's.

    Args:
        head: the head. Other wrappers, such as `ModalityDropout`, go around this one, not inside.
        weights: how much each modality's loss counts: one number, or one per modality (those not named get no
            loss).
        hidden_dim: hidden size of what the wrapper adds.
        encoder: of the wrapper's own unimodal networks (case 3).
        pooling: of the wrapper's own unimodal networks (case 3).
        dropout: inside what the wrapper adds.

    Raises:
        ValueError: a negative weight, or one for a modality that the head does not have.
    """

    def __init__(
        self,
        head: FusionHead,
        *,
        weights: float | Mapping[str, float] = 1.0,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(head)
        self.weights = _checked_weights(weights, head.modalities)
        own, shared = _what_head_offers(head)
        self.sources: dict[str, str] = {
            key: "unimodal" if key in own else "representations" if key in shared else "own" for key in head.modalities
        }
        self.readouts = nn.ModuleDict(
            {
                key: nn.Sequential(
                    nn.Linear(shared[key], hidden_dim),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(hidden_dim, head.output_dim),
                )
                for key in self._with_source("representations")
            }
        )
        self.predictors = nn.ModuleDict(
            {
                key: UnimodalPredictor(
                    head.input_dims[key],
                    head.output_dim,
                    hidden_dim=hidden_dim,
                    encoder=encoder,
                    pooling=pooling,
                    dropout=dropout,
                )
                for key in self._with_source("own")
            }
        )

    def _with_source(self, source: str) -> list[str]:
        return [key for key, value in self.sources.items() if value == source]

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        """The head's output, with a `unimodal` prediction for every modality."""
        output: FusionOutput = self.head(inputs)
        known = {key: self._sequence(key, inputs) for key in self.modalities}
        unimodal = dict(output.unimodal)
        for key, readout in self.readouts.items():
            predicted = readout(output.representations[key])
            unimodal[key] = predicted.masked_fill(~known[key].present.unsqueeze(-1), 0.0)
        for key, predictor in self.predictors.items():
            unimodal[key] = predictor(known[key])[1]
        present = stack_present(known).to(output.prediction.dtype)
        return replace(
            output,
            unimodal={key: unimodal[key] for key in self.modalities},
            representations={**output.representations, PRESENT: present},
        )

    def _sequence(self, key: str, inputs: Mapping[str, ModalitySequence]) -> ModalitySequence:
        if key in inputs:
            return inputs[key].zeroed()
        other = next(iter(inputs.values())).values
        values = other.new_zeros(other.shape[0], 1, self.input_dims[key])
        return ModalitySequence(values, torch.zeros_like(values[..., 0], dtype=torch.bool))

    def unimodal_losses(
        self,
        output: FusionOutput,
        targets: Mapping[str, Tensor],
        *,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the unimodal predictions against the modalities' own labels.

        Args:
            output: what `forward` returned for this batch.
            targets: per modality `(B, O)` in the layout of `prediction`, NaN where a clip has no label. Modalities
                not named have no labels; they get no loss.
            criterion: from prediction and target `(B, O)` to a loss per clip and output `(B, O)`, or per clip
                `(B,)`; the absolute error when None. It never sees NaN.

        Returns:
            `"unimodal_<modality>"`: the mean over labelled clips that have the modality, times its weight; 0 where
            there is none.

        Raises:
            ValueError: a target of a modality that the head does not have, or of another shape.
        """
        criterion = criterion or _absolute_error
        present = output.representations[PRESENT].bool()
        losses = {}
        for key, target in targets.items():
            self._check_target(key, target, output)
            if key in self.weights:
                there = present[:, self.modalities.index(key)]
                mean = _mean_where_labelled(output.unimodal[key], target, there, criterion)
                losses[f"unimodal_{key}"] = self.weights[key] * mean
        return losses

    def _check_target(self, key: str, target: Tensor, output: FusionOutput) -> None:
        if key not in self.modalities:
            raise ValueError(f"there is a target for {key}, but the head fuses {', '.join(self.modalities)}")
        if target.shape != output.prediction.shape:
            raise ValueError(
                f"the target of {key} is {tuple(target.shape)}, but predictions are {tuple(output.prediction.shape)}: "
                "give one row per clip and one column per output"
            )


def _absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs()


def _mean_where_labelled(
    prediction: Tensor, target: Tensor, present: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Mean loss over clips that are there and labelled; per output where the criterion keeps outputs apart."""
    labelled = ~target.isnan() & present.unsqueeze(-1)  # (B, O)
    loss = criterion(prediction, torch.where(labelled, target, torch.zeros_like(target)))
    counted = labelled.all(dim=-1) if loss.ndim == 1 else labelled
    return torch.where(counted, loss, torch.zeros_like(loss)).sum() / counted.sum().clamp(min=1)


def _checked_weights(weights: float | Mapping[str, float], modalities: tuple[str, ...]) -> dict[str, float]:
    named = dict(weights) if isinstance(weights, Mapping) else dict.fromkeys(modalities, weights)
    unknown = sorted(set(named) - set(modalities))
    if unknown:
        raise ValueError(f"weights names {', '.join(unknown)}, but the head fuses {', '.join(modalities)}")
    for key, weight in named.items():
        if weight < 0:
            raise ValueError(f"the weight of {key} must not be negative, but is {weight}")
    return {key: float(weight) for key, weight in named.items()}


def _what_head_offers(head: FusionHead) -> tuple[set[str], dict[str, int]]:
    """Modalities with a `unimodal` prediction, and the sizes of representations made from one modality alone."""
    first = next(iter(head.parameters()), torch.zeros(()))
    leaves = {
        key: first.new_zeros(1, 1, dim).requires_grad_()  # one clip, one step
        for key, dim in head.input_dims.items()
    }
    step = torch.ones(1, 1, dtype=torch.bool, device=first.device)
    with eval_mode(head), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        output: FusionOutput = head({key: ModalitySequence(leaf, step) for key, leaf in leaves.items()})
    names = {id(leaf): key for key, leaf in leaves.items()}
    shared = {}
    for key in set(head.modalities) & set(output.representations):
        vector = output.representations[key]
        if {names[leaf] for leaf in _leaves(vector) if leaf in names} == {key}:
            shared[key] = vector.shape[-1]
    return set(output.unimodal), shared


def _leaves(tensor: Tensor) -> set[int]:
    """Ids of the leaf tensors that autograd's graph of `tensor` reaches."""
    todo, seen, found = [tensor.grad_fn], set(), set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        todo += [parent for parent, _ in node.next_functions]
    return found
