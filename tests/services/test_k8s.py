"""Checks the Kubernetes manifests against the API's own schemas, the compose file and the code."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.celery_app import queue_of
from jobs.models import Catalogue
from tests.real import ROOT, missing
from tests.services import compose
from web.config import WebConfig

FOLDER = ROOT / "deploy" / "k8s"
VERSION = "1.31"
SERVED = ("web", "worker")
TEXT = {"type": "string"}
# The part of https://keda.sh/docs/2.17/reference/scaledobject-spec/ that our ScaledObject uses.
SCALED_OBJECT = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["scaleTargetRef", "triggers"],
            "properties": {
                "scaleTargetRef": {"type": "object", "required": ["name"]},
                "minReplicaCount": {"type": "integer"},
                "maxReplicaCount": {"type": "integer"},
                "pollingInterval": {"type": "integer"},
                "cooldownPeriod": {"type": "integer"},
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "metadata"],
                        "properties": {
                            "type": {"const": "prometheus"},
                            "metricType": {"enum": ["AverageValue", "Value"]},
                            "metadata": {
                                "type": "object",
                                "required": ["serverAddress", "query", "threshold"],
                                "additionalProperties": TEXT,
                            },
                        },
                    },
                },
            },
        },
    },
}


def manifests() -> list[Any]:
    """Return every document as a parameter, with its file and kind as id."""
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert set(names) == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    documents = [(name, document) for name in names for document in yaml.safe_load_all((FOLDER / name).read_text())]
    return [pytest.param(document, id=f"{Path(name).stem}-{document['kind']}") for name, document in documents]


def find_manifests(kind: str, name: str = "") -> list[Any]:
    return [
        parameter.values[0]
        for parameter in manifests()
        if parameter.values[0]["kind"] == kind and name in str(parameter.id)
    ]


def find_manifest(kind: str, name: str = "") -> Any:
    [manifest] = find_manifests(kind, name)
    return manifest


@pytest.mark.parametrize("document", manifests())
def test_a_manifest_follows_its_schema(document):
    if document["kind"] == "ScaledObject":
        jsonschema.validate(document, SCALED_OBJECT)
        return
    try:
        import kubernetes_validate
    except ImportError:
        missing("kubernetes-validate")
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_schemas_reject_a_mistake():
    import kubernetes_validate

    wrong = find_manifest("Deployment", "web")
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)
    scaled_object = find_manifest("ScaledObject")
    scaled_object["spec"]["triggers"][0]["metadata"]["threshold"] = 8
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled_object, SCALED_OBJECT)


def test_web_and_worker_run_the_commands_of_the_compose_file():
    services = compose.load()["services"]
    for name in ("web", "worker"):
        [container] = find_manifest("Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert container["command"][: len(services[name]["command"])] == services[name]["command"]
        assert container["image"] == services[name]["image"]
        assert compose.bytes_of(container["resources"]["limits"]["memory"]) == compose.bytes_of(
            services[name]["mem_limit"]
        )


@pytest.mark.parametrize("name", SERVED)
def test_a_pod_gets_no_token_for_the_clusters_api(name):
    assert find_manifest("Deployment", name)["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_images_of_all_manifests_can_be_taken_from_a_registry():
    named = {image["name"] for image in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]}
    deployments = [find_manifest("Deployment", name) for name in ("web", "worker")]
    containers = [manifest["spec"]["template"]["spec"]["containers"][0] for manifest in deployments]
    assert {container["image"].partition(":")[0] for container in containers} == named


def test_the_stores_bucket_is_the_one_that_the_script_is_told_to_create():
    bucket = find_manifest("ConfigMap")["data"]["MEMO_STORE"].removeprefix("s3://").partition("?")[0]
    assert f"make-bucket.sh http://127.0.0.1:9000 {bucket}\n" in (ROOT / "docs" / "deploy.md").read_text()


def test_workers_serve_the_queue_of_an_existing_model_and_are_scaled_by_its_length():
    deployment, scaled_object = find_manifest("Deployment", "worker"), find_manifest("ScaledObject")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [model] = [name for name in Catalogue(ROOT / "models").models() if queue_of(name) == container["command"][-1]]
    assert scaled_object["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert f'memoaized_queue_depth{{model="{model}"}}' in scaled_object["spec"]["triggers"][0]["metadata"]["query"]
    assert deployment["metadata"]["labels"]["memoaized/model"] == model


def test_the_settings_name_secrets_that_the_script_creates():
    script = (ROOT / "deploy" / "make-secrets.sh").read_text()
    paths = [value for name, value in find_manifest("ConfigMap")["data"].items() if name.endswith("_FILE")]
    assert len(paths) == 5 and all(path.rpartition("/")[2] in script for path in paths)


def test_web_is_ready_without_a_worker(app):
    """With /healthz, memory's answers and the gallery would vanish with the last worker."""
    [container] = find_manifest("Deployment", "web")["spec"]["template"]["spec"]["containers"]
    path = container["readinessProbe"]["httpGet"]["path"]
    assert path == "/readyz" and app.test_client().get(path).status_code == 200
    assert app.test_client().get("/healthz").status_code == 503


def test_behind_an_ingress_cookies_are_secure_and_every_request_needs_a_key():
    settings = find_manifest("ConfigMap")["data"]
    config = WebConfig.from_env(settings)
    assert (config.keys, config.proxies) == ("required", "1")


@pytest.mark.parametrize("name", ["web", "worker"])
def test_draining_a_node_leaves_pods_of_each_deployment(name):
    labels = find_manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    budget = find_manifest("PodDisruptionBudget", name)["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget.get("minAvailable") == 1 or budget.get("maxUnavailable") == 1


def policies_of(name: str) -> list[Any]:
    """Return the network policies that select the pods of a deployment."""
    labels = find_manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    policies = [policy["spec"] for policy in find_manifests("NetworkPolicy")]
    return [policy for policy in policies if policy["podSelector"]["matchLabels"].items() <= labels.items()]


def test_only_the_port_of_web_can_be_reached():
    ingress = {name: [rule for policy in policies_of(name) for rule in policy.get("ingress", ())] for name in SERVED}
    assert ingress == {"web": [{"ports": [{"port": 8000}]}], "worker": []}
    assert all(any("Ingress" in policy["policyTypes"] for policy in policies_of(name)) for name in SERVED)


def test_web_reaches_only_the_services_that_the_settings_name():
    settings = find_manifest("ConfigMap")["data"]
    ports = {int(port) for port in re.findall(r":(\d+)", settings["MEMO_INDEX"] + settings["MEMO_STORE"])} | {6379}
    egress = [rule for policy in policies_of("web") for rule in policy.get("egress", ())]
    assert {port["port"] for rule in egress for port in rule["ports"]} == ports | {53}
    assert not any("ipBlock" in peer for rule in egress for peer in rule["to"])


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "172.16.3.4", "192.168.0.1", "169.254.169.254", "168.63.129.16", "100.64.0.1", "fd00::1"]
)
def test_workers_deliver_webhooks_to_public_addresses_only(address):
    blocks = [
        peer["ipBlock"]
        for policy in policies_of("worker")
        for rule in policy.get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert not any(allows(block, address) for block in blocks)
    assert any(allows(block, "93.184.216.34") for block in blocks)
    assert any(allows(block, "2606:2800:220:1::1") for block in blocks)


def allows(block: Any, address: str) -> bool:
    """Whether an ipBlock contains an address."""
    ip = ipaddress.ip_address(address)
    return ip in ipaddress.ip_network(block["cidr"]) and not any(
        ip in ipaddress.ip_network(network) for network in block.get("except", ())
    )
