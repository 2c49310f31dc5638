"""The contestants of a step that touches few rows of a large table: torch's optimizers that take sparse gradients.

A call makes a sparse tensor of row numbers and values that lie in tensors already, and steps: other rows in each call, until
they come again. Weights are compared by the first row, which is in every second set: so that who moves rows that no gradient
touches is found out, as torch's SGD with momentum. Rates are 1e-3, all else is as torch has it.
"""

import itertools

from contestants import LR, on_threads


class RowsProblem:
    """A rule, the table's dims and sets of row numbers; the values of set k are sin(k), sin(k + 1), ..."""

    def __init__(self, rule, mode, dims, rows):
        import numpy

        self.rule, self.mode, self.dims, self.cycle = rule, mode, tuple(dims), len(rows)
        self.rows = [numpy.array([numbers], numpy.int64) for numbers in rows]

    def sets(self):
        """Row numbers and values of each set."""
        import numpy
        import torch

        _, width = self.dims
        for start, rows in enumerate(self.rows):
            values = numpy.sin(numpy.arange(start, start + rows.size * width, dtype=numpy.float64)).astype(numpy.float32)
            yield torch.tensor(rows), torch.tensor(values.reshape(rows.size, width))


def torch_rows(problem, way):
    """Rows come rising and once each: torch may be told so (`coalesced`), or finds out by itself."""
    import torch

    table = torch.zeros(problem.dims, requires_grad=True)
    optimizer = {
        'sgd': lambda: torch.optim.SGD([table], lr=LR),
        'adagrad': lambda: torch.optim.Adagrad([table], lr=LR),
        'adam': lambda: torch.optim.SparseAdam([table], lr=LR),
    }[problem.rule]()
    sets = itertools.cycle(list(problem.sets()))
    coalesced = way == 'coalesced'

    def call():
        indices, values = next(sets)
        table.grad = torch.sparse_coo_tensor(indices, values, problem.dims, is_coalesced=coalesced, check_invariants=False)
        optimizer.step()

    return call, lambda: table.detach().numpy().ravel()


def rows_contestants():
    return dict(on_threads('torch sparse', torch_rows, {'rows': ('coalesced', 'plain')}))
