from __future__ import annotations

import pytest
import torch

from absentia.layers.template import FILLS, Template


@pytest.mark.parametrize("kind", FILLS)
@pytest.mark.parametrize("space", [(12, 10), (6, 8, 10)])
def test_a_crop_is_what_the_whole_has_there(kind: str, space: tuple[int, ...]) -> None:
    template = Template(channels=3, space=space, kind=kind)  # type: ignore[arg-type]
    with torch.no_grad():
        template.image.normal_(generator=torch.Generator().manual_seed(0))
    whole = template()
    assert whole.shape == (1, 3, *space)
    size = tuple(n // 2 for n in space)
    corner = torch.stack(
        [torch.zeros(len(space)).long(), torch.tensor([n - s for n, s in zip(space, size, strict=True)])]
    )
    crops = template(size, corner).expand(2, -1, *[-1] * len(space))
    assert torch.equal(crops[0], whole[0][(slice(None), *(slice(0, s) for s in size))])
    assert torch.equal(crops[1], whole[0][(slice(None), *(slice(-s, None) for s in size))])


@pytest.mark.parametrize("kind", FILLS)
def test_roughness_is_zero_when_flat_and_smooths_when_minimised(kind: str) -> None:
    template = Template(channels=2, space=(8, 8), kind=kind)  # type: ignore[arg-type]
    with torch.no_grad():
        template.image.fill_(3.0)
    assert template.roughness().item() < 1e-5
    template.roughness().backward()
    assert torch.isfinite(template.image.grad).all()  # type: ignore[arg-type]
    with torch.no_grad():
        template.image.normal_(generator=torch.Generator().manual_seed(0))
    before = template.roughness().item()
    optimizer = torch.optim.SGD(template.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        template.roughness().backward()
        optimizer.step()
    assert template.roughness().item() < before or kind == "scalar"


def test_beyond_the_picture_its_edge_goes_on() -> None:
    template = Template(channels=1, space=(8, 8), kind="full")
    crop = template((4, 10), torch.tensor([[6, 0]]))[0, 0]
    whole = template()[0, 0]
    assert torch.equal(crop[:2, :8], whole[6:]) and torch.equal(crop[3, :8], whole[7])
    assert torch.equal(crop[:2, 9], whole[6:, 7])
