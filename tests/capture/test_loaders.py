"""Loops over loaders that give them nothing."""

import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from unstuck.capture.session import Session
from unstuck.trace import Kind

DATA = TensorDataset(torch.arange(8.0)[:, None])


def watched(loop):
    with Session() as session:
        loop()
    assert session.trace.facts.internal_error is None
    return session.trace


def lines(trace):
    return [
        (site.location.function.split(".")[-1], trace.scalars(site, "empty")) for site in trace.of_kind(Kind.LOADER)
    ]


def test_nothing_is_noted_of_loops_with_batches():
    def loop():
        loader = DataLoader(DATA, batch_size=4)
        for _ in range(2):
            assert len(list(loader)) == 2
        started = iter(loader)
        next(started)
        assert len(list(started)) == 1

    assert lines(watched(loop)) == []


def test_a_loader_without_batches():
    seen = []

    def loop():
        for batch in DataLoader(DATA, batch_size=16, drop_last=True):
            seen.append(batch)

    trace = watched(loop)
    assert seen == []
    assert lines(trace) == [("loop", [(0, 1.0)])]
    (site,) = trace.of_kind(Kind.LOADER)
    assert site.location.line == loop.__code__.co_firstlineno + 1


def test_an_iterator_that_has_given_all():
    def loop():
        batches = iter(DataLoader(DATA, batch_size=4))
        for _ in range(3):
            list(batches)

    trace = watched(loop)
    assert lines(trace) == [("loop", [(0, 1.0)])]
    (site,) = trace.of_kind(Kind.LOADER)
    assert trace.scalars(site, "filled") == [(0, 1.0)]


def test_streams_have_no_known_length():
    class Nothing(IterableDataset):
        def __iter__(self):
            return iter(())

    assert lines(watched(lambda: list(DataLoader(Nothing())))) == []


def test_everything_is_put_back():
    before = DataLoader.__iter__
    watched(lambda: None)
    assert DataLoader.__iter__ is before
