from __future__ import annotations

import pytest
from tests.adaptation.zoo import adapted, animal

from absentia.adaptation import KINDS, Kind
from absentia.adaptation.forms import Affine, LowRank
from absentia.adaptation.kinds import kind_named
from absentia.adaptation.sites import Filter, find_sites
from absentia.errors import UserError


def used(kind: str, name: str) -> list[str]:
    return [site.name for site in KINDS[kind].uses(find_sites(animal(name), Filter())[0])]


def test_bias_learns_only_where_there_is_one() -> None:
    assert used("bias", "attention, no bias") == ["a", "head"]
    assert used("bias", "attention") == ["a", "attention.in_proj", "attention.out_proj", "head"]
    assert "square" not in used("bias", "convolutions") and "one" in used("bias", "convolutions")
    assert "both" not in used("bias", "words") and "words" not in used("bias", "words")


def test_norm_learns_at_norms() -> None:
    assert used("norm", "conv fusion") == ["encoders.rgb.1", "encoders.depth.1", "fusion.norm1", "fusion.norm2"]


def test_low_rank_learns_at_matrices() -> None:
    assert used("low-rank", "convolutions") == ["one", "square", "three", "head"]
    assert used("low-rank", "words") == ["b", "head"]
    assert "attention.in_proj" not in used("low-rank", "attention, kdim")
    assert used("low-rank", "lstm") == ["a", "b", "head"]


def test_a_norm_without_bias_takes_no_shift() -> None:
    left = set(used("scale", "norms")) - set(used("shift", "norms"))
    assert left == {"last.5", "last.6"}


def test_the_head_is_the_last_that_runs_and_not_the_last_that_is_written_down() -> None:
    assert [s.name for s in adapted("words", kind="head-only").bank.sites] == ["head"]
    assert [s.name for s in adapted("tied", kind="head-only").bank.sites] == ["decoder"]


def test_a_kind_may_be_made_of_ones_own_form_and_sites() -> None:
    own = Kind("own", LowRank(rank=1), lambda site: site.name.startswith("encoders."))
    assert [s.name for s in adapted("conv fusion", kind=own).bank.sites] == ["encoders.rgb.0", "encoders.depth.0"]
    assert adapted("conv fusion", kind=Kind("both", Affine(shift=False), composed=True)).bank.set_names[0] == "-rgb"


def test_kinds_are_found_by_name_and_low_rank_by_rank() -> None:
    form = kind_named("low-rank:8").form
    assert isinstance(form, LowRank) and form.rank == 8
    for wrong in ("low-rank:x", "low-rank:-1", "scale:3", "", "Scale"):
        with pytest.raises(UserError, match="unknown kind"):
            kind_named(wrong)
