from unstuck.rules.graph import Graph
from unstuck.trace import Kind

from .helpers import TraceBuilder


def names(trace, indices):
    return {trace.sites[i].path for i in indices}


def residual():
    """stem -> (inner -> end) + stem -> head -> loss"""
    b = TraceBuilder()
    stem = b.layer("stem")
    inner = b.layer("inner", after=stem)
    end = b.layer("end", after=inner)
    head = b.layer("head", far=[end, stem])
    b.loss(after=head)
    return b.trace, stem, inner, end, head


def test_reach_over_any_distance():
    trace, _stem, inner, _end, head = residual()
    graph = Graph(trace)
    assert names(trace, graph.downstream(inner.index)) == {"end", "head", ""}
    assert names(trace, graph.upstream(head.index)) == {"stem", "inner", "end"}


def test_bypassed():
    trace, stem, inner, end, head = residual()
    graph = Graph(trace)
    assert [graph.bypassed(site) for site in (stem, inner, end, head)] == [False, True, True, False]


def test_a_loop_is_bypassed():
    b = TraceBuilder()
    cell = b.layer("cell")
    again = b.activation("tanh", after=cell)
    b.edge(again, cell)
    assert Graph(b.trace).bypassed(cell)


def test_output_layer():
    trace, stem, _inner, end, head = residual()
    graph = Graph(trace)
    assert [graph.is_output_layer(site) for site in (stem, end, head)] == [False, False, True]


def test_feeds_only_loss():
    b = TraceBuilder()
    first = b.activation("sigmoid")
    second = b.activation("sigmoid", after=b.layer(after=first))
    unused = b.activation("sigmoid")
    b.loss(after=b.site(Kind.SOFTMAX, "log_softmax", after=second))
    graph = Graph(b.trace)
    assert [graph.feeds_only_loss(site) for site in (first, second, unused)] == [False, True, False]
