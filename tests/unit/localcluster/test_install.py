"""What `localcluster.install` decides and how it leaves files; nothing is installed."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from localcluster import install as install_module
from localcluster.install import install, instructions, packages_for, temporary_file


def test_nothing_is_planned_when_nothing_is_missing() -> None:
    assert packages_for((), venv_works=True) == ()


def test_each_missing_program_is_planned_as_its_package_once() -> None:
    missing = ("ffmpeg", "ffprobe", "rabbitmq-server", "rabbitmqctl", "initdb", "postgres", "bwrap")

    packages = packages_for(missing, venv_works=True)

    assert packages == ("bubblewrap", "ffmpeg", "postgresql", "rabbitmq-server")


@pytest.mark.parametrize(
    ("purposes", "packages"),
    [((), ""), (("browser",), "apt-get install --no-install-recommends chromium npm")],
)
def test_a_browser_is_asked_for_only_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    purposes: tuple[str, ...],
    packages: str,
) -> None:
    def without_browser(programs: Iterable[str]) -> tuple[str, ...]:
        return tuple(program for program in programs if program in ("chromium", "npm"))

    monkeypatch.setattr(install_module, "missing_programs", without_browser)
    monkeypatch.setattr(install_module, "can_make_venv", lambda: True)
    monkeypatch.setattr(install_module, "is_debian", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert install_module.main(*purposes) == (1 if packages else 0)
    assert packages in capsys.readouterr().err


def test_a_python_that_cannot_make_environments_needs_its_package() -> None:
    assert packages_for((), venv_works=False) == ("python3-venv",)


@pytest.mark.parametrize("debian", [True, False])
def test_the_instructions_name_every_package(debian: bool) -> None:
    text = "\n".join(instructions(("bubblewrap", "ffmpeg"), debian=debian))

    assert "bubblewrap ffmpeg" in text


def test_a_temporary_file_gives_the_previous_one_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_text("before")
    path.chmod(0o640)
    before = path.stat()

    with temporary_file(path, content="during", mode=0o755):
        during = path.read_text()

    after = path.stat()
    assert during == "during"
    assert path.read_text() == "before"
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["policy"]


def test_a_temporary_file_that_was_not_there_is_gone_afterwards_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "policy"

    with pytest.raises(RuntimeError), temporary_file(path, content="during", mode=0o755):
        raise RuntimeError

    assert list(tmp_path.iterdir()) == []


def test_a_temporary_file_repairs_what_a_killed_run_left(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_text("during")
    path.with_name("policy.tldr-aside").write_text("before")

    with temporary_file(path, content="during again", mode=0o755):
        pass

    assert path.read_text() == "before"


def test_services_are_held_down_during_the_install_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, cluster = tmp_path / "policy-rc.d", tmp_path / "createcluster.conf"
    seen: list[tuple[str, bool, bool]] = []

    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[bytes]:
        seen.append((" ".join(command), policy.exists(), cluster.exists()))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(install_module, "POLICY_FILE", policy)
    monkeypatch.setattr(install_module, "CREATE_CLUSTER_FILE", cluster)
    monkeypatch.setattr(subprocess, "run", run)

    code = install(("ffmpeg", "postgresql"))

    assert code == 0
    assert seen == [
        ("apt-get update -qq", False, False),
        ("apt-get install -qq -y --no-install-recommends postgresql-common", True, False),
        ("apt-get install -qq -y --no-install-recommends ffmpeg postgresql", True, True),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_install_is_reported_and_puts_the_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 100 if "install" in command else 0)

    monkeypatch.setattr(install_module, "POLICY_FILE", tmp_path / "policy-rc.d")
    monkeypatch.setattr(subprocess, "run", run)

    assert install(("ffmpeg",)) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("root", "code"), [(True, 7), (False, 0)])
def test_what_only_tests_need_is_installed_where_we_may_and_demanded_nowhere(
    root: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_module, "is_debian", lambda: True)
    monkeypatch.setattr(install_module, "can_make_venv", lambda: True)
    monkeypatch.setattr(install_module.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(
        install_module.binaries,
        "find",
        lambda program: None if program == "redis-server" else Path("/bin/true"),
    )
    monkeypatch.setattr(install_module, "install", lambda packages: 7 if packages == ("redis-server",) else 1)

    assert install_module.main() == code
