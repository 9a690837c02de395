"""Clustering of vectors whose clusters are known."""

import torch

from training.kmeans import assign, kmeans


def test_well_parted_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = (centres[:, None] + torch.randn(3, 200, 2, generator=generator)).flatten(0, 1)
    found = kmeans(vectors, 3, iterations=20, seed=1)
    nearest, _ = assign(centres, found)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    assert (found[nearest] - centres).norm(dim=1).max() < 0.5


def test_assignment_is_the_nearest_with_its_true_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, centroids = torch.randn(300, 5, generator=generator), torch.randn(40, 5, generator=generator)
    nearest, distance = assign(vectors, centroids)
    expected = torch.cdist(vectors, centroids).square().min(dim=1)
    assert torch.equal(nearest, expected.indices)
    torch.testing.assert_close(distance, expected.values, rtol=1e-4, atol=1e-4)
