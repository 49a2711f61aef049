"""The report of a network that was adapted in several ways: its page, and its table for a terminal."""

from __future__ import annotations

from absentia.evaluate.adapters.page import render_study
from absentia.evaluate.adapters.terminal import StudyTable

__all__ = ["StudyTable", "render_study"]
