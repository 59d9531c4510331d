"""`unstuck run` with arguments that it cannot use: one line, before anything runs."""

from __future__ import annotations

import pytest

from .programs import TRACES


class TestRefused:
    """Each is one line on standard error, exit code 2, and the script has not run."""

    @pytest.fixture
    def refused(self, unstuck, script, tmp_path):
        def refuse(*options: object) -> str:
            mark = tmp_path / "ran"
            said = unstuck(*options, script(TRACES.format(str(mark))))
            assert not mark.exists()
            return said.refusal

        return refuse

    def test_a_script_that_is_not_there(self, unstuck, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert unstuck("no.py").refusal == f"no script at no.py; check the path (now in {tmp_path})"

    def test_a_folder(self, unstuck, tmp_path):
        assert unstuck(tmp_path).refusal == f"{tmp_path} is a folder, not a script; name a Python file"

    def test_below_a_file(self, unstuck, script):
        path = script() / "train.py"
        assert unstuck(path).refusal == f"cannot read {path}: Not a directory; check its permissions"

    def test_no_script(self, unstuck):
        assert unstuck().refusal == (
            "name a script to run, for example: unstuck run train.py; or a module: unstuck run -m package.train"
        )

    @pytest.mark.parametrize("value", ["xml", "TEXT", ""])
    def test_an_output_format_nobody_knows(self, refused, value):
        message = refused("--output-format", value)
        assert message.startswith("Invalid value for '--output-format': ")
        assert f"{value!r} is not one of 'text', 'json', 'sarif', 'github'; see `unstuck run --help`" in message

    @pytest.mark.parametrize("option", ["--steps", "--every"])
    @pytest.mark.parametrize("value", ["0", "-3", "many", "1.5"])
    def test_counts_that_are_none(self, refused, option, value):
        message = refused(option, value)
        assert message.startswith(f"Invalid value for '{option}': ")
        assert message.endswith("; see `unstuck run --help`")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("3", "overhead must be more than 0 and at most 100 %, got 3.0; write for example 1% or 0.01"),
            ("0%", "overhead must be more than 0 and at most 100 %, got 0.0; write for example 1% or 0.01"),
            (
                "little",
                "overhead in the arguments must be a share of the training time such as 1% or 0.01, got 'little'",
            ),
        ],
    )
    def test_a_budget_that_is_none(self, refused, value, message):
        assert refused("--overhead", value) == message

    def test_a_budget_and_an_interval(self, refused):
        assert refused("--overhead", "2%", "--every", "5").startswith("every and overhead in the arguments exclude")

    def test_an_option_nobody_knows(self, refused):
        message = refused("--stepps", "3")
        assert message.startswith("No such option: --stepps")
        assert message.endswith("; see `unstuck run --help`")

    @pytest.mark.parametrize("option", ["--select", "--ignore"])
    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            ("L01", None),
            ("L01x", "no rule is called 'L01X'; did you mean L018?"),
            ("A001,A0O1", "no rule is called 'A0O1'; did you mean A001?"),
            ("ZZZZ", "no rule is called 'ZZZZ'; see `unstuck rule --all`"),
        ],
    )
    def test_a_rule_nobody_knows(self, refused, unstuck, script, option, codes, message):
        if message is None:  # a prefix of L011
            assert unstuck(option, codes, script()).code == 0
        else:
            assert refused(option, codes) == message

    def test_a_setting_nobody_knows(self, refused, monkeypatch):
        monkeypatch.setenv("UNSTUCK_EVRY", "3")
        assert refused() == "unknown key 'evry' in the environment (UNSTUCK_…); did you mean every?"
