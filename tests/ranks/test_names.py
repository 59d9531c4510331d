from unstuck.ranks.names import Names
from unstuck.trace import Kind, Location, Site, Trace


def site(trace, kind=Kind.WEIGHT_LAYER, op="linear", path="", line=1, ordinal=0, folder="/a", **fields):
    n = len(trace.sites)
    place = None if line is None else Location(f"{folder}/train.py", line)
    trace.sites.append(Site(n, kind, op, path, place, n, ordinal, **fields))
    return n


def test_the_same_place_has_the_same_name_whatever_its_index_and_folder():
    one, two = Trace(), Trace()
    site(one, path="first")
    a, b = site(one, path="fc"), site(two, path="fc", folder="/home/b")
    assert Names(one).of(a) == Names(two).of(b)


def test_other_places_have_other_names():
    trace = Trace()
    places = [site(trace), site(trace, line=2), site(trace, op="tanh"), site(trace, ordinal=1), site(trace, path="x")]
    assert len({Names(trace).of(place) for place in places}) == 5


def test_places_that_nothing_tells_apart_are_counted():
    one, two = Trace(), Trace()
    names = [[Names(trace).of(n) for n in (site(trace), site(trace))] for trace in (one, two)]
    assert names[0] != names[0][::-1]
    known = Names(one)
    assert [known.of(0), known.of(1)] == [Names(two).of(0), Names(two).of(1)]


def test_a_parameter_keeps_its_name_when_its_owner_becomes_known():
    one, two = Trace(), Trace()
    site(one, Kind.PARAMETER, "parameter", "fc.weight", None)
    site(two, Kind.PARAMETER, "parameter", "fc.weight", 7, owner=3, slot="weight")
    assert Names(one).of(0) == Names(two).of(0)


def test_sites_that_come_later_are_named_too():
    trace = Trace()
    names = Names(trace)
    site(trace)
    names.refresh()
    site(trace, line=2)
    names.refresh()
    assert sorted(names.index.values()) == [0, 1]
