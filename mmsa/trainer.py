"""One update of the weights: forward, loss, backward and optimiser, over one batch or several that count as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from fusion import FusionOutput, ModalityDropout, ModalitySequence
from mmsa.batching import CPU_PART_STEPS, cut_parts
from mmsa.checkpoint import Checkpoint, module_tensors, optimiser_tensors, restore_module, restore_optimiser
from mmsa.config import TrainConfig
from mmsa.data import Batch, SplitData
from mmsa.diagnostics import explain_not_finite
from mmsa.distributed import current
from mmsa.encoders.optimiser import model_groups
from mmsa.errors import UsageError
from mmsa.losses import Objective
from mmsa.model import MultimodalModel
from mmsa.schedule import LearningRate, MovingAverage
from mmsa.sharing import Sharing, whole_tensor

Index = NDArray[np.int64]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}

SMALLEST_SCALE = 1.0
"""Scale of fp16's loss below which training has diverged: no gradient is finite any more."""


@dataclass(frozen=True)
class Update:
    """What one update was.

    Attributes:
        terms: of the loss, over all its clips.
        gradient_norm: before clipping; infinite where fp16 overflowed and the update was left out.
        learning_rate: that it used, of the first group of parameters.
        clips: how many it learned from.
    """

    terms: dict[str, float]
    gradient_norm: float
    learning_rate: float
    clips: int


class Trainer:
    """Makes updates from the clips of a split.

    Args:
        model: on the device.
        objective: what is minimised; its parameters are learned, too.
        data: the training split, which gives batches on the device.
        config: optimiser, schedule, precision.
        device: where.
        updates_per_epoch: for the schedule.

    Raises:
        UsageError: fp16 anywhere but on CUDA.
    """

    def __init__(
        self,
        model: MultimodalModel,
        objective: Objective,
        data: SplitData,
        config: TrainConfig,
        *,
        device: torch.device,
        updates_per_epoch: int,
    ) -> None:
        if config.precision == "fp16" and device.type != "cuda":
            raise UsageError(f"precision fp16 needs a CUDA device, and this is {device.type}: use bf16 or float32")
        self.model, self.objective, self.data, self.config, self.device = model, objective, data, config, device
        self.dropout = ModalityDropout(model.head, config.modality_dropout)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(model, objective, config), weight_decay=config.weight_decay, fused=True
        )
        # Those of the objective are apart: a steep task weight must not shorten the step of all others.
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.scaler = GradScaler(device.type, enabled=config.precision == "fp16")
        self.rate = LearningRate(config, updates_per_epoch)
        self.average = MovingAverage(model, config.ema_decay) if config.ema_decay else None
        self.updates = 0
        self.part_steps = part_steps(model, config, device)
        self.sharing = open_sharing(model, config, device)
        self.split_losses: set[str] = set()
        self.sizes = data.lengths * model.step_costs(list(data.tables))
        for key, encoder in model.encoders.items():
            if config.encoders[key].gradient_checkpointing:
                encoder.checkpoint_activations()  # type: ignore[operator]
        self._head: Callable[..., FusionOutput] = model.head
        if config.compile:
            self._head = torch.compile(model.head, dynamic=True)

    def step(self, parts: Sequence[Index]) -> Update:
        """One update.

        Args:
            parts: positions of the clips of one batch, or of several whose gradients add up to that of them all; each
                is cut further where it is too large.

        Raises:
            UsageError: the loss or its gradient is not finite; the weights are still those from before.
        """
        batches = [self.cut([part]) for part in parts]
        parts = [piece for batch in batches for piece in batch]
        clips = np.concatenate(parts)
        keep = self._draw(clips)
        self.optimiser.zero_grad(set_to_none=True)
        if self.sharing is None:
            names, sums = self._alone(parts, clips, keep)
        else:
            with self.sharing.own_randomness(self.updates):
                names, sums = self._shared(self.sharing, batches, clips, keep)
        self.scaler.unscale_(self.optimiser)
        norm = whole_tensor(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm))
        # All numbers at once: each one taken from a GPU by itself would wait for all work before it.
        *values, gradient_norm = torch.cat([sums, norm.view(1)]).tolist()
        update = Update(dict(zip(names, values, strict=True)), gradient_norm, self._set_rate(), len(clips))
        self._check(update, parts)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.updates += 1
        if self.average is not None:
            self.average.update()
        return update

    def _alone(self, parts: Sequence[Index], clips: Index, keep: Tensor) -> tuple[list[str], Tensor]:
        """The gradient of an update; names and values of its loss's terms."""
        totals = self._totals(clips, keep) if len(parts) > 1 else None
        found: list[dict[str, Tensor]] = []
        start = 0
        for part in parts:
            terms = self._terms(self.data.batch(part), keep[start : start + len(part)], totals)
            found.append(self._backward(terms))
            start += len(part)
        return list(found[0]), torch.stack([torch.stack([terms[key] for terms in found]).sum() for key in found[0]])

    def _shared(
        self, sharing: Sharing, batches: Sequence[Sequence[Index]], clips: Index, keep: Tensor
    ) -> tuple[list[str], Tensor]:
        """The same, of what this process computes of an update, added up over all processes."""
        rows, start = [], 0
        for batch in batches:
            ends = start + np.cumsum([len(part) for part in batch])
            rows.append([np.arange(end - len(part), end) for part, end in zip(batch, ends, strict=True)])
            start = int(ends[-1])
        every = [part for batch in rows for part in batch]
        totals = self._totals(clips, keep)
        found: list[dict[str, Tensor]] = []
        for place, own in enumerate(sharing.pieces(self.sizes[clips], rows, self.part_steps)):
            if sharing.together:
                apart = totals if len(every) > 1 else None
                terms = self._terms_together(sharing, clips, keep, own, every[place], apart)
            else:
                terms = self._terms(self.data.batch(clips[own]), keep[own], totals)
            found.append(self._backward(terms))
        if not found:  # fewer clips than processes: the names of the terms are all that is needed
            with torch.no_grad():
                terms = self._terms(self.data.batch(clips[:1]), keep[:1], totals)
            found.append({key: torch.zeros_like(term) for key, term in terms.items()})
        sums = torch.stack([torch.stack([terms[key] for terms in found]).sum() for key in found[0]])
        return list(found[0]), sharing.add_up(sums, (self.model, self.objective))

    def _terms_together(
        self,
        sharing: Sharing,
        clips: Index,
        keep: Tensor,
        own: Index,
        part: Index,
        totals: Mapping[str, Tensor] | None,
    ) -> dict[str, Tensor]:
        """The terms of a part whose clips every process has some of, such that processes' terms add up."""
        computed = own if len(own) else part[:1]
        mine = self._forward(self.data.batch(clips[computed]), keep[computed])
        if self.config.loss.head_weight:
            self.split_losses.update(mine.losses)
        output = sharing.gather_output(mine, part)
        index = torch.from_numpy(clips[part]).to(self.device)
        batch = Batch({}, self.data.label_tensors(clips[part]), index)
        present = dict(zip(self.data.tables, keep[part].unbind(dim=1), strict=True))
        terms = self.objective.terms(self.model.head, output, batch, present, totals)
        return {key: term / sharing.group.size for key, term in terms.items()}

    def _backward(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.scaler.scale(torch.stack(list(terms.values())).sum()).backward()  # type: ignore[no-untyped-call]
        return {key: term.detach() for key, term in terms.items()}

    def cut(self, parts: Sequence[Index]) -> list[Index]:
        """The parts that are computed one after the other: those given, the large ones in pieces."""
        if self.part_steps is None:
            return list(parts)
        return [piece for part in parts for piece in cut_parts(self.sizes, part, self.part_steps)]

    def tensors(self) -> dict[str, Tensor]:
        """All that updates change, for a checkpoint."""
        groups = {
            "model": module_tensors(self.model),
            "objective": module_tensors(self.objective),
            "optimiser": optimiser_tensors(self.optimiser),
            "average": self.average.tensors() if self.average is not None else {},
        }
        named = {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()}
        if self.config.sharding == "none":
            return named
        from mmsa.sharding import whole

        return whole(named)

    def facts(self) -> dict[str, Any]:
        """What is no tensor of it; JSON values."""
        return {
            "updates": self.updates,
            "averaged": self.average.updates if self.average is not None else 0,
            "rate": self.rate.state(),
            "scaler": self.scaler.state_dict(),
            "split_losses": sorted(self.split_losses),
        }

    def restore(self, checkpoint: Checkpoint, facts: Mapping[str, Any]) -> None:
        """Put back what `tensors` and `facts` gave."""
        model, optimiser, average = (checkpoint.group(name) for name in ("model", "optimiser", "average"))
        if self.config.sharding == "full":
            from mmsa.sharding import spread_like

            learned = [p for group in self.optimiser.param_groups for p in group["params"]]
            memory = {key: learned[int(key.partition(".")[0])] for key in optimiser if not key.endswith(".step")}
            model = spread_like(model, module_tensors(self.model))
            optimiser = spread_like(optimiser, memory)
            average = spread_like(average, self.average.tensors() if self.average is not None else {})
        restore_module(self.model, model)
        restore_module(self.objective, checkpoint.group("objective"))
        restore_optimiser(self.optimiser, optimiser)
        if self.average is not None:
            self.average.restore(average, facts["averaged"])
        self.updates = facts["updates"]
        self.rate.restore(facts["rate"])
        self.scaler.load_state_dict(facts["scaler"])
        self.split_losses = set(facts.get("split_losses", ()))

    def _draw(self, clips: Index) -> Tensor:
        """`(B, M)` bool: which modalities the head may see of each clip; drawn for all parts of an update at once."""
        present = torch.from_numpy(self.data.present(clips)).to(self.device)
        return self.dropout.draw(present) if self.config.modality_dropout else present

    def _totals(self, clips: Index, keep: Tensor) -> dict[str, Tensor]:
        seen = dict(zip(self.data.tables, keep.unbind(dim=1), strict=True))
        return self.objective.totals(self.data.label_tensors(clips), seen)

    def _terms(self, batch: Batch, keep: Tensor, totals: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        present = dict(zip(batch.inputs, keep.unbind(dim=1), strict=True))
        return self.objective.terms(self.model.head, self._forward(batch, keep), batch, present, totals)

    def _forward(self, batch: Batch, keep: Tensor) -> FusionOutput:
        present = dict(zip(batch.inputs, keep.unbind(dim=1), strict=True))
        # What an encoder reads is left out before it runs; features are, behind the normaliser and the grid.
        own = self.model.encoders
        inputs = {key: _kept(seq, present[key]) if key in own else seq for key, seq in batch.inputs.items()}
        with self._autocast():
            features = self.model.encode(inputs)
        prepared = self.model.normalise(features)
        seen = {key: _kept(sequence, present[key]) for key, sequence in prepared.items()}
        with self._autocast():
            output = self._head(seen)
        return _float32(output)

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS.get(self.config.precision, torch.float32)
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.config.precision in PRECISIONS)

    def _set_rate(self) -> float:
        factor = self.rate.factor(self.updates)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimiser.param_groups[0]["lr"])

    def _check(self, update: Update, parts: Sequence[Index]) -> None:
        loss_is_finite = all(map(math.isfinite, update.terms.values()))
        if loss_is_finite and math.isfinite(update.gradient_norm):
            return
        if loss_is_finite and self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE:
            return  # an overflow: the scaler leaves this update out and lowers the scale
        raise UsageError(explain_not_finite(self.model, self.data, parts, update.terms))


def part_steps(model: MultimodalModel, config: TrainConfig, device: torch.device) -> int | None:
    """Most padded steps that are computed at once; None is no bound."""
    if config.part_steps is None and not relates_clips(model, config) and device.type == "cpu":
        return CPU_PART_STEPS
    return config.part_steps


def relates_clips(model: MultimodalModel, config: TrainConfig) -> bool:
    """Whether a loss looks at several clips at once, so that those of parts do not add up to that of the whole."""
    return config.loss.regression == "ccc" or model.head.own_losses


def open_sharing(model: MultimodalModel, config: TrainConfig, device: torch.device) -> Sharing | None:
    """How updates are shared with the other processes; None where there are none."""
    group = current()
    if group.size == 1:
        return None
    together = relates_clips(model, config) or config.sharding == "full"
    return Sharing(group, together=together, seed=config.seed, device=device)


def parameter_groups(model: MultimodalModel, objective: Objective, config: TrainConfig) -> list[dict[str, Any]]:
    """What the optimiser learns, each group with the learning rate that its schedule starts from."""
    rates = {"lr": config.learning_rate, "initial_lr": config.learning_rate}
    groups = model_groups(model, config)
    learned = list(objective.parameters())
    # Decay would pull learned task weights towards equal ones.
    return [*groups, {"name": "tasks", "params": learned, "weight_decay": 0.0, **rates}] if learned else groups


def _kept(sequence: ModalitySequence, clips: Tensor) -> ModalitySequence:
    """The sequence without the steps of clips that are not kept, `(B,)`."""
    return ModalitySequence(sequence.values, sequence.mask & clips.unsqueeze(1))


def _float32(output: FusionOutput) -> FusionOutput:
    """The output of a head in mixed precision, for losses in full precision."""

    def cast(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: value.float() for key, value in values.items()}

    return replace(
        output,
        prediction=output.prediction.float(),
        unimodal=cast(output.unimodal),
        losses=cast(output.losses),
        weights=cast(output.weights),
        representations=cast(output.representations),
    )
