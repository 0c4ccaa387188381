"""Training objectives shared by heads: pure functions of representations, and two that hold parameters or state.

Every one takes the clips that count as a mask: a masked row has no influence and gets no gradient, and the result
is finite with one valid clip or none (then it is 0). All are means over clips, so batch size sets no scale.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion.pooling import masked_softmax


def clip_mean(values: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean over the valid clips; 0 where none is valid.

    Args:
        values: `(B, ...)`.
        present: `(B,)` bool, True for clips that count; all of them when None.

    Returns:
        `(...)`.

    Example:
        >>> clip_mean(torch.tensor([1.0, 3.0, float("nan")]), torch.tensor([True, True, False]))
        tensor(2.)
    """
    kept, count = _keep(values, present)
    return kept.sum(dim=0) / count


def central_moment_discrepancy(
    a: Tensor, b: Tensor, moments: int = 5, *, span: float = 1.0, present: Tensor | None = None
) -> Tensor:
    """Distance of two distributions by their mean and central moments.

    Zellinger et al., "Central Moment Discrepancy (CMD) for Domain-Invariant Representation Learning", ICLR 2017,
    the empirical estimate: the norm of the difference of means over `span`, plus, for each order `k` from 2 on,
    the norm of the difference of the k-th central moments over `span ** k`. Moments are taken per feature.

    Args:
        a: `(B, D)`.
        b: `(B, D)`.
        moments: highest order `K`; 1 compares means only.
        span: width of the interval that the features lie in (1 after a sigmoid, 2 after tanh).
        present: `(B,)` bool, clips to compare on; one mask for both, so that both see the same clips.

    Returns:
        Scalar, 0 or more.

    Raises:
        ValueError: `moments` below 1.
    """
    if moments < 1:
        raise ValueError(f"moments must be 1 or more (the paper uses 5), not {moments}")
    # Zeroed first: the powers below would carry a NaN of a masked row into the gradient.
    a, b = _keep(a, present)[0], _keep(b, present)[0]
    mean_a, mean_b = clip_mean(a, present), clip_mean(b, present)
    total: Tensor = torch.linalg.vector_norm(mean_a - mean_b) / span
    for order in range(2, moments + 1):
        moment_a = clip_mean((a - mean_a) ** order, present)
        moment_b = clip_mean((b - mean_b) ** order, present)
        total = total + torch.linalg.vector_norm(moment_a - moment_b) / span**order
    return total


def difference_loss(a: Tensor, b: Tensor, present: Tensor | None = None) -> Tensor:
    """How far two representations of the same clips are from orthogonal.

    Bousmalis et al., "Domain Separation Networks", NeurIPS 2016, the difference loss: the squared Frobenius norm
    of `A^T B`, with rows centred over the batch and scaled to length 1. Deviation: divided by the squared number
    of clips, which makes it the correlation matrix's norm, in [0, 1] whatever the batch size.

    Args:
        a: `(B, D)`.
        b: `(B, E)`.
        present: `(B,)` bool, clips that count.

    Returns:
        Scalar in [0, 1].
    """
    rows_a, count = _unit_centred(a, present)
    rows_b, _ = _unit_centred(b, present)
    return (rows_a.T @ rows_b / count).square().sum()


def info_nce(a: Tensor, b: Tensor, temperature: float = 0.07, *, present: Tensor | None = None) -> Tensor:
    """Symmetric contrastive loss: each clip's `a` should find its own `b` in the batch, and the reverse.

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, with the symmetric form
    and cosine similarity of Radford et al., "CLIP", ICML 2021.

    Args:
        a: `(B, D)`.
        b: `(B, D)`.
        temperature: divides the cosine similarities.
        present: `(B,)` bool, clips that count; the others are no negatives either.

    Returns:
        Scalar: the mean of both directions' cross-entropies; 0 with a single valid clip.
    """
    forth = contrastive_predictive_coding(a, b, temperature=temperature, present=present)
    back = contrastive_predictive_coding(b, a, temperature=temperature, present=present)
    return (forth + back) / 2


def contrastive_predictive_coding(
    prediction: Tensor, target: Tensor, *, temperature: float = 1.0, present: Tensor | None = None
) -> Tensor:
    """Cross-entropy of picking each clip's own target among the batch's, from a prediction of it.

    Han et al., "Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for Multimodal
    Sentiment Analysis", EMNLP 2021, the CPC loss: the score of a pair is the exponential of the inner product of
    unit vectors. `log(B)` minus it is a lower bound of the mutual information.

    Args:
        prediction: `(B, D)`, the target as predicted from the fused representation.
        target: `(B, D)`.
        temperature: divides the inner products; 1 in the paper.
        present: `(B,)` bool, clips that count; the others are no negatives either.

    Returns:
        Scalar; 0 with a single valid clip.
    """
    valid = _mask_of(prediction, present)
    scores = F.normalize(_keep(prediction, present)[0], dim=-1) @ F.normalize(_keep(target, present)[0], dim=-1).T
    scores = (scores / temperature).masked_fill(~valid.unsqueeze(0), torch.finfo(scores.dtype).min)
    return clip_mean(-torch.log_softmax(scores, dim=1).diagonal(), present)


def maximum_mean_discrepancy(
    samples: Tensor, *, present: Tensor | None = None, bandwidth: float | None = None
) -> Tensor:
    """Squared distance of samples from a standard normal, in the feature space of a Gaussian kernel.

    Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, the V-statistic, as the prior-matching term of Wasserstein
    auto-encoders (Tolstikhin et al., ICLR 2018) and of MFM (Tsai et al., ICLR 2019). Deviation: the kernel's
    expectations under the normal are known in closed form and used instead of drawn prior samples, so the loss
    has no sampling noise. With `k(x, y) = exp(-|x - y|^2 / (2 s^2))` in `D` dimensions they are
    `E k(x, Z) = (s^2 / (s^2 + 1))^(D/2) exp(-|x|^2 / (2 (s^2 + 1)))` and `E k(Z, Z') = (s^2 / (s^2 + 2))^(D/2)`.

    Args:
        samples: `(B, D)`.
        present: `(B,)` bool, clips that count.
        bandwidth: `s`; the square root of `D` when None, at which two draws from the prior have `k` near `1/e`.

    Returns:
        Scalar, 0 or more; 0 without a valid clip.
    """
    dim = samples.shape[1]
    variance = float(dim) if bandwidth is None else bandwidth**2
    valid = _mask_of(samples, present)
    kept, count = _keep(samples, present)
    squares = kept.square().sum(dim=1)  # (B,)
    distances = (squares.unsqueeze(0) + squares.unsqueeze(1) - 2 * kept @ kept.T).clamp(min=0)
    pairs = valid.unsqueeze(0) & valid.unsqueeze(1)
    within = (torch.exp(-distances / (2 * variance)) * pairs).sum() / count**2
    shrink = (variance / (variance + 1)) ** (dim / 2)
    across = shrink * clip_mean(torch.exp(-squares / (2 * (variance + 1))), present)
    prior = (variance / (variance + 2)) ** (dim / 2)
    discrepancy: Tensor = within - 2 * across + prior
    return discrepancy * valid.any()


def reconstruction_loss(sequence: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error over what is real.

    Args:
        sequence: `(B, T, D)` or `(B, D)`, the original.
        reconstruction: the same shape.
        mask: `(B, T)` for sequences, `(B,)` for vectors; True where real.

    Returns:
        Scalar: the mean over the real steps (or clips) and all features.

    Raises:
        ValueError: the shapes disagree.
    """
    expected = sequence.shape[:-1]
    if sequence.shape != reconstruction.shape or (mask is not None and mask.shape != expected):
        given = None if mask is None else tuple(mask.shape)
        raise ValueError(
            f"the original {tuple(sequence.shape)} needs a reconstruction of the same shape and a mask "
            f"{tuple(expected)}, not {tuple(reconstruction.shape)} and {given}"
        )
    errors = (sequence - reconstruction).flatten(0, -2)  # (B * T, D)
    flat = None if mask is None else mask.flatten()
    # Masked before the square: a NaN under the padding would otherwise reach the gradient.
    return clip_mean(_keep(errors, flat)[0].square().mean(dim=-1), flat)


class MatchingLoss(nn.Module):
    """Tells matching pairs of representations from mismatched ones, with a learned classifier.

    The image-text matching loss of Li et al., "Align before Fuse", NeurIPS 2021, section 3.2: one positive per
    clip and two hard negatives, in which one side is replaced by that of a similar clip. Deviations: each negative
    is the expectation over the similarity-weighted draw instead of one draw, so that the loss has no sampling
    noise; the classifier sees both vectors and their product instead of a joint transformer's output.

    Args:
        dim: features `D` of both representations.
        hidden_dim: hidden size of the classifier; `dim` when None.
        temperature: divides the cosine similarities by which negatives are chosen.
    """

    def __init__(self, dim: int, hidden_dim: int | None = None, *, temperature: float = 0.07) -> None:
        super().__init__()
        hidden_dim = dim if hidden_dim is None else hidden_dim
        self.temperature = temperature
        self.left = nn.Linear(dim, hidden_dim)
        self.right = nn.Linear(dim, hidden_dim, bias=False)
        self.product = nn.Linear(dim, hidden_dim, bias=False)
        self.score = nn.Linear(hidden_dim, 1)

    def logits(self, a: Tensor, b: Tensor) -> Tensor:
        """`(B, B)`: the log-odds that row i of `a` and row j of `b` belong together."""
        pairs = self.product(a.unsqueeze(1) * b.unsqueeze(0))  # (B, B, H)
        hidden = torch.relu(self.left(a).unsqueeze(1) + self.right(b).unsqueeze(0) + pairs)
        out: Tensor = self.score(hidden).squeeze(-1)
        return out

    def forward(self, a: Tensor, b: Tensor, present: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            a: `(B, D)`.
            b: `(B, D)`.
            present: `(B,)` bool, clips that count; the others are no negatives either.

        Returns:
            Scalar: binary cross-entropy, averaged over the positive and both negatives of each clip; a clip that
            is alone in its batch has no negatives.
        """
        valid = _mask_of(a, present)
        a, b = _keep(a, present)[0], _keep(b, present)[0]
        logits = self.logits(a, b)
        with torch.no_grad():
            similarity = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / self.temperature
            others = ~torch.eye(len(valid), dtype=torch.bool, device=valid.device)
            others = others & valid.unsqueeze(0) & valid.unsqueeze(1)
            hard_b, hard_a = masked_softmax(similarity, others), masked_softmax(similarity.T, others)
        mismatch = F.softplus(logits)
        losses = F.softplus(-logits.diagonal()) + (hard_b * mismatch).sum(dim=1) + (hard_a * mismatch.T).sum(dim=1)
        return clip_mean(losses / 3, valid)


class PseudoLabelGenerator(nn.Module):
    """Labels for single modalities, derived from the multimodal label and where clips lie in each space.

    Yu et al., "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal
    Sentiment Analysis", AAAI 2021, section "Unimodal Label Generation Module". For the fused representation `m` and
    a modality `s`, the centres of positive (label > 0) and negative (label < 0) clips give each clip the relative
    distance `r = (D_n - D_p) / (D_p + eps)`, with `D` the Euclidean distance to a centre; then

    `y_s = (r_s / r_m * y_m) / 2 + (y_m + r_s - r_m) / 2`, clamped to the label range,

    smoothed over passes `i` over the clip: `y_s(1) = y_m`, `y_s(i) = (i - 1) / (i + 1) * y_s(i - 1) +
    2 / (i + 1) * y_s`. Centres are over each training clip's latest representation.

    Deviations: `r_m` is kept at least `eps` away from 0; passes are counted per clip and modality, so a modality
    that is missing (or dropped) in a pass is left out of that pass; while a space has no positive or no negative
    clip, labels keep their last value.

    The state holds a row per training clip and grows as clips are first seen. It is not in the state dict: it
    belongs to one training run over one split, and a bundle must load into a fresh head of any size. Being buffers,
    it is there for checkpoints of a training to keep. Processes that share a training hold their own clips each.

    Args:
        dims: features per representation, `reference` among them.
        reference: name of the fused representation, whose label is given.
        columns: number of label columns `C`; each has its own centres.
        label_range: largest absolute value of a label, `H`.
        epsilon: keeps denominators away from 0.

    Raises:
        ValueError: `reference` is not in `dims`, or `label_range` is not positive.
    """

    labels: Tensor

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        reference: str = "fusion",
        columns: int = 1,
        label_range: float = 3.0,
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__()
        if reference not in dims:
            raise ValueError(f"dims needs the size of the reference {reference!r}, but has {', '.join(dims)} only")
        if label_range <= 0:
            raise ValueError(f"label_range is the largest absolute label and must be positive, not {label_range}")
        self.reference = reference
        self.label_range = label_range
        self.epsilon = epsilon
        # Buffers are named by position: a modality's name may hold a dot, which a buffer's may not.
        self.names = tuple(dims)
        self.register_buffer("labels", torch.zeros(0, columns), persistent=False)
        for position, dim in enumerate(dims.values()):
            self.register_buffer(f"features_{position}", torch.zeros(0, dim), persistent=False)
            self.register_buffer(f"pseudo_{position}", torch.zeros(0, columns), persistent=False)
            self.register_buffer(f"passes_{position}", torch.zeros(0, dtype=torch.int64), persistent=False)

    @property
    def clips(self) -> int:
        """Number of clips there is room for."""
        return len(self.labels)

    def resize(self, clips: int) -> None:
        """Make room for `clips` training clips; never shrinks, keeps what is known."""
        missing = clips - self.clips
        if missing <= 0:
            return
        for name, buffer in list(self.named_buffers(recurse=False)):
            setattr(self, name, torch.cat([buffer, buffer.new_zeros(missing, *buffer.shape[1:])]))

    def current(self, name: str, index: Tensor) -> Tensor:
        """`(B, C)`: the pseudo-labels of clips as they stand; NaN where there is none yet.

        Raises:
            IndexError: a clip that was never seen.
        """
        pseudo, passes = self._state("pseudo", name), self._state("passes", name)
        return pseudo[index].masked_fill((passes[index] == 0).unsqueeze(-1), float("nan"))

    @torch.no_grad()
    def relative_distance(self, name: str, values: Tensor) -> Tensor:
        """`r` of representations towards the stored centres.

        Args:
            name: which space.
            values: `(B, D)`.

        Returns:
            `(B, C)`, positive where nearer to the positive centre; NaN where a centre does not exist yet.
        """
        features, seen = self._state("features", name), self._state("passes", name) > 0
        positive = self._distance(values, features, (self.labels > 0) & seen.unsqueeze(-1))
        negative = self._distance(values, features, (self.labels < 0) & seen.unsqueeze(-1))
        return (negative - positive) / (positive + self.epsilon)

    @torch.no_grad()
    def forward(
        self, index: Tensor, representations: Mapping[str, Tensor], present: Mapping[str, Tensor], target: Tensor
    ) -> dict[str, Tensor]:
        """Take in one training batch and return its unimodal labels.

        Args:
            index: `(B,)` int64, positions of the clips in the training split.
            representations: `(B, D)` per name of `dims`.
            present: `(B,)` bool per modality; the reference is taken as always present.
            target: `(B, C)` multimodal labels, NaN where unlabelled.

        Returns:
            Per modality `(B, C)`, NaN where the modality is missing or the clip has no label.

        Raises:
            ValueError: the batch's label columns are not those of the generator.
        """
        target = target.to(self.labels.dtype)
        if target.shape != (len(index), self.labels.shape[1]):
            raise ValueError(
                f"target must be ({len(index)}, {self.labels.shape[1]}): one row per clip of index and one column per "
                f"label, not {tuple(target.shape)}"
            )
        # A clip counts as a whole: a label vector with a hole has no centre to be compared with.
        labelled = torch.isfinite(target).all(dim=-1)
        if labelled.any():
            self.resize(int(index[labelled].max()) + 1)
        anchor = self.relative_distance(self.reference, representations[self.reference])
        fresh = {
            name: self._shifted(target, self.relative_distance(name, representations[name]), anchor)
            for name in self.names
        }
        self.labels[index[labelled]] = target[labelled]
        out: dict[str, Tensor] = {}
        for name in self.names:
            rows = labelled if name == self.reference else labelled & present[name]
            labels = self._smooth(name, index[rows], fresh[name][rows], target[rows])
            self._state("features", name)[index[rows]] = representations[name][rows].to(torch.float32)
            if name != self.reference:
                out[name] = torch.full_like(target, float("nan"))
                out[name][rows] = labels
        return out

    def _shifted(self, target: Tensor, own: Tensor, anchor: Tensor) -> Tensor:
        """This pass's labels `(B, C)`, before smoothing."""
        safe = torch.where(anchor < 0, anchor.clamp(max=-self.epsilon), anchor.clamp(min=self.epsilon))
        shifted = (own / safe * target + target + own - anchor) / 2
        return shifted.clamp(-self.label_range, self.label_range)

    def _smooth(self, name: str, index: Tensor, fresh: Tensor, target: Tensor) -> Tensor:
        """Move the stored labels towards `fresh` and count the pass."""
        pseudo, passes = self._state("pseudo", name), self._state("passes", name)
        count = (passes[index] + 1).unsqueeze(-1).to(target.dtype)  # (B, 1), this pass's number
        before = pseudo[index]
        moved = (count - 1) / (count + 1) * before + 2 / (count + 1) * fresh
        labels = torch.where(count == 1, target, torch.where(torch.isfinite(fresh), moved, before))
        pseudo[index] = labels
        passes[index] += 1
        return labels

    def _distance(self, values: Tensor, features: Tensor, chosen: Tensor) -> Tensor:
        """`(B, C)`: distances to the mean of each column's chosen rows; NaN where there are none."""
        centres = chosen.to(features.dtype).T @ features / chosen.sum(dim=0).unsqueeze(-1)  # (C, D), 0 / 0 is NaN
        distances: Tensor = torch.linalg.vector_norm(values.to(centres.dtype).unsqueeze(1) - centres, dim=-1)
        return distances

    def _state(self, kind: str, name: str) -> Tensor:
        return self.get_buffer(f"{kind}_{self.names.index(name)}")


def _mask_of(values: Tensor, present: Tensor | None) -> Tensor:
    return values.new_ones(values.shape[0], dtype=torch.bool) if present is None else present


def _keep(values: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """The rows with masked ones zeroed, and how many count (at least 1, as a divisor)."""
    valid = _mask_of(values, present)
    kept = values.masked_fill(~valid.view(-1, *[1] * (values.ndim - 1)), 0.0)
    return kept, valid.sum().clamp(min=1)


def _unit_centred(values: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows centred over the valid clips and scaled to length 1 (0 for a masked row or one at the mean)."""
    kept, count = _keep(values - clip_mean(values, present), present)
    return F.normalize(kept, dim=-1), count
