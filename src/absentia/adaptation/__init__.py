"""Any trained network, made to hold when modalities are absent: a small set of learned numbers for each combination."""

from __future__ import annotations

from absentia.adaptation.adapting import adapt
from absentia.adaptation.kinds import KINDS, Kind
from absentia.adaptation.network import Adapted
from absentia.adaptation.site_types import register_site

__all__ = ["KINDS", "Adapted", "Kind", "adapt", "register_site"]
