"""Scripts of the fault origin: what is read, and how what is wrong is told."""

from pathlib import Path

import pytest

from sandbox.faults import Stall, Status
from sandbox.scenario import ScriptError, parse_script, read_script

SCENARIOS = sorted((Path(__file__).resolve().parents[3] / "libs/sandbox/scenarios").glob("*.yaml"))


def test_a_script_names_seed_stream_and_faults() -> None:
    script = parse_script(
        """
        seed: 7
        stream: {window: 6, container: fmp4}
        faults:
          - {at_s: 10, for_s: 5, target: playlist, fault: status, code: 404}
          - {from_segment: 8, fault: stall, for_s: 3}
        """
    )
    assert (7, 6, "fmp4") == (script.seed, script.stream.window, script.stream.container)
    assert (
        Status(fault="status", at_s=10, for_s=5, target="playlist", code=404),
        Stall(fault="stall", from_segment=8, for_s=3),
    ) == script.faults


def test_a_bare_list_is_a_list_of_faults() -> None:
    script = parse_script("- {at_s: 4, fault: end}")
    assert ["end"] == [fault.fault for fault in script.faults]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("faults:\n  - {at_s: 1, fault: stall}", "f.yaml:2: faults[0].for_s: Field required"),
        (
            "- {at_s: 1, fault: drip, colour: red}",
            "f.yaml:1: faults[0].colour: Extra inputs are not permitted",
        ),
        ("seed: 1\nstream:\n  window: 0", "f.yaml:3: stream.window: Input should be greater than"),
        ("- fault: html", "f.yaml:1: faults[0]: Value error, give one of at_s and from_segment"),
        ("- {fault: html, at_s: 1, count: 3}", "count goes with from_segment"),
        ("- {fault: nothing, at_s: 1}", "f.yaml:1: faults[0]: Input tag 'nothing'"),
        ("seed: [", "f.yaml: while parsing"),
        ("strem: {}", "f.yaml:1: strem: Extra inputs"),
        (
            "stream: {byte_ranges: true, encrypt: true}",
            "f.yaml:1: stream: Value error, byte_ranges and encrypt",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(text: str, told: str) -> None:
    with pytest.raises(ScriptError) as error:
        parse_script(text, name="f.yaml")
    assert told in str(error.value)


def test_each_fault_of_a_file_has_a_line_of_its_own() -> None:
    with pytest.raises(ScriptError) as error:
        parse_script("- {at_s: 1, fault: stall}\n- {at_s: -1, fault: html}", name="f.yaml")
    assert ["f.yaml:1", "f.yaml:2"] == [line.partition(": ")[0] for line in str(error.value).splitlines()]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"none\.yaml"):
        read_script(tmp_path / "none.yaml")


def test_there_are_ready_scripts() -> None:
    assert len(SCENARIOS) >= 3


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_ready_script_can_be_read(path: Path) -> None:
    assert read_script(path).faults
