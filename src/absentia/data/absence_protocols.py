"""The protocols of the literature, said as rules: η, r and p there are all "missing ratios".

* η with its text / image / both split: `eta(0.7, absent="both", modalities=("text", "image"))`
* a fraction η of incomplete rows, what remains drawn evenly: `Rule(p_incomplete=0.7)`
* each modality dropped with probability r, drawn again when nothing is left: `bernoulli(0.5, modalities)`
* the same with a rate of its own for each: `per_modality({"t1": 0.2, "flair": 0.6}, modalities)`
* either of them in counts, as PASSION draws its imbalanced sets: `per_modality(..., exact=True)`
* so many rows that end up without each modality: `Rule(p_absent={"t1": 0.2, "flair": 0.6})`
* any other table of patterns: `Rule(patterns={"image+text": 3, "image": 1})`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from absentia.data.absence_counted import left_of
from absentia.data.absence_rules import Rule
from absentia.data.schema import pattern_name
from absentia.errors import UserError, nearest

__all__ = ["bernoulli", "eta", "per_modality"]

EVENLY = ("both", "any")


def eta(ratio: float, *, absent: str = "both", modalities: Sequence[str]) -> Rule:
    """The missing ratio η: this share of rows lacks `absent`, or with "both" one modality each, evenly.

    With more than two modalities "both" reads better as "any"; they are the same.

    >>> eta(0.6, modalities=("text", "image")).asked(("text", "image"))["patterns"]
    {'text+image': 0.4, 'image': 0.3, 'text': 0.3}
    """
    if absent not in (*EVENLY, *modalities):
        raise UserError(f"unknown modality {absent!r}; {nearest(absent, [*EVENLY, *modalities])}")
    lost = [absent] if absent in modalities else list(modalities)
    remain = [pattern_name(modalities, [name != gone for name in modalities]) for gone in lost]
    return Rule(p_incomplete=ratio, composition=dict.fromkeys(remain, 1.0))


def bernoulli(rate: float, modalities: Sequence[str], *, exact: bool = False) -> Rule:
    """Each modality dropped independently with probability `rate`, drawn again where nothing is left.

    Drawing again lowers the share that ends up absent to (r - r^M) / (1 - r^M): that is what the rule asks
    for.  exact: in counts, see `per_modality`.
    """
    if not 0 <= rate <= 1:
        raise UserError(f"rate is {rate}; a probability lies between 0 and 1")
    if exact:
        return per_modality(dict.fromkeys(modalities, rate), modalities, exact=True)
    powers = [rate**k for k in range(len(modalities))]  # the fraction above with 1 - r cancelled, for r = 1
    return Rule(p_absent=dict.fromkeys(modalities, math.fsum(powers[1:]) / math.fsum(powers)))


def per_modality(rates: Mapping[str, float], modalities: Sequence[str], *, exact: bool = False) -> Rule:
    """Each modality dropped independently with its own probability, drawn again where nothing is left.

    The rule asks for what remains of the rates then: (p_m - prod p) / (1 - prod p).
    exact: in counts: of N entities the whole part of N prod (p or 1 - p) get each pattern, 1 at least, and only the
    rest are drawn. This is how the sets of PASSION came about (Shi et al., ACM MM 2024); of the 219 training subjects
    of BraTS2020 it settles 204, and their tables have 184, 135, 90 and 43 with T1, T1ce, FLAIR and T2.

    >>> rates = {"t1": 0.2, "t1ce": 0.4, "flair": 0.6, "t2": 0.8}
    >>> {name: round(219 * (1 - p)) for name, p in per_modality(rates, list(rates)).p_absent.items()}
    {'t1': 182, 't1ce': 137, 'flair': 91, 't2': 46}
    """
    for name, rate in rates.items():
        if name not in modalities:
            raise UserError(f"unknown modality {name!r}; {nearest(name, modalities)}")
        if not 0 <= rate <= 1:
            raise UserError(f"rate of {name!r} is {rate}; a probability lies between 0 and 1")
    given = {name: rates.get(name, 0.0) for name in modalities}
    left = left_of(given)
    return Rule(counted=given) if exact else Rule(p_absent=left)
