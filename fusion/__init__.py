"""Fusion heads: modality sequences in, predictions out. Pure PyTorch."""

from fusion.adaptation_gate import MultimodalAdaptationGate
from fusion.almt import ALMT
from fusion.attribution import shapley_values
from fusion.bottleneck import BottleneckFusion
from fusion.catalog import HeadDescription, describe, head_class, head_classes
from fusion.cenet import CENET
from fusion.co_attention import CoAttentionFusion
from fusion.cross_attention import CrossAttentionFusion
from fusion.early import EarlyFusion
from fusion.gated import GatedFusion
from fusion.graph_memory import GraphMemoryFusion
from fusion.grid import common_grid
from fusion.head import FusionHead
from fusion.hierarchical import HierarchicalFusion
from fusion.hierarchical_attention import HierarchicalAttentionFusion
from fusion.late import LateFusion
from fusion.late_mlp import LateMLPFusion
from fusion.low_rank import LowRankFusion
from fusion.mctn import MCTN
from fusion.memory import MemoryFusion
from fusion.mfm import MFM
from fusion.misa import MISA
from fusion.mmim import MMIM
from fusion.modality_dropout import ModalityDropout
from fusion.modality_experts import ModalityExpertsFusion
from fusion.mult import MulT
from fusion.output import FusionOutput
from fusion.product_of_experts import ProductOfExpertsFusion
from fusion.query_tokens import QueryTokenFusion
from fusion.resampler import ResamplerFusion
from fusion.self_mm import SelfMM
from fusion.sequence import ModalitySequence
from fusion.shared_attention import SharedAttentionFusion
from fusion.single_stream import SingleStreamFusion
from fusion.stacking import StackingFusion
from fusion.tensor import TensorFusion
from fusion.tetfn import TETFN
from fusion.tfr_net import TFRNet
from fusion.tucker import TuckerFusion
from fusion.unimodal_supervision import UnimodalSupervision
from fusion.zero_adapter import ZeroAdapterFusion

__all__ = [
    "ALMT",
    "CENET",
    "MCTN",
    "MFM",
    "MISA",
    "MMIM",
    "TETFN",
    "BottleneckFusion",
    "CoAttentionFusion",
    "CrossAttentionFusion",
    "EarlyFusion",
    "FusionHead",
    "FusionOutput",
    "GatedFusion",
    "GraphMemoryFusion",
    "HeadDescription",
    "HierarchicalAttentionFusion",
    "HierarchicalFusion",
    "LateFusion",
    "LateMLPFusion",
    "LowRankFusion",
    "MemoryFusion",
    "ModalityDropout",
    "ModalityExpertsFusion",
    "ModalitySequence",
    "MulT",
    "MultimodalAdaptationGate",
    "ProductOfExpertsFusion",
    "QueryTokenFusion",
    "ResamplerFusion",
    "SelfMM",
    "SharedAttentionFusion",
    "SingleStreamFusion",
    "StackingFusion",
    "TFRNet",
    "TensorFusion",
    "TuckerFusion",
    "UnimodalSupervision",
    "ZeroAdapterFusion",
    "common_grid",
    "describe",
    "head_class",
    "head_classes",
    "shapley_values",
]
