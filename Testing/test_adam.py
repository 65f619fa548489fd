"""Adam: the same steps as torch's, without what torch's brings along."""

import subprocess
import sys

import torch
from nephi.align.adam import Adam


def _target(parameters):
    return sum(((p - k) ** 2).sum() * (k + 1) for k, p in enumerate(parameters))


def test_the_steps_are_those_of_torch():
    start = [torch.randn(5, 3, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    ours, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    adam = Adam([(ours[:1], 0.1, 0.0), (ours[1:], 0.02, 0.0)], betas=(0.9, 0.99))
    reference = torch.optim.Adam([{"params": theirs[:1], "lr": 0.1}, {"params": theirs[1:], "lr": 0.02}],
                                 betas=(0.9, 0.99))
    for _ in range(30):
        adam.zero_grad()
        _target(ours).backward()
        adam.step()
        reference.zero_grad()
        _target(theirs).backward()
        reference.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs))
    assert all(not torch.allclose(a, b, atol=0.1) for a, b in zip(ours, start))


def test_a_factor_scales_the_step_and_a_parameter_without_gradient_stays():
    moved, still = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    adam = Adam([([moved, still], 0.1, 0.0)], betas=(0.9, 0.99))
    moved.sum().backward()
    adam.step(0.5)
    assert torch.allclose(moved, torch.full((2,), 0.95), atol=1e-6)
    assert torch.equal(still, torch.ones(2))


def test_with_a_floor_an_entry_that_hardly_counts_hardly_moves():
    steps = []
    for floor in (0.0, 0.1):
        moved = torch.zeros(100, requires_grad=True)
        adam = Adam([([moved], 0.1, floor)], betas=(0.9, 0.99))
        (moved * torch.cat([torch.ones(99), torch.full((1,), 1e-3)])).sum().backward()
        adam.step()
        steps.append(moved.detach().abs())
    assert torch.allclose(steps[0], torch.full((100,), 0.1), atol=1e-5)
    assert float(steps[1][-1]) < 0.002 and torch.allclose(steps[1][:-1], torch.full((99,), 0.1 / 1.1), atol=1e-3)


def test_a_registration_does_not_import_torchs_compiler():
    code = ("import sys; from nephi import Options, run; from nephi.images.phantom import shapes_2d; "
            "run(*shapes_2d(32)[:2], Options.from_preset('generic', resolution=[16.0], iterations=[2])); "
            "sys.exit('torch._dynamo' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
