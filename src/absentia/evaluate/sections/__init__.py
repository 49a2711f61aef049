"""What each section of the page says: a report's numbers as plain values that the template lays out."""

from __future__ import annotations

from absentia.evaluate.sections.about import about
from absentia.evaluate.sections.data import bad_cells, pattern_counts, plan_rates, shares
from absentia.evaluate.sections.examples import examples
from absentia.evaluate.sections.gap import gap
from absentia.evaluate.sections.heat import heat
from absentia.evaluate.sections.listing import Listing, listed
from absentia.evaluate.sections.reconstruction import reconstruction
from absentia.evaluate.sections.regions import regions
from absentia.evaluate.sections.scores import cards, pattern_table
from absentia.evaluate.sections.slices import slices

__all__ = [
    "Listing",
    "about",
    "bad_cells",
    "cards",
    "examples",
    "gap",
    "heat",
    "listed",
    "pattern_counts",
    "pattern_table",
    "plan_rates",
    "reconstruction",
    "regions",
    "shares",
    "slices",
]
