"""Dice and HD95 of masks: per subject, with a said policy for what is empty."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from absentia.data.schema import Target
from absentia.data.segmentation import Masks
from absentia.data.target import TargetCodec
from absentia.evaluate.metrics import goodness_sign, main_metric, score
from absentia.evaluate.overlap import hd95, overlaps, region_scores, taken_back


def codec(**settings: Any) -> TargetCodec:
    regions = {"WT": [1, 4], "ET": [4]}
    target = Target("seg", kind="mask", classes=("WT", "ET"), masks=Masks(**({"regions": regions} | settings)))
    return TargetCodec(target=target, prior=(0.1, 0.05))


def masks(*rows: tuple[int, int]) -> torch.Tensor:
    """(n, 2, 1, 10): so many first voxels of each region."""
    out = torch.zeros(len(rows), 2, 1, 10, dtype=torch.bool)
    for i, counts in enumerate(rows):
        for k, count in enumerate(counts):
            out[i, k, 0, :count] = True
    return out


def kept(answered: torch.Tensor, truth: torch.Tensor, **more: Any) -> Any:
    return overlaps(answered, truth.float(), [(1.0, 1.0)] * len(truth), **more).numpy()


def test_dice_is_the_mean_over_regions_and_then_subjects() -> None:
    overlap = kept(masks((4, 2), (6, 0)), masks((8, 2), (6, 4)))
    found = region_scores(overlap, ["a", "b"], codec())
    assert found["dice WT"] == pytest.approx((8 / 12 + 1) / 2) and found["dice ET"] == pytest.approx((1 + 0) / 2)
    assert found["dice"] == pytest.approx(((8 / 12 + 1) / 2 + (1 + 0) / 2) / 2)


def test_slices_of_one_patient_are_one_volume() -> None:
    overlap = kept(masks((4, 2), (6, 0)), masks((8, 2), (6, 4)))
    found = region_scores(overlap, ["a", "a"], codec())
    assert found["dice WT"] == pytest.approx(20 / 24) and found["dice ET"] == pytest.approx(4 / 8)


@pytest.mark.parametrize(("empty", "expected"), [("one", 1.0), ("zero", 0.5), ("nan", 1.0)])
def test_an_empty_region_answered_with_nothing_counts_as_was_said(empty: str, expected: float) -> None:
    overlap = kept(masks((4, 0)), masks((4, 0)))
    found = region_scores(overlap, ["a"], codec(empty=empty))
    assert found["dice"] == expected and found["dice ET"] == {"one": 1.0, "zero": 0.0, "nan": None}[empty]
    nothing = score(kept(masks((0, 0)), masks((0, 0))), np.zeros((1, 2)), ["a"], codec(empty=empty))
    assert nothing.score == {"one": 1.0, "zero": 0.0, "nan": None}[empty]


def test_distances_where_one_side_is_empty_are_said_by_the_user() -> None:
    answered, truth = masks((4, 0), (4, 0)), masks((6, 3), (4, 0))
    assert np.isnan(kept(answered, truth)[:, 1, 3]).all()
    overlap = kept(answered, truth, lone=373.13)
    assert overlap[0, 1, 3] == 373.13 and overlap[1, 1, 3] == 0 and overlap[0, 0, 3] == pytest.approx(1.9, abs=0.2)
    assert np.isnan(overlaps(answered, truth.float()).numpy()[..., 3]).all(), "they are measured where asked for"


@pytest.mark.parametrize(("shape", "spacing"), [((30, 40), (1.0, 1.0)), ((20, 24, 18), (1.0, 2.0, 0.5))])
def test_distances_are_those_of_monai(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    draw = np.random.default_rng(0)
    for _ in range(3):
        pair = [gaussian_filter(draw.normal(size=shape), 2) > level for level in (0.05, 0.06)]
        tensors = [torch.tensor(x)[None, None].float() for x in pair]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI calls something of its own that it has deprecated
            theirs = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=list(spacing))
        assert hd95(pair[0], pair[1], spacing) == pytest.approx(float(theirs), rel=1e-5)


def test_small_regions_are_taken_back() -> None:
    chosen = masks((5, 2), (5, 3))
    plain, fewer = (taken_back(chosen, codec(**s)) for s in ({}, {"fewest": {"ET": 3}}))
    assert plain.flatten(2).sum(dim=2).tolist() == [[5, 2], [5, 3]]
    assert fewer.flatten(2).sum(dim=2).tolist() == [[5, 0], [5, 3]]


def test_dice_of_what_is_left_stands_beside_the_plain_one() -> None:
    answered, truth = masks((5, 2), (5, 3), (5, 2)), masks((5, 0), (5, 3), (5, 2))
    found = region_scores(kept(answered, truth), ["a", "b", "c"], codec(fewest={"ET": 3}))
    assert found["dice ET"] == pytest.approx((0 + 1 + 1) / 3), "the plain one is not touched"
    assert found["dice_post ET"] == pytest.approx((1 + 1 + 0) / 3) and "dice_post WT" not in found
    after = region_scores(kept(taken_back(answered, codec(fewest={"ET": 3})), truth), ["a", "b", "c"], codec())
    assert found["dice_post ET"] == after["dice ET"], "as of the masks that are predicted"
    assert not [key for key in region_scores(kept(answered, truth), ["a", "b", "c"], codec()) if "post" in key]
    single = replace(codec(fewest={"ET": 3}), target=replace(codec(fewest={"ET": 3}).target, classes=("ET",)))
    alone = region_scores(kept(answered, truth)[:, 1:], ["a", "b", "c"], single)
    assert alone["dice_post"] == found["dice_post ET"]


def test_the_interval_resamples_subjects() -> None:
    draw = np.random.default_rng(0)
    sizes = [(int(a), int(b)) for a, b in draw.integers(1, 10, (40, 2))]
    overlap = kept(masks(*sizes), masks(*[(5, 5)] * 40))
    ids = [f"p{i // 4}" for i in range(40)]
    found = score(overlap, np.zeros((40, 2)), ids, codec())
    assert found.score is not None and found.low is not None and found.high is not None
    assert found.low < found.score < found.high
    one = score(overlap, np.zeros((40, 2)), ["a"] * 40, codec())
    assert one.low == pytest.approx(one.high) and one.low == pytest.approx(one.score)
    order = draw.permutation(40)
    again = score(overlap[order], np.zeros((40, 2)), [ids[i] for i in order], codec())
    assert (again.score, again.low, again.high) == pytest.approx((found.score, found.low, found.high))


def test_a_mask_is_measured_by_dice() -> None:
    assert main_metric(codec()) == "dice" and goodness_sign(codec()) == 1
    assert score(np.zeros((0, 2, 4)), np.zeros((0, 2)), [], codec()).score is None
    single = replace(codec(), target=replace(codec().target, classes=("WT",)))
    assert set(region_scores(kept(masks((4, 2)), masks((4, 2)))[:, :1], ["a"], single)) == {"dice", "hd95"}
