"""Lloyd's algorithm with k-means++ like seeding by sampling, on whatever device the vectors are."""

import torch
from torch import Tensor

BLOCK = 16_384


def kmeans(vectors: Tensor, count: int, iterations: int, seed: int) -> Tensor:
    """Return centroids float32 [count, size] of vectors float32 [N, size]; an empty cluster takes a far vector."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    centroids = vectors[
        torch.randperm(len(vectors), generator=generator, device="cpu")[:count].to(vectors.device)
    ].clone()
    for _ in range(iterations):
        nearest, distance = assign(vectors, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors)
        sizes = torch.bincount(nearest, minlength=count)
        centroids = sums / sizes.clamp(min=1)[:, None]
        empty = torch.nonzero(sizes == 0)[:, 0]
        if len(empty):
            centroids[empty] = vectors[distance.topk(len(empty)).indices]
    return centroids


def assign(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centroid of each vector, int64 [N], and its squared distance less the vector's own norm."""
    squared = (centroids**2).sum(dim=1)
    nearest, distance = [], []
    for block in vectors.split(BLOCK):
        best = (squared - 2 * block @ centroids.T).min(dim=1)
        nearest.append(best.indices)
        distance.append(best.values + (block**2).sum(dim=1))
    return torch.cat(nearest), torch.cat(distance)
