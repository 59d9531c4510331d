"""Traces as several processes leave them when their steps were merged."""

from unstuck.trace import Kind

from ..helpers import TraceBuilder

VECTORS = {
    "rank_loss": 1.0,
    "rank_nonfinite_since": -1.0,
    "rank_data": None,
    "rank_parameters": 5.0,
    "rank_bad_rows": 0,
}


def merged(steps=range(10), size=2, *, gradients_equal=1.0, data_parallel=0.0, tensor_parallel=0.0, **vectors):
    """A builder and its backward call; `vectors` gives, by step, what each rank brought (default: all alike)."""
    b = TraceBuilder(steps)
    place = b.site(Kind.BACKWARD, "backward")
    for step in b.steps:
        for name, value in VECTORS.items():
            usual = [float(step * size + rank) if value is None else value for rank in range(size)]
            b.trace.add_vector(step, place.index, name, vectors[name](step) if name in vectors else usual)
        b.trace.objective[step] = 1.0
        for name, known in (("gradients_equal", gradients_equal), ("data_parallel", data_parallel)):
            b.scalar(place, name, known, [step])
        b.scalar(place, "tensor_parallel", tensor_parallel, [step])
    return b, place


def alone(steps=range(10)):
    """A builder for a single process."""
    b = TraceBuilder(steps)
    b.site(Kind.BACKWARD, "backward")
    b.trace.objective.update(dict.fromkeys(b.steps, 1.0))
    return b
