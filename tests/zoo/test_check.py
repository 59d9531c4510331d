"""What `python -m zoo.check` makes of a pair."""

import pytest
from zoo.processes import Processes, ProgramError

from zoo import check


def result(faulty, fixed, must_be_worse=True):
    return check.Result("lake-depths", "T005", faulty, fixed, must_be_worse)


@pytest.mark.parametrize(("faulty", "fixed", "worse"), [(1.06, 1, True), (1.04, 1, False), (-0.9, -1, True)])
def test_a_fault_costs_five_percent_of_the_twins_loss(faulty, fixed, worse):
    assert result(faulty, fixed).is_worse is worse
    assert result(faulty, fixed).passes is worse
    assert result(faulty, fixed, must_be_worse=False).passes


def test_a_loss_that_is_not_a_number_is_worse_but_not_in_the_twin():
    assert result(float("nan"), 1).passes
    assert not result(1, float("nan")).passes


@pytest.mark.parametrize("line", ["final_loss high", "final_loss ", "other 1", "final_loss 1\nfinal_loss 2"])
def test_the_metric_must_be_printed_once(tmp_path, line):
    script = tmp_path / "faulty.py"
    script.write_text(f"print({line!r})\n")
    with pytest.raises(ProgramError, match="printed"):
        check.final_metric(script, "final_loss", Processes())


def test_the_metric_is_read(tmp_path):
    script = tmp_path / "faulty.py"
    script.write_text("print('step 1')\nprint('final_loss nan')\n")
    assert str(check.final_metric(script, "final_loss", Processes())) == "nan"


def test_a_pair_that_fails_does_not_cost_the_others(monkeypatch, capsys):
    def run(folder, processes):
        if folder.name == "small-clinic":
            raise ProgramError("small-clinic/fixed.py took longer than 120 s")
        return result(2, 1)

    monkeypatch.setattr(check, "run_pair", run)
    assert check.main(["small-clinic", "lake-depths"]) == 1
    printed = capsys.readouterr().out
    assert "| lake-depths | T005 | 2.0000 | 1.0000 | yes |" in printed
    assert "- small-clinic/fixed.py took longer than 120 s" in printed
    assert check.main(["lake-depths"]) == 0


def test_an_interrupt_ends_it(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run_pair", interrupted)
    assert check.main(["lake-depths"]) == 130


def test_an_unknown_pair_and_a_senseless_number_are_refused(capsys):
    for arguments, complaint in ((["nowhere"], "no such pair: nowhere"), (["--jobs", "0"], "1 or more")):
        with pytest.raises(SystemExit) as ended:
            check.main(arguments)
        assert ended.value.code == 2
        assert complaint in capsys.readouterr().err
