"""The largest eigenvalue of the validation loss's Hessian by the architecture (RobustDARTS, Zela et al., ICLR 2020).

A search that is about to collapse runs into ever sharper minima. The original builds the whole matrix, row by row, and asks a solver for
real matrices in general; the matrix is symmetric and has negative eigenvalues, and "largest" means the algebraic maximum.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Eigenvalue:
    """value: the estimate; error: a bound on its distance to the nearest eigenvalue (0: exact); products: Hessian-vector products taken."""

    value: float
    error: float
    products: int


class Hessian:
    """The Hessian (n,n) of a scalar `loss`, with its graph, by `parameters` of n numbers in all; one forward pass serves all products."""

    def __init__(self, loss: torch.Tensor, parameters: list[torch.Tensor]):
        self.parameters = parameters
        self.gradient = self._flat(torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True))
        self.size = len(self.gradient)

    @staticmethod
    def _flat(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat([part.reshape(-1) for part in parts])

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """H v for v (n,): one backward pass."""
        return self._flat(torch.autograd.grad(self.gradient, self.parameters, vector, retain_graph=True, materialize_grads=True))

    def dense(self) -> torch.Tensor:
        """The matrix (n,n), row by row in n backward passes: the oracle, for tests and small spaces."""
        return torch.stack([self.product(row) for row in torch.eye(self.size, dtype=self.gradient.dtype, device=self.gradient.device)])


def dense_eigenvalue(hessian: Hessian) -> Eigenvalue:
    """The largest eigenvalue from the whole matrix."""
    matrix = hessian.dense().double()
    return Eigenvalue(float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]), 0.0, hessian.size)


def lanczos_eigenvalue(hessian: Hessian, *, tolerance: float = 1e-3, most: int | None = None, seed: int = 0) -> Eigenvalue:
    """The largest eigenvalue from Hessian-vector products alone (Lanczos 1950, with full reorthogonalisation, in float64).

    Ends when the residual bounds the error by tolerance * max(|largest|, |smallest|) of the matrix so far, at an invariant subspace, or
    after `most` products (default: n). The start is a random direction that `seed` decides.
    """
    most = hessian.size if most is None else most
    if most < 1 or tolerance <= 0:
        raise ValueError(f"most, tolerance: expected at least 1 and above 0, got {most} and {tolerance}")
    start = torch.randn(hessian.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    basis, diagonal, beside = [start / start.norm()], [], []
    while True:
        vector = hessian.product(basis[-1].to(hessian.gradient)).double().cpu()
        diagonal.append(float(vector @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):  # once is not enough in finite precision
            vector = vector - known.T @ (known @ vector)
        rest = float(vector.norm())
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        error, scale = rest * abs(float(vectors[-1, -1])), float(values.abs().max())
        if len(diagonal) >= min(most, hessian.size) or error <= tolerance * scale or rest <= 1e-12 * scale:
            return Eigenvalue(float(values[-1]), error, len(diagonal))
        beside.append(rest)
        basis.append(vector / rest)


def _tridiagonal(diagonal: list[float], beside: list[float]) -> torch.Tensor:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, value in enumerate(beside):
        matrix[i, i + 1] = matrix[i + 1, i] = value
    return matrix


EIGENVALUES = {"lanczos": lanczos_eigenvalue, "dense": dense_eigenvalue}
