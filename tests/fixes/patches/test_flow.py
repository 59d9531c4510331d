from textwrap import dedent

import libcst as cst

from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.source import Source

TEXT = dedent("""
    class Base:
        def both(self):
            work()

    class Trainer(Base):
        def __init__(self, net):
            self.net = net

        def step(self):
            self.optimizer.step()

        def fit(self):
            for x in batches:
                self.step()
                self.both()

    def work():
        deep()

    def twice():
        target()

    trainer = Trainer(net)
    for epoch in range(3):
        trainer.fit()
    while True:
        twice()
    twice()
    unknown.fit()
""")


def call(source, name, index=0):
    return [found for found in source.find(cst.Call) if called(found) == name][index]


def flow():
    source = Source(TEXT)
    return source, Flow(source)


def test_a_method_of_an_unknown_object_leads_nowhere():
    source, known = flow()
    assert known.callee(call(source, "fit", 1)) is None
    assert known.callee(call(source, "step", 0)) is None  # of the optimizer, though the file has a method of that name
    assert known.callee(call(source, "deep")) is None


def test_calls_lead_to_functions_methods_inherited_ones_and_constructors():
    source, known = flow()
    names = {name: known.callee(call(source, name)).name.value for name in ("work", "both", "Trainer", "fit", "twice")}
    assert names == {"work": "work", "both": "both", "Trainer": "__init__", "fit": "fit", "twice": "twice"}


def test_the_chain_goes_out_to_the_one_place_that_calls():
    source, known = flow()
    lines = [source.lines(statement)[0] for _, statement in known.chain(call(source, "deep"))]
    assert lines == [19, 4, 16, 14, 26, 25]


def test_the_chain_ends_where_several_places_call():
    source, known = flow()
    assert [source.lines(statement)[0] for _, statement in known.chain(call(source, "target"))] == [22]


def test_loops_around_any_of_the_calls():
    source, known = flow()
    assert {type(loop) for loop in known.loops(call(source, "target"))} == {cst.While}
    assert sorted(source.lines(loop)[0] for loop in known.loops(call(source, "deep"))) == [14, 25]


def test_a_statement_leads_to_what_its_functions_call():
    source, known = flow()
    (loop,) = source.find(cst.While)
    assert known.leads_to(loop, [call(source, "target")])
    assert not known.leads_to(loop, [call(source, "deep")])
