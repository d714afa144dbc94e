"""Checks the deployment's files without an engine or a cluster: YAML is read, compose files and manifests are held to
their schemas, and what several files say about one thing is compared.

usage: check_deploy.py DEPLOY_FOLDER PYTHON_PATH... -- COMPOSE_SCHEMA KUBERNETES_SCHEMAS [KUBECTL]
"""

import io
import json
import pathlib
import re
import subprocess
import sys

split = sys.argv.index("--")
DEPLOY = pathlib.Path(sys.argv[1])
sys.path[:0] = sys.argv[2:split]
COMPOSE_SCHEMA, KUBERNETES = pathlib.Path(sys.argv[split + 1]), pathlib.Path(sys.argv[split + 2])
KUBECTL = sys.argv[split + 3] if len(sys.argv) > split + 3 else None

import fastjsonschema  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from ruamel.yaml.error import YAMLError  # noqa: E402

# The oldest with sidecars (init containers that stay), and the newest that there are schemas for.
VERSIONS = ["1.29", "1.37"]
problems = []


def problem(place, text):
    problems.append(f"{place}: {text}")


def documents(text, place):
    reader = YAML(typ="safe", pure=True)
    try:
        return [document for document in reader.load_all(io.StringIO(text)) if document is not None]
    except YAMLError as error:
        problem(place, error)
        return []


def read(path):
    return documents(path.read_text(), path.relative_to(DEPLOY))


validators = {}


def against_schema(path, data, place):
    if path not in validators:
        # Kubernetes' schemas share a file of definitions; put together they need no other.
        schema = json.loads(path.read_text().replace("/api/_definitions.json#", "#"))
        shared = path.parent / "_definitions.json"
        if shared.exists():
            schema["$defs"] = json.loads(shared.read_text())["$defs"]
        validators[path] = fastjsonschema.compile(schema, use_default=False)
    try:
        validators[path](data)
    except fastjsonschema.JsonSchemaException as error:
        problem(place, error.message)


def schema_of(manifest, version):
    group = manifest["apiVersion"].split("/")
    names = [manifest["kind"], *(part.split(".")[0] for part in group)]
    folder = next(iter(KUBERNETES.glob(f"v{version}.*-local-strict")))
    return folder / ("-".join(names).lower() + ".json")


def manifest(data, place):
    if ".k8s.io/" in data["apiVersion"] and "kustomize" in data["apiVersion"] or "keda.sh" in data["apiVersion"]:
        return
    for version in VERSIONS:
        schema = schema_of(data, version)
        name = f"{place} ({data['kind']} {data['metadata']['name']}, Kubernetes {version})"
        if schema.exists():
            against_schema(schema, data, name)
        else:
            problem(name, f"there is no schema {schema.name}")


def is_drained(data, place, drain=30):
    """Whoever stops a worker waits longer than its drain."""
    template = (data.get("spec") or {}).get("template") or {}
    if data["kind"] in ("Job", "Deployment", "DaemonSet") and template:
        if template["spec"].get("terminationGracePeriodSeconds", 30) <= drain:
            problem(place, "terminationGracePeriodSeconds is not longer than the drain")


def survives_probes(data, place, interrupted=3):
    """A kill by the liveness probe is a SIGTERM, and must not be the end of a Job."""
    if data["kind"] != "Job":
        return
    for rule in data["spec"].get("podFailurePolicy", {}).get("rules", []):
        codes = rule.get("onExitCodes", {}).get("values", [])
        if rule["action"] == "FailJob" and interrupted in codes:
            problem(place, f"exit code {interrupted}, of a kill by a probe, fails the Job")


def is_guarded(manifests, place):
    """Every pod of ours that listens is chosen by a policy for what comes in."""
    policies = [data["spec"] for data in manifests if data["kind"] == "NetworkPolicy"]
    chosen = [spec["podSelector"]["matchLabels"] for spec in policies if "Ingress" in spec["policyTypes"]]
    for data in manifests:
        if data["kind"] in ("Job", "Deployment", "DaemonSet"):
            labels = data["spec"]["template"]["metadata"]["labels"]
            if not any(wanted.items() <= labels.items() for wanted in chosen):
                problem(place, f"no NetworkPolicy chooses the pods of {data['metadata']['name']}")


def kubernetes():
    folder = DEPLOY / "kubernetes"
    for path in sorted(folder.rglob("kustomization.yaml")):
        for data in read(path):
            named = [*data.get("resources", []), *data.get("components", [])]
            named += [patch["path"] for patch in data.get("patches", []) if "path" in patch]
            for name in named:
                if not (path.parent / name).exists():
                    problem(path.relative_to(DEPLOY), f"{name} is not there")
    patches = {"components/ollama/sidecar.yaml", "overlays/hosted/keys.yaml", "nats/values.yaml"}
    for path in sorted(folder.rglob("*.yaml")):
        place = path.relative_to(folder)
        for data in read(path):
            if str(place) not in patches:
                manifest(data, path.relative_to(DEPLOY))
                is_drained(data, path.relative_to(DEPLOY))
                survives_probes(data, path.relative_to(DEPLOY))
    policies = read(folder / "base/network.yaml")
    for name in ("base/coordinator.yaml", "worker/deployment.yaml", "worker-daemonset/daemonset.yaml"):
        is_guarded([*read(folder / name), *policies], f"kubernetes/{name}")
    if KUBECTL:
        for overlay in sorted((folder / "overlays").iterdir()):
            shown = subprocess.run([KUBECTL, "kustomize", overlay], capture_output=True, text=True, check=False)
            if shown.returncode != 0:
                problem(overlay.relative_to(DEPLOY), shown.stderr.strip())
            for data in documents(shown.stdout, overlay.name):
                manifest(data, f"rendered {overlay.name}")
    scaled = read(folder / "components/keda/scaledobject.yaml")[0]
    model = read(folder / "base/settings.yaml")[0]["data"]["GENERATOR_MODEL"]
    consumer = subprocess.run([folder / "pool-consumer.sh", f"ollama/{model}"], capture_output=True, text=True, check=True)
    if scaled["spec"]["triggers"][0]["metadata"]["consumer"] != consumer.stdout.strip():
        problem("kubernetes/components/keda", f"the consumer of ollama/{model} is {consumer.stdout.strip()}")
    # Known by its name in a running server: shared/src/queue/topology.rs makes it.
    known = subprocess.run([folder / "pool-consumer.sh", "ollama/qwen3:8b"], capture_output=True, text=True, check=True)
    if known.stdout.strip() != "pool-ollama-qwen3-8b-351731575515":
        problem("kubernetes/pool-consumer.sh", f"the consumer of ollama/qwen3:8b is not {known.stdout.strip()}")


def properties_of(schema, shared):
    names = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        names |= properties_of(shared[part["$ref"].rsplit("/", 1)[1]], shared)
    return names


def containers():
    # "unevaluatedProperties" is newer than the checker: a service's names are compared here.
    shared = json.loads(COMPOSE_SCHEMA.read_text())["$defs"]
    known = properties_of(shared["service"], shared)
    for path in sorted((DEPLOY / "containers").glob("compose*.yaml")):
        for data in read(path):
            against_schema(COMPOSE_SCHEMA, data, path.relative_to(DEPLOY))
            for name, service in data["services"].items():
                for unknown in set(service) - known:
                    problem(path.relative_to(DEPLOY), f"a service has no {unknown}")
                image = service.get("image", "")
                if image and not image.startswith("qa-") and (":" not in image or image.endswith(":latest")):
                    problem(path.relative_to(DEPLOY), f"the image of {name} has no version")
                for secret in service.get("secrets", []):
                    if service.get("read_only") and "file" not in data["secrets"][secret]:
                        problem(path.relative_to(DEPLOY), f"{name}: in a read-only container the secret {secret} has to be a file")
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0]
                    if source.startswith("../") and not (path.parent / source).exists():
                        problem(path.relative_to(DEPLOY), f"{name} mounts {source}, which is not there")


def units():
    for path in sorted((DEPLOY / "gpu-host").glob("*.service")):
        text = path.read_text()
        stop = int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE).group(1))
        if stop <= 30:
            problem(path.relative_to(DEPLOY), "TimeoutStopSec is not longer than the drain")
        if re.search(r"^EnvironmentFile=", text, re.MULTILINE):
            problem(path.relative_to(DEPLOY), "the programs read their env file themselves")


def variables():
    """Every setting of ours that a file names is one that a program knows."""
    known = set(re.findall(r"^#([A-Z_]+)=", (DEPLOY.parent / "config.env.example").read_text(), re.MULTILINE))
    # Of nats-server's configurations, of compose, of the scripts and their tests.
    theirs = r"QA_NATS_(COORDINATOR|WORKER|OPERATOR|ROUTES)_PASSWORD|QA_NATS_(STORE_DIR|SERVER_NAME|ROUTE_\d?|LISTEN)"
    theirs += r"|QA_NATS_(CERT|KEY|CA)_FILE|QA_(MODEL|CHUNKS|RESULTS|UID|GID|VERSION|OTLP_LISTEN|METRICS_LISTEN)"
    theirs += r"|QA_(INSTALL_ROOT|TEST_SSHD|TASKS|RESULTS|WORKERS|JOBS|PRESENCE|POISON)"
    for path in sorted(DEPLOY.rglob("*")):
        folder = path.relative_to(DEPLOY).parts[0]
        if path.is_file() and folder in ("containers", "gpu-host", "kubernetes", "collector", "prometheus", "operations.md", "telemetry.md"):
            for name in set(re.findall(r"\b(?:QA|GENERATOR)_[A-Z0-9_]+\b", path.read_text())) - known:
                if not re.fullmatch(theirs, name):
                    problem(path.relative_to(DEPLOY), f"no program knows {name}")


def links():
    for path in [*DEPLOY.glob("*.md"), *DEPLOY.glob("*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            if not (path.parent / link).exists():
                problem(path.relative_to(DEPLOY), f"the link to {link} leads nowhere")


for path in sorted(DEPLOY.rglob("*.y*ml")):
    if "node_modules" not in path.parts:
        read(path)
kubernetes()
containers()
units()
variables()
links()
for line in problems:
    print(line, file=sys.stderr)
sys.exit(bool(problems))
