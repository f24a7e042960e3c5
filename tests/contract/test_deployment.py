"""What stands in deploy/: the images and the Compose cluster keep what docs/deployment.md promises. Needs no Docker."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.documents import settings_of
from shared import metrics
from shared.bootstrap import BootstrapSettings
from shared.bucket import BucketSettings
from shared.contract import SERVICES
from shared.secret_files import MAKERS
from shared.settings import SECRETS_FOLDER
from tests.conftest import REPOSITORY

COMPOSE = REPOSITORY / "deploy" / "compose"
DOCKERFILE = REPOSITORY / "deploy" / "docker" / "Dockerfile"
STEPS = ("secrets", "bootstrap", "migrate", "topology", "bucket")
STORES = ("postgres", "rabbitmq", "redis", "s3")
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)")


@cache
def cluster(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))


def service(name: str) -> dict[str, Any]:
    return cluster()["services"][name]


def test_the_cluster_has_six_services_their_steps_and_what_they_stand_on() -> None:
    assert {*SERVICES, *STEPS, *STORES, "api"} == cluster()["services"].keys()
    assert "postgres_data" in cluster()["volumes"]


@pytest.mark.parametrize("name", [*SERVICES, *STEPS, "api", "redis", "s3"])
def test_what_needs_no_rights_has_none(name: str) -> None:
    given = service(name)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", given["user"])
    assert given.get("read_only") is True or name == "s3"  # which writes where it likes
    assert ["ALL"] == given["cap_drop"]
    assert "cap_add" not in given
    assert ["no-new-privileges:true"] == given["security_opt"]


@pytest.mark.parametrize("name", ["postgres", "rabbitmq"])
def test_images_that_start_as_root_keep_only_what_they_need_to_give_it_up(name: str) -> None:
    assert ["ALL"] == service(name)["cap_drop"]
    assert {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} == set(service(name)["cap_add"])


@pytest.mark.parametrize("name", [*SERVICES, *STORES, "api"])
def test_what_runs_for_long_is_bounded_watched_and_started_again(name: str) -> None:
    given = service(name)
    assert "unless-stopped" == given["restart"]
    assert given["init"] is True
    assert {"mem_limit", "pids_limit", "stop_grace_period"} <= given.keys()
    assert {"max-size", "max-file"} <= given["logging"]["options"].keys()
    assert "healthcheck" in given or name in SERVICES  # those have the check of their image


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_finish_its_work_before_it_is_killed(name: str) -> None:
    given = service(name)
    assert float(given["stop_grace_period"].removesuffix("s")) > float(
        given["environment"]["GRACEFUL_TIMEOUT_S"]
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_starts_after_every_step_and_store(name: str) -> None:
    waited = {other: rule["condition"] for other, rule in service(name)["depends_on"].items()}
    assert {"secrets", "migrate", "topology", "bucket"} == waited.keys() & set(STEPS)
    assert {"service_completed_successfully"} == {rule for other, rule in waited.items() if other in STEPS}
    assert {"service_healthy"} == {rule for other, rule in waited.items() if other in STORES}
    assert {"service_completed_successfully"} == {
        rule["condition"] for rule in service("migrate")["depends_on"].values()
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_told_only_settings_that_it_has(name: str) -> None:
    known = {field.upper() for field in settings_of(name).model_fields}
    assert service(name)["environment"].keys() <= known


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_be_told_where_traces_and_error_reports_go(name: str) -> None:
    asked = ("OTEL_", "LOGFIRE_", "SENTRY_", "TRACE_")
    known = {field.upper() for field in settings_of(name).model_fields}
    assert {each for each in known if each.startswith(asked)} <= service(name)["environment"].keys()
    outside = cluster("compose.telemetry.yaml")["services"].get(name, {}).get("networks", [])
    assert "edge" in (*service(name)["networks"], *outside)


def test_the_analyzer_can_be_told_how_gemini_is_asked() -> None:
    known = {field.upper() for field in settings_of("analyzer").model_fields}
    asked = {each for each in known if each.startswith("GEMINI_")} - {"GEMINI_PRICES"}  # which is a file
    assert asked <= service("analyzer")["environment"].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_all_settings_that_it_must_have(name: str) -> None:
    required = {field.upper() for field, info in settings_of(name).model_fields.items() if info.is_required()}
    assert required <= service(name)["environment"].keys() | MAKERS.keys()
    assert f"secrets:{SECRETS_FOLDER}:ro" in service(name)["volumes"]
    assert f"tldr_{name}:" in service(name)["environment"]["DATABASE_URL"]


def test_the_steps_are_told_only_settings_that_they_have() -> None:
    for step, model in (("bootstrap", BootstrapSettings), ("bucket", BucketSettings)):
        known = {field.upper() for field in model.model_fields}
        required = {field.upper() for field, info in model.model_fields.items() if info.is_required()}
        assert required <= service(step)["environment"].keys() <= known, step
    assert {"RABBITMQ_URL"} == service("topology")["environment"].keys()


@pytest.mark.parametrize("name", [*SERVICES, *STEPS])
def test_a_command_is_a_module_that_exists(name: str) -> None:
    module = service(name).get("command", [name])[0]
    found = [REPOSITORY / root / Path(*module.split(".")) for root in ("services", "libs")]
    assert any(path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() for path in found)


def test_ports_are_the_known_ones_on_loopback_and_each_can_be_changed() -> None:
    published = {name: given["ports"] for name, given in cluster()["services"].items() if "ports" in given}
    assert {
        "api": ["${BIND_ADDRESS:-127.0.0.1}:${API_PORT:-8000}:8000"],
        "postgres": ["127.0.0.1:${POSTGRES_PORT:-5432}:5432"],
        "redis": ["127.0.0.1:${REDIS_PORT:-6379}:6379"],
        "rabbitmq": [
            "127.0.0.1:${RABBITMQ_PORT:-5672}:5672",
            "127.0.0.1:${RABBITMQ_MANAGEMENT_PORT:-15672}:15672",
        ],
        "s3": ["127.0.0.1:${S3_PORT:-9000}:9000"],
    } == published


def test_what_calls_nobody_outside_cannot() -> None:
    assert cluster()["networks"]["data"] == {"internal": True}
    for name in ("selector", "clipper", *STEPS[1:]):
        assert ["data"] == service(name)["networks"], name


def test_every_variable_of_the_cluster_is_told_in_its_example() -> None:
    used = set()
    for path in COMPOSE.glob("*.yaml"):
        used |= set(VARIABLE.findall(path.read_text(encoding="utf-8")))
    told = re.findall(
        r"^#? ?([A-Z0-9_]+)=", (COMPOSE / ".env.example").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert used == set(told)


def test_an_example_shows_the_default() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in COMPOSE.glob("*.yaml"))
    for line in (COMPOSE / ".env.example").read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"# ([A-Z0-9_]+)=(.*)", line)
        if found:
            assert f"${{{found[1]}:-{found[2]}" in text, line


def test_images_are_pinned() -> None:
    pulled = [
        given["image"]
        for name in ("compose.yaml", "compose.observability.yaml")
        for given in cluster(name)["services"].values()
        if "build" not in given
    ]
    bases = re.findall(r"^FROM ([a-z0-9./-]+:\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert ["python:3.11-slim-trixie"] == bases
    for image in (*pulled, *bases):
        assert re.search(r":v?\d+[.\d]*(-[a-z]+)*$", image), image


def test_the_dockerfile_holds_no_secret_and_no_address_of_an_index() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert not re.search(r"(?i)(password|secret_access|keyring|token|api_key)\s*=", text)
    assert not re.search(r"://|--(extra-)?index", text)
    assert "--require-hashes" in text
    assert not re.search(r"^# *syntax=", text, re.MULTILINE)


def test_an_image_runs_a_service_as_an_ordinary_user_until_sigterm() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    final = text[text.index("FROM image-${SERVICE}") :]
    assert "USER 10001:10001" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert "COPY --from=packages /opt/venv /opt/venv" in final
    assert 'ENTRYPOINT ["python", "-m"]' in text
    assert 'CMD ["python", "-S", "-m", "shared.probe"]' in text
    for name in SERVICES:
        assert re.search(
            rf"^FROM runtime\S* AS image-{name}\n(ENV .*\n|EXPOSE .*\n)*CMD \[\"{name}\"\]$",
            text,
            re.MULTILINE,
        )
    code = text[text.index("AS code-of-a-service") : text.index("AS code-of-the-setup")]
    assert ["libs/shared /app/libs/shared", "services/${SERVICE} /app/services/${SERVICE}"] == re.findall(
        r"^COPY (.+)$", code, re.MULTILINE
    )


def test_ffmpeg_is_in_the_images_of_the_services_that_run_it_and_in_no_other() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    having = set(re.findall(r"^FROM runtime-with-media AS image-(\w+)$", text, re.MULTILINE))
    running = {
        name
        for name in SERVICES
        if any(
            "shared.media_runner" in path.read_text(encoding="utf-8")
            for path in (REPOSITORY / "services" / name).rglob("*.py")
        )
    }
    assert running == having
    assert running == cluster("compose.sandbox.yaml")["services"].keys()
    assert {service("analyzer")["mem_limit"]} == {service(name)["mem_limit"] for name in running}
    assert {tuple(service("analyzer")["tmpfs"])} == {tuple(service(name)["tmpfs"]) for name in running}


def test_a_recording_fits_twice_on_the_folder_in_which_it_is_cut() -> None:
    megabytes = re.search(r"size=(\d+)m", service("ingest")["tmpfs"][0])
    assert megabytes is not None
    assert int(service("ingest")["environment"]["RECORDING_BYTES"]) * 2 < int(megabytes[1]) * 1024**2


def test_only_what_images_are_made_of_reaches_the_builder() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert "*" == rules[0]
    assert ["!requirements", "!services", "!libs", "!libs/shared"] == [
        rule for rule in rules if rule.startswith("!")
    ]
    assert {"libs/*", "**/.env"} <= set(rules)


def test_prometheus_scrapes_every_replica_of_every_service() -> None:
    config = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    [found] = jobs["tldr"]["dns_sd_configs"]
    assert set(SERVICES) == set(found["names"])
    assert {str(found["port"])} == {service(name)["environment"]["OPS_PORT"] for name in SERVICES}
    assert ["rabbitmq:15692"] == jobs["rabbitmq"]["static_configs"][0]["targets"]


def test_dashboard_and_alerts_name_metrics_that_exist() -> None:
    dashboard = json.loads((COMPOSE / "grafana" / "dashboards" / "overview.json").read_text(encoding="utf-8"))
    alerts = yaml.safe_load((COMPOSE / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    known = {sample.name for family in metrics.REGISTRY.collect() for sample in family.samples} | {
        f"{family.name}{end}" for family in metrics.REGISTRY.collect() for end in ("", "_total", "_bucket")
    }
    named = {name for text in asked for name in re.findall(r"\btldr_\w+", text)}
    assert named
    assert set() == named - known


def test_what_may_grow_beyond_a_tmpfs_lies_on_the_volume_of_ingest() -> None:
    given = service("ingest")
    [volume] = [each.split(":")[1] for each in given["volumes"] if each.startswith("ingest_spool:")]
    for setting in ("SPOOL_FOLDER", "REPAIR_FOLDER"):
        assert Path(given["environment"][setting]).is_relative_to(volume)
