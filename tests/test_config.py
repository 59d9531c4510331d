"""Defaults < [tool.unstuck] in pyproject.toml < environment < arguments; whatever nobody knows is an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from unstuck.config import Config, ConfigError, load

Pyproject = Callable[[str | bytes], Path]


@pytest.fixture
def pyproject(tmp_path: Path) -> Pyproject:
    def write(text: str | bytes) -> Path:
        file = tmp_path / "pyproject.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def error(*, environment: dict[str, str] | None = None, folder: Path = Path("/"), **arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, environment or {}, **arguments)
    return str(caught.value)


class TestPrecedence:
    def test_defaults_alone(self, tmp_path):
        assert load(tmp_path, {}) == Config() == Config(every=None, select=(), ignore=(), overhead=0.01)

    def test_each_later_source_wins_key_by_key(self, pyproject, tmp_path):
        pyproject('[tool.unstuck]\nevery = 2\nselect = ["A"]\nignore = ["A001"]\n')
        assert load(tmp_path, {}) == Config(2, ("A",), ("A001",))
        environment = {"UNSTUCK_EVERY": "3", "UNSTUCK_SELECT": "L"}
        assert load(tmp_path, environment) == Config(3, ("L",), ("A001",))
        assert load(tmp_path, environment, every=4) == Config(4, ("L",), ("A001",))

    def test_arguments_that_are_none_are_not_set(self, pyproject, tmp_path):
        pyproject("[tool.unstuck]\nevery = 2\n")
        assert load(tmp_path, {}, every=None, select=None).every == 2

    def test_an_empty_list_is_a_setting(self, pyproject, tmp_path):
        pyproject('[tool.unstuck]\nselect = ["A"]\n')
        assert load(tmp_path, {}, select=()).select == ()
        assert load(tmp_path, {"UNSTUCK_SELECT": ""}).select == ()

    def test_the_nearest_pyproject_counts(self, pyproject, tmp_path):
        pyproject("[tool.unstuck]\nevery = 2\n")
        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        assert load(inner, {}).every == 2
        (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'other'\n")
        assert load(inner, {}).every is None

    def test_the_current_folder_and_environment_unless_told(self, pyproject, tmp_path, monkeypatch):
        pyproject("[tool.unstuck]\nevery = 2\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("UNSTUCK_IGNORE", "U")
        monkeypatch.delenv("UNSTUCK_RECORD")
        assert load() == Config(2, (), ("U",))

    def test_variables_of_other_programs_are_not_read(self, tmp_path):
        assert load(tmp_path, {"EVERY": "3", "MY_UNSTUCK_EVERY": "3", "unstuck_every": "3"}) == Config()

    def test_tables_of_other_tools_are_not_read(self, pyproject, tmp_path):
        pyproject("[tool.other]\nevery = 'x'\n")
        assert load(tmp_path, {}) == Config()


@pytest.mark.parametrize("text", ["A001,L", " A001 , L ,", "A001,,L"])
def test_lists_may_be_text_with_commas(text, tmp_path):
    assert load(tmp_path, {"UNSTUCK_SELECT": text}).select == ("A001", "L")
    assert load(tmp_path, {}, select=text).select == ("A001", "L")
    assert load(tmp_path, {}, select=["A001", "L"]).select == ("A001", "L")


class TestUnknownKeys:
    def test_in_the_environment_with_the_nearest_match(self):
        assert error(environment={"UNSTUCK_EVRY": "3"}) == (
            "unknown key 'evry' in the environment (UNSTUCK_…); did you mean every?"
        )

    def test_in_pyproject(self, pyproject, tmp_path):
        file = pyproject("[tool.unstuck]\nselected = []\n")
        assert error(folder=tmp_path) == f"unknown key 'selected' in [tool.unstuck] in {file}; did you mean select?"

    def test_among_the_arguments(self):
        assert error(ignored=["A"]) == "unknown key 'ignored' in the arguments; did you mean ignore?"

    def test_with_nothing_near_all_are_named(self):
        assert error(zzz=1) == (
            "unknown key 'zzz' in the arguments; known: every, extend_select, "
            "fail_on, ignore, keep_megabytes, keep_runs, overhead, per_site_ignores, record, select, thresholds"
        )


class TestOverhead:
    @pytest.mark.parametrize("value", ["3%", " 3 % ", "0.03", 0.03])
    def test_a_share_or_a_percentage(self, value, tmp_path):
        assert load(tmp_path, {}, overhead=value).overhead == pytest.approx(0.03)

    def test_all_of_the_time(self, tmp_path):
        assert load(tmp_path, {}, overhead=1).overhead == load(tmp_path, {}, overhead="100%").overhead == 1

    def test_each_later_source_wins(self, pyproject, tmp_path):
        pyproject('[tool.unstuck]\noverhead = "2%"\n')
        assert load(tmp_path, {}).overhead == 0.02
        assert load(tmp_path, {"UNSTUCK_OVERHEAD": "3%"}).overhead == 0.03
        assert load(tmp_path, {"UNSTUCK_OVERHEAD": "3%"}, overhead=0.04).overhead == 0.04

    def test_a_later_source_replaces_every_by_overhead_and_the_reverse(self, pyproject, tmp_path):
        pyproject("[tool.unstuck]\nevery = 2\n")
        assert load(tmp_path, {}, overhead=0.04) == Config(None, overhead=0.04)
        pyproject("[tool.unstuck]\noverhead = 0.5\n")
        assert load(tmp_path, {"UNSTUCK_EVERY": "3"}) == Config(3)

    def test_both_at_once_are_refused(self, pyproject, tmp_path):
        why = (
            "exclude each other: every=N samples each N-th step whatever that costs, overhead=SHARE as many as that "
            "allows; leave one of them out"
        )
        assert error(every=2, overhead=0.02) == f"every and overhead in the arguments {why}"
        file = pyproject("[tool.unstuck]\nevery = 2\noverhead = 0.01\n")
        assert error(folder=tmp_path) == f"every and overhead in [tool.unstuck] in {file} {why}"
        with pytest.raises(ConfigError, match=r"^every and overhead exclude each other"):
            Config(every=2, overhead=0.02)

    @pytest.mark.parametrize("value", [0, -0.1, 3, 1.01, "0%", "101%", "nan", "inf"])
    def test_must_be_a_share(self, value):
        message = error(overhead=value)
        assert message.startswith("overhead must be more than 0 and at most 100 %, got ")
        assert message.endswith("; write for example 1% or 0.01")

    @pytest.mark.parametrize("value", ["little", "", "%", True, [0.01]])
    def test_must_be_a_number(self, value):
        assert error(overhead=value) == (
            f"overhead in the arguments must be a share of the training time such as 1% or 0.01, got {value!r}"
        )


class TestBadValues:
    @pytest.mark.parametrize("value", ["often", 2.5, 2.0, True, [1]])
    def test_every_must_be_a_whole_number(self, value):
        assert error(every=value) == f"every in the arguments must be a whole number, got {value!r}"

    def test_also_in_the_environment(self):
        assert error(environment={"UNSTUCK_EVERY": "1.5"}) == (
            "every in the environment (UNSTUCK_…) must be a whole number, got '1.5'"
        )

    @pytest.mark.parametrize("value", [0, -1, "-3"])
    def test_every_must_be_at_least_one(self, value):
        assert error(every=value) == f"every must be a whole number of at least 1, got {value}"

    def test_also_when_built_directly(self):
        with pytest.raises(ConfigError, match=r"^every must be a whole number of at least 1, got 0$"):
            Config(every=0)

    @pytest.mark.parametrize("key", ["select", "ignore"])
    @pytest.mark.parametrize("value", [3, ["A001", 3], {"A001": 1}])
    def test_codes_must_be_a_list_of_text(self, key, value):
        assert error(**{key: value}) == f"{key} in the arguments must be a list of rule codes, got {value!r}"

    def test_a_bad_value_is_an_error_even_if_a_later_source_overrides_it(self, pyproject, tmp_path):
        file = pyproject("[tool.unstuck]\nevery = 'x'\n")
        assert error(folder=tmp_path, every=3) == f"every in [tool.unstuck] in {file} must be a whole number, got 'x'"

    def test_unstuck_must_be_a_table(self, pyproject, tmp_path):
        file = pyproject("[tool]\nunstuck = 3\n")
        assert error(folder=tmp_path) == f"[tool.unstuck] in {file} must be a table"

    def test_a_pyproject_that_is_no_toml(self, pyproject, tmp_path):
        file = pyproject("[tool.unstuck\n")
        message = error(folder=tmp_path)
        assert re.fullmatch(rf"cannot read {re.escape(str(file))}: .+ \(at line 1, column 14\); mend the file", message)

    @pytest.mark.parametrize("key", ["every", "overhead", "ignore", "fail-on", "record", "keep-runs", "thresholds"])
    @pytest.mark.parametrize("value", ["{0}", "[{0}]", "{{ U001 = {{ max_ratio = {0} }} }}", "[[{0}]]"])
    @pytest.mark.parametrize("number", [str(2**63), "1" + "0" * 400, f"0x{'f' * 5_000}"])
    def test_numbers_beyond_64_bits(self, pyproject, key, value, number):
        """Python neither makes a float of them nor, beyond 4,300 digits, shows them."""
        folder = pyproject(f"[tool.unstuck]\n{key} = {value.format(number)}\n")
        assert error(folder=folder).endswith("holds a whole number beyond 64 bits; write a smaller one")

    def test_numbers_beyond_64_bits_in_the_environment(self):
        assert "whole number beyond 64 bits" in error(environment={"UNSTUCK_EVERY": "9" * 20})
        assert load(Path("/"), {"UNSTUCK_EVERY": str(2**63 - 1)}).every == 2**63 - 1

    def test_a_pyproject_that_is_no_text(self, pyproject, tmp_path):
        file = pyproject(b"\xff\xfe\x00")
        message = error(folder=tmp_path)
        assert message.startswith(f"cannot read {file}: 'utf-8' codec can't decode byte 0xff in position 0")
        assert message.endswith("; mend the file")
        assert "\n" not in message

    def test_a_config_error_is_a_value_error(self):
        assert issubclass(ConfigError, ValueError)


class TestTables:
    """Settings that only a pyproject.toml can hold."""

    def test_they_are_read(self, pyproject, tmp_path):
        pyproject(
            "[tool.unstuck]\nfail-on = 'warning'\nextend-select = ['U']\n"
            "[tool.unstuck.thresholds]\nU001 = { max_ratio = 1, output_max_ratio = 0.5 }\n"
            "[tool.unstuck.per-site-ignores]\n'blocks.*' = ['A001', 'G']\n"
        )
        config = load(tmp_path, {})
        assert (config.fail_on, config.extend_select) == ("warning", ("U",))
        assert config.thresholds == {"U001": {"max_ratio": 1.0, "output_max_ratio": 0.5}}
        assert config.per_site_ignores == {"blocks.*": ("A001", "G")}

    def test_hyphens_or_underscores(self, pyproject, tmp_path):
        pyproject("[tool.unstuck]\nfail_on = 'error'\n")
        assert load(tmp_path, {}).fail_on == "error"
        assert load(tmp_path, {"UNSTUCK_FAIL_ON": "never"}).fail_on == "never"

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("fail-on = 'info'", "fail-on in {} must be one of error, warning, never, got 'info'"),
            ("keep-runs = 'all'", "keep_runs in {} must be a whole number, got 'all'"),
            ("fail-no = 'error'", "unknown key 'fail-no' in {}; did you mean fail-on?"),
            (
                "thresholds = 3",
                "thresholds in {} must be a table of rules, got 3; write for example U001 = {{ max_ratio = 0.05 }}",
            ),
            (
                "thresholds = { U001 = { max_ratio = 'much' } }",
                "thresholds in {}: U001.max_ratio must be a number, got 'much'; "
                "write for example U001 = {{ max_ratio = 0.05 }}",
            ),
            (
                "per-site-ignores = ['A001']",
                "per-site-ignores in {} must be a table of patterns, got ['A001']; "
                'write for example "blocks.*.fc*" = ["A001"]',
            ),
            (
                "per-site-ignores = { 'fc*' = 3 }",
                "per-site-ignores.'fc*' in {} must be a list of rule codes, got 3",
            ),
        ],
    )
    def test_what_cannot_be_used(self, pyproject, tmp_path, line, message):
        file = pyproject(f"[tool.unstuck]\n{line}\n")
        assert error(folder=tmp_path) == message.format(f"[tool.unstuck] in {file}")

    @pytest.mark.parametrize("name", ["keep_runs", "keep_megabytes"])
    def test_nothing_is_not_kept_of_all(self, name):
        assert error(**{name: 0}) == f"{name.replace('_', '-')} must be a whole number of at least 1, got 0"
