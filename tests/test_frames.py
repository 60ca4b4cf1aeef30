"""Arithmetic of frames."""

from __future__ import annotations

import torch

from svae.frames import ceil_div, interpolate_frames, length_mask, num_frames


def test_an_incomplete_frame_counts_for_numbers_and_tensors():
    samples = [0, 1, 399, 400, 401, 800]
    assert [num_frames(n, 400) for n in samples] == [0, 1, 1, 1, 2, 2]
    assert num_frames(torch.tensor(samples), 400).tolist() == [0, 1, 1, 1, 2, 2]
    assert ceil_div(7, 3) == 3


def test_length_mask_counts_from_the_left():
    mask = length_mask(torch.tensor([0, 2, 4]), 4)
    assert mask.tolist() == [[False] * 4, [True, True, False, False], [True] * 4]


def test_interpolation_repeats_the_ends_and_copies_at_whole_positions():
    features = torch.randn(2, 5, 3)
    positions = torch.tensor([-2.0, 0.0, 3.0, 4.0, 7.5], dtype=torch.float64)
    torch.testing.assert_close(
        interpolate_frames(features, positions), features[:, [0, 0, 3, 4, 4]]
    )
