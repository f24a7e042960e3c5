"""The documents: generated ones are what the code would write, and what the others name exists."""

import ast
import re
from pathlib import Path

import pytest

from gateway.domain.completion import PARKED, SOURCE_FAILED, STOPPED, WATCHDOG
from ingest.domain.actions import EndCause, LossCause
from localcluster.documents import DOCUMENTS, main, outdated
from tests.conftest import REPOSITORY

WRITTEN = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "services").glob("*/README.md"),
        *(REPOSITORY / "libs").rglob("*.md"),
        *(REPOSITORY / "examples").rglob("*.md"),
    ]
)
ACCEPTANCE = REPOSITORY / "docs" / "acceptance.md"
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`]+)`")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_generated_document_is_what_the_code_would_write(path: str) -> None:
    assert DOCUMENTS[path]() == (REPOSITORY / path).read_text(encoding="utf-8")


def test_a_document_that_is_missing_or_changed_is_outdated(tmp_path: Path) -> None:
    for path, make in DOCUMENTS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(make(), encoding="utf-8")
    (tmp_path / "docs/events.md").unlink()
    (tmp_path / "docs/metrics.md").write_text("changed", encoding="utf-8")

    assert ("docs/events.md", "docs/metrics.md") == outdated(tmp_path)


def test_a_check_of_documents_that_are_right_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["--check"])
    assert "" == capsys.readouterr().err


def anchor(heading: str) -> str:
    """As code hosts make it: lower case, punctuation gone, spaces as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {anchor(found) for found in HEADING.findall(FENCED.sub("", path.read_text(encoding="utf-8")))}


def broken_links(document: Path) -> list[str]:
    links = LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
    return [link for link in links if "://" not in link and not resolves(document, link)]


def resolves(document: Path, link: str) -> bool:
    place, _, fragment = link.partition("#")
    target = (document.parent / place).resolve() if place else document
    if not target.is_relative_to(REPOSITORY) or not target.exists():
        return False
    return not fragment or fragment in anchors(target)


@pytest.mark.parametrize("document", WRITTEN, ids=relative)
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [] == broken_links(document)


def named_paths() -> list[str]:
    spans = CODE_SPAN.findall(ACCEPTANCE.read_text(encoding="utf-8"))
    roots = ("services/", "libs/", "tests/", "docs/", "bench/", "requirements/", "deploy/", "examples/")
    return sorted({span.partition("::")[0] for span in spans if span.startswith(roots)})


def named_tests() -> list[str]:
    spans = CODE_SPAN.findall(ACCEPTANCE.read_text(encoding="utf-8"))
    return sorted({span for span in spans if span.startswith("tests/") and "::" in span})


def functions_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_path_in_the_acceptance_list_exists() -> None:
    assert [] == [path for path in named_paths() if not (REPOSITORY / path).exists()]


def test_every_test_in_the_acceptance_list_exists() -> None:
    missing = []
    for name in named_tests():
        path, _, test = name.partition("::")
        if not (REPOSITORY / path).is_file() or test not in functions_in(REPOSITORY / path):
            missing.append(name)
    assert [] == missing


def test_every_done_row_of_the_acceptance_list_names_its_proof() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    done = ACCEPTANCE.read_text(encoding="utf-8").split("## Not yet")[0]
    proofs = {
        row: CODE_SPAN.findall(row.split(" | ")[-1]) for row in done.splitlines() if row.startswith("| M")
    }
    assert proofs
    assert [] == [row for row, named in proofs.items() if not named]
    assert [] == [each for named in proofs.values() for each in named if not is_proof(each, targets)]


def is_proof(name: str, targets: set[str]) -> bool:
    return "::" in name or name.removeprefix("make ") in targets


def test_operations_explain_every_cause_that_a_stream_or_a_gap_can_have() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    decided = [PARKED, SOURCE_FAILED, STOPPED, WATCHDOG, "gaps", "analysis_failed", "clips_failed"]
    causes = [*EndCause, *LossCause, *decided]
    assert [] == [str(cause) for cause in causes if f"`{cause}`" not in text]
