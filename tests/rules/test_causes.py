from unstuck.findings import Finding, Severity
from unstuck.rules.catalogue import get_rule
from unstuck.rules.causes import causal_order, group


def finding(code, *, severity=None, site_index=None, explains=None):
    rule = get_rule(code)
    return Finding(
        rule.code,
        rule.name,
        rule.severity if severity is None else severity,
        "somewhere",
        None,
        (0, 1),
        2.0,
        1.0,
        "1",
        "two is more than one",
        explains=rule.explains if explains is None else explains,
        site_index=site_index,
    )


def codes(findings):
    return [(cause.root.code, [symptom.code for symptom in cause.symptoms]) for cause in group(findings)]


def test_nothing():
    assert group([]) == []


def test_unrelated_findings_are_all_roots_in_causal_order():
    assert codes([finding("U001"), finding("N001"), finding("L001"), finding("G003")]) == [
        ("L001", []),
        ("G003", []),
        ("U001", []),
        ("N001", []),  # for information
    ]


def test_the_lecture_start():
    found = [finding("A002"), finding("L001"), finding("A001"), finding("I002")]
    assert codes(found) == [("I002", ["A001", "A002"]), ("L001", [])]


def test_chains_lead_to_their_root():
    found = [
        finding("I002", explains=("A001",)),
        finding("A001", explains=("G001",)),
        finding("G001", explains=("U001",)),
        finding("U001", explains=()),
    ]
    assert codes(found) == [("I002", ["A001", "G001", "U001"])]


def test_a_later_stage_may_explain_an_earlier_one():
    assert codes([finding("A002"), finding("U001"), finding("L011")]) == [("U001", ["A002", "L011"])]


def test_the_earliest_of_two_explanations_wins():
    assert codes([finding("U001"), finding("I002"), finding("A002")]) == [("I002", ["A002"]), ("U001", [])]


def test_of_a_circle_the_first_in_causal_order_is_the_root():
    found = [finding("U001", explains=("A001",)), finding("A001", explains=("U001",))]
    assert codes(found) == [("A001", ["U001"])]


def test_a_longer_circle_has_one_root():
    found = [
        finding("A001", explains=("U001",)),
        finding("G001", explains=("A001",)),
        finding("U001", explains=("G001",)),
    ]
    assert codes(found) == [("G001", ["A001", "U001"])]  # A001 ← G001, and U001 ← A001; G001 ← U001 would close it


def test_a_finding_does_not_explain_itself():
    assert codes([finding("A001", explains=("A001",))]) == [("A001", [])]


def test_information_explains_nothing_and_comes_last():
    found = [finding("I002", severity=Severity.INFO), finding("A001")]
    assert codes(found) == [("A001", []), ("I002", [])]


def test_information_can_be_explained():
    assert codes([finding("I002"), finding("A001", severity=Severity.INFO)]) == [("I002", ["A001"])]


def test_order_is_stage_then_severity_then_place():
    late, early = finding("A001", site_index=9), finding("A001", site_index=2)
    worst, nowhere = finding("A002", severity=Severity.ERROR, site_index=50), finding("A001")
    assert sorted([nowhere, late, early, worst], key=causal_order) == [worst, early, late, nowhere]


def test_every_finding_appears_once():
    found = [finding(code, site_index=i) for i, code in enumerate(("A001", "A001", "I002", "U001", "L011", "G001"))]
    causes = group(found)
    listed = [f for cause in causes for f in (cause.root, *cause.also, *cause.symptoms)]
    assert sorted(f.site_index for f in listed) == list(range(6))


def test_one_fault_at_several_places_is_one_cause():
    first, second, third = (finding("U001", site_index=place) for place in (3, 1, 2))
    (cause,) = group([first, second, third, finding("A002", site_index=9)])
    assert cause.root is second
    assert cause.also == (third, first)
    assert [symptom.code for symptom in cause.symptoms] == ["A002"]
