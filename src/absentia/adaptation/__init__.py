"""Any trained network, made to hold when modalities are absent: a small set of learned numbers for each combination."""

from __future__ import annotations

from absentia.adaptation.adapting import adapt
from absentia.adaptation.kinds import KINDS, Kind
from absentia.adaptation.network import Adapted
from absentia.adaptation.sensitivity import channel_scores, modality_importance, sensitive_sites
from absentia.adaptation.site_types import register_site

__all__ = [
    "KINDS",
    "Adapted",
    "Kind",
    "adapt",
    "channel_scores",
    "modality_importance",
    "register_site",
    "sensitive_sites",
]
