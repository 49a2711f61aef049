"""`cohort-volumes`: the people of `cohort` as small volumes of 24 x 24 x 24."""

from __future__ import annotations

import datasets

from absentia.data.catalog import cohort

__all__ = ["DECLARATION", "build"]

DECLARATION = cohort.DECLARATION


def build() -> datasets.Dataset:
    """As `cohort.build`, in three dimensions."""
    return cohort.build(dims=3)
