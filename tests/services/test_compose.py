"""Checks the Compose set-up by reading it; test_compose_natively.py runs what can run without Docker."""

import copy
import re
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.real import ROOT, missing
from tests.services import compose
from web import main
from web.limits import connections
from web.limits.gates import PLACES

SERVICES = compose.services()
EVERY_SERVICE = pytest.mark.parametrize("name", SERVICES)
LONG_RUNNING = [name for name in SERVICES if SERVICES[name]["restart"] != "no"]
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The Compose Specification's JSON schema, which the package check-jsonschema ships."""
    try:
        from check_jsonschema.builtin_schemas import get_builtin_schema
    except ImportError:
        missing("check-jsonschema")
    return get_builtin_schema("vendor.compose-spec")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    return folder


def make_secrets(folder: Path) -> None:
    script = compose.REPOSITORY / "deploy" / "make-secrets.sh"
    subprocess.run(["sh", script, folder], check=True, capture_output=True)


def test_the_compose_file_follows_the_compose_specification(schema: dict[str, Any]) -> None:
    jsonschema.validate(compose.load(), schema)


@pytest.mark.parametrize("other", [compose.WITHOUT_GPU, compose.WITH_WEBHOOKS], ids=lambda path: path.stem)
def test_the_compose_file_merged_with_another_follows_the_specification(schema: dict[str, Any], other: Path) -> None:
    jsonschema.validate(compose.merge(compose.load(), compose.load(other)), schema)


def test_the_schema_rejects_an_unknown_key(schema: dict[str, Any]) -> None:
    wrong = copy.deepcopy(compose.load())
    wrong["services"]["web"]["read-only"] = True
    with pytest.raises(jsonschema.ValidationError, match="read-only"):
        jsonschema.validate(wrong, schema)


def test_workers_reserve_a_gpu_unless_the_cpu_file_removes_it() -> None:
    without_gpu = compose.merge(compose.load(), compose.load(compose.WITHOUT_GPU))["services"]["worker"]
    device = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in without_gpu and without_gpu["command"] == SERVICES["worker"]["command"]


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()
    assert SERVICES["worker"]["scale"] == "1" and compose.services({"WORKERS": "3"})["worker"]["scale"] == "3"
    assert SERVICES["worker"]["volumes"] == ["compiled:/opt/memoaized/compiled"]  # a cache, which workers can share


@EVERY_SERVICE
def test_every_image_is_pinned_to_a_release(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])


def test_the_images_that_we_build_carry_our_version() -> None:
    version = tomllib.loads((compose.REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    assert built == {f"memoaized-web:{version}", f"memoaized-worker:{version}"}
    assert compose.services_without_gpu()["worker"]["image"] == f"memoaized-worker:{version}-cpu"


def test_qdrant_and_its_client_are_of_the_same_minor_version() -> None:
    client = re.search(r"^qdrant-client==(\d+\.\d+)\.", (compose.REPOSITORY / "constraints.txt").read_text(), re.M)
    assert client and SERVICES["index"]["image"].startswith(f"qdrant/qdrant:v{client[1]}.")


@EVERY_SERVICE
def test_every_service_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@EVERY_SERVICE
def test_no_service_runs_as_root(name: str) -> None:
    user, group = map(int, SERVICES[name]["user"].split(":"))
    assert user > 0 and group > 0


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_service_has_a_health_check_and_time_to_stop(name: str) -> None:
    assert compose.health_check(SERVICES[name])
    assert compose.seconds(SERVICES[name]["stop_grace_period"]) >= 30


@pytest.mark.parametrize("name", ["redis", "index", "store"])
def test_a_service_is_soon_found_healthy(name: str) -> None:
    assert compose.seconds(SERVICES[name]["healthcheck"]["start_interval"]) <= 5


def test_a_start_leaves_no_anonymous_volume() -> None:
    assert {"/data", "/tmp"} <= set(SERVICES["bucket"]["tmpfs"])


def test_bodies_and_responses_on_their_way_fit_into_the_temporary_folder_of_web() -> None:
    [folder] = SERVICES["web"]["tmpfs"]
    most = connections.BODY_ROOM + connections.MORE_ROOM + main.LARGEST_REQUEST + connections.OUTPUT_ROOM
    forms = PLACES * main.LARGEST_REQUEST  # which Flask writes once more while it reads them
    assert most + forms < compose.bytes_of(folder.removeprefix("/tmp:size="))
    pod = yaml.safe_load_all((ROOT / "deploy" / "k8s" / "web.yaml").read_text())
    [deployment] = [manifest for manifest in pod if manifest["kind"] == "Deployment"]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    [size] = [volume["emptyDir"]["sizeLimit"] for volume in volumes if volume["name"] == "tmp"]
    assert compose.bytes_of(size) == compose.bytes_of(folder.removeprefix("/tmp:size="))


@EVERY_SERVICE
def test_a_service_starts_only_when_its_dependencies_are_ready(name: str) -> None:
    for other, dependency in SERVICES[name].get("depends_on", {}).items():
        condition = "service_healthy" if other in LONG_RUNNING else "service_completed_successfully"
        assert dependency["condition"] == condition


def test_the_dependencies_have_no_cycle() -> None:
    order = compose.sort_by_dependency(SERVICES)
    assert order.index("store") < order.index("bucket") < order.index("worker")


def test_only_web_is_published_and_only_on_this_machine() -> None:
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["web"]
    assert SERVICES["web"]["ports"] == ["127.0.0.1:8000:8000"]
    assert compose.services({"MEMO_PORT": "8123"})["web"]["ports"] == ["127.0.0.1:8123:8000"]


def test_every_service_but_web_is_on_a_network_without_internet_access() -> None:
    assert compose.load()["networks"]["back"]["internal"] is True
    assert [name for name in SERVICES if SERVICES[name]["networks"] != ["back"]] == ["web"]


def test_the_webhooks_file_gives_workers_internet_access_and_the_secret_only() -> None:
    merged = compose.merge(compose.load(), compose.load(compose.WITH_WEBHOOKS))
    services = compose.interpolate(merged["services"], {"JOBS_WEBHOOK_ALLOW": "hooks.lan"})
    assert services["worker"]["networks"] == ["back", "out"] and not merged["networks"]["out"]
    for name in ("web", "worker"):
        plain, signed = SERVICES[name], services[name]
        assert [*plain["secrets"], "webhook-secret"] == signed["secrets"]
        assert signed["environment"] == plain["environment"] | {
            "JOBS_WEBHOOK_SECRET_FILE": "/run/secrets/webhook-secret",
            "JOBS_WEBHOOK_ALLOW": "hooks.lan",
        }
        assert differing_names(plain, signed) <= {"environment", "secrets", "networks"}
    assert differing_names(SERVICES, services) == {"web", "worker"}


def differing_names(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


def test_every_volume_is_named_and_used() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert sorted(mount[0] for mount in mounts) == sorted(compose.load()["volumes"])


@EVERY_SERVICE
def test_a_service_gets_the_secrets_it_names_and_no_others(name: str) -> None:
    service = SERVICES[name]
    words = str([service.get(part) for part in ("environment", "command", "entrypoint", "healthcheck")])
    assert set(re.findall(r"/run/secrets/([\w.-]+)", words)) == set(service.get("secrets", []))


@EVERY_SERVICE
def test_no_environment_variable_holds_a_secret(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("KEY(?!S)|SECRET|PASSWORD|TOKEN|REDIS", variable):
            assert variable.endswith("_FILE") and value.startswith("/run/secrets/")


def test_redis_persists_everything_and_evicts_nothing() -> None:
    words = shlex.join(SERVICES["redis"]["command"])
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction", "--dir /data"):
        assert option in words
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


@EVERY_SERVICE
def test_every_service_has_limits_of_memory_and_of_processes(name: str) -> None:
    assert compose.bytes_of(SERVICES[name]["mem_limit"]) >= 2**28
    assert 800 <= SERVICES[name]["pids_limit"] <= 4096  # web has 600 threads


@pytest.mark.parametrize("name", ["web", "worker", "redis", "index", "store"])
def test_a_service_that_can_grow_has_a_limit_of_memory(name: str) -> None:
    assert compose.bytes_of(SERVICES[name]["mem_limit"]) >= 2 * 2**30
    assert compose.services_without_gpu()[name]["mem_limit"] == SERVICES[name]["mem_limit"]


def test_redis_refuses_writes_before_it_reaches_its_limit_of_memory() -> None:
    """Redis that the kernel ends would load the same data again, and be ended again."""
    words = SERVICES["redis"]["command"]
    most = compose.bytes_of(words[words.index("--maxmemory") + 1])
    assert 2 * most <= compose.bytes_of(SERVICES["redis"]["mem_limit"])  # rewriting the file may copy all of it


def test_another_store_can_be_named_without_changing_the_file() -> None:
    named = compose.services({"MEMO_STORE": "s3://mine?region=eu-west-1&public=https://pictures.example.org"})
    for name in ("web", "worker"):
        assert SERVICES[name]["environment"]["MEMO_STORE"].startswith("s3://pictures?endpoint=http://store:9000&")
        assert named[name]["environment"]["MEMO_STORE"].startswith("s3://mine?")


@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_command_equals_the_documented_one_and_that_of_the_image(name: str) -> None:
    documented = (compose.REPOSITORY / "docs" / "architecture.md").read_text()
    row = re.search(rf"^\| {name} \| `(?P<command>[^`]+)` \|", documented, re.MULTILINE)
    assert row
    words = [{"HOST": "0.0.0.0", "PORT": "8000"}.get(word, word) for word in shlex.split(row["command"])]
    assert SERVICES[name]["command"] == words == compose.image_command(compose.dockerfile_of(SERVICES[name]))


def test_the_script_creates_every_secret_that_compose_mounts(secrets: Path) -> None:
    named = {Path(secret["file"]).name for secret in compose.load()["secrets"].values()}
    assert named == {file.name for file in secrets.iterdir()}
    assert {Path(secret["file"]).parent for secret in compose.load()["secrets"].values()} == {Path("deploy/secrets")}


def test_secrets_are_readable_in_containers_and_only_by_their_owner_outside(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o444}


def test_a_second_run_of_the_script_changes_no_secret(secrets: Path) -> None:
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    make_secrets(secrets)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


def test_both_files_of_a_secret_agree(secrets: Path) -> None:
    password = (secrets / "redis.conf").read_text().split()[1]
    assert (secrets / "redis-url").read_text() == f"redis://:{password}@redis:6379/0\n"
    assert (secrets / "index-key").read_text().strip() in (secrets / "index.yaml").read_text()


def test_two_installations_share_no_secret(secrets: Path, tmp_path: Path) -> None:
    make_secrets(tmp_path / "other")
    for file in secrets.iterdir():
        assert len(file.read_text()) >= 16 and file.read_text() != (tmp_path / "other" / file.name).read_text()


def test_git_ignores_the_secrets() -> None:
    assert "deploy/secrets/" in (compose.REPOSITORY / ".gitignore").read_text().splitlines()


def test_a_single_dollar_is_refused() -> None:
    with pytest.raises(ValueError, match="write \\$\\$ for a dollar"):
        compose.interpolate({"command": ["echo $HOME"]}, {})
