#!/usr/bin/env python3
"""A small run of a fleet whose traces and metrics go to real backends; what these then say through their own query
interfaces is held against what happened. Needs Python 3.9+ only. How to get and start the backends: README.md beside it.

usage: deploy/tests/backends.py [--jaeger URL] [--phoenix URL] [--prometheus URL]
           [--bin DIR] [--fake-ollama PATH] [--nats-server PATH] [--otlp URL] [--protocol http/protobuf|grpc]
           [--metrics-ports N,N,N] [--pushed URL] [--outage] [--keep DIR]

  --jaeger URL        Jaeger 2's query address, such as http://127.0.0.1:16686; spans go to port 4318 there (4317: gRPC)
  --phoenix URL       Arize Phoenix, such as http://127.0.0.1:6006; spans go there too
  --prometheus URL    Prometheus, such as http://127.0.0.1:9090, that reads the three ports of --metrics-ports each second
  --bin DIR           where qa-coordinator and qa-worker are (target/debug)
  --fake-ollama PATH  the tests' fake server (target/debug/examples/fake_ollama)
  --otlp URL          send spans there instead, for a collector in between
  --metrics-ports     of the coordinator, the first and the second worker (19464,19465,19466)
  --pushed URL        metrics are sent with the spans, and come out at this address as text for Prometheus, such as
                      http://127.0.0.1:8889/metrics of a collector
  --outage            the way to the backend is cut in the middle: the run must not notice; spans are not looked for
  --keep DIR          leave files and logs of the runs there

Each tracing backend gets a run of its own: the example documents and one made to fail. In it a chunk gets no usable
answer ever, one gets it at the second try, one meets an error of the server, one loses its worker by SIGKILL, and one is
empty. Exit status 0: nothing was missing or wrong.
"""

import argparse
import calendar
import collections
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = "qwen3:8b"
QUESTIONS = 2
# A proxy setting must not send loopback traffic elsewhere.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))

UNUSABLE, AGAIN, BROKEN, KILLED, EMPTY = range(5)
TROUBLE = ["qa-proof-unusable", "qa-proof-again", "qa-proof-broken", "qa-proof-killed"]
PHASES = ["generate", "read prompt", "load model"]
STEPS = ["load", "take job", "take over queued", "work", "combine"]

problems = []


def say(text):
    print(text, flush=True)


def problem(text):
    problems.append(text)
    say(f"  WRONG  {text}")


def check(what, expected, found):
    if expected != found:
        problem(f"{what}: {found!r} instead of {expected!r}")


def get(url, **query):
    if query:
        url += "?" + urllib.parse.urlencode(query, doseq=True)
    with HTTP.open(url, timeout=20) as answer:
        return json.load(answer)


# --- What the backends know of a trace ---

# A field that a backend does not keep is None.
Span = collections.namedtuple("Span", "id parent name service kind start end attributes links failed warnings")


class Jaeger:
    name = "Jaeger"

    def __init__(self, url, protocol):
        self.url = url.rstrip("/")
        host = urllib.parse.urlsplit(url).hostname
        self.otlp = f"http://{host}:{4317 if protocol == 'grpc' else 4318}"

    def spans(self, trace):
        try:
            found = get(f"{self.url}/api/traces/{trace}")["data"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []
        spans = []
        for span in found[0]["spans"] if found else []:
            tags = {tag["key"]: tag["value"] for tag in span["tags"]}
            others = [(r["traceID"], r["spanID"]) for r in span["references"] if r["refType"] != "CHILD_OF" or r["traceID"] != trace]
            parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF" and r["traceID"] == trace]
            spans.append(Span(
                span["spanID"], parents[0] if parents else "", span["operationName"],
                found[0]["processes"][span["processID"]]["serviceName"], tags.get("span.kind", "internal"),
                span["startTime"] / 1e6, (span["startTime"] + span["duration"]) / 1e6, tags, others,
                tags.get("otel.status_code") == "ERROR", span.get("warnings") or []))
        return spans


class Phoenix:
    name = "Phoenix"

    def __init__(self, url, _protocol):
        self.url = self.otlp = url.rstrip("/")

    def spans(self, trace):
        try:
            found = get(f"{self.url}/v1/projects/qa-fleet/spans", trace_id=trace, limit=1000)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []  # no span has come yet that would have made the project
        return [
            Span(span["context"]["span_id"], span["parent_id"] or "", span["name"], None, None, moment(span["start_time"]),
                 moment(span["end_time"]), span["attributes"], None, span["status_code"] == "ERROR", [])
            for span in found
        ]


def moment(text):
    """Seconds since 1970 of a time such as 2026-11-23T11:00:00.123456+00:00."""
    day, fraction = re.fullmatch(r"(\S{19})(\.\d+)?(?:Z|\+00:00)", text).groups()
    return calendar.timegm(time.strptime(day, "%Y-%m-%dT%H:%M:%S")) + float(fraction or 0)


# --- The fleet ---


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_listening(port):
    """The coordinator, unlike a worker, waits for no queue server at its start."""
    until = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Processes:
    """What is ended when the run is over."""

    def __init__(self, work):
        self.work, self.all = work, []

    def start(self, name, command, env=None, **more):
        with open(self.work / f"{name}.log", "wb") as log:
            process = subprocess.Popen(command, stderr=log, env=env, **{"stdout": log, "stdin": subprocess.DEVNULL, **more})
        self.all.append(process)
        return process

    def end(self):
        for process in reversed(self.all):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


class Relay:
    """The way to the backend, which can be cut."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.target = (parts.hostname, parts.port)
        self.open, self.is_cut, self.bytes = set(), False, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.open |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                self.bytes += len(data)
        except OSError:
            pass
        for end in (source, sink):
            self.open.discard(end)
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.is_cut = True
        for end in list(self.open):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def mend(self):
        self.is_cut = False


class Model:
    """Stands before the fake Ollama and makes trouble for the chunks that are made for it."""

    def __init__(self, target):
        self.target, self.calls, self.answered = target, collections.Counter(), 0
        self.hangs = threading.Event()
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.forward(None)

            def do_POST(self):
                self.forward(self.rfile.read(int(self.headers.get("content-length") or 0)))

            def forward(self, body):
                # Without messages it only loads the model.
                self.is_call = self.path == "/api/chat" and bool(json.loads(body).get("messages"))
                marker = next((mark for mark in TROUBLE if body and mark.encode() in body), None)
                model.calls[marker] += 1
                first = model.calls[marker] == 1
                if marker == TROUBLE[KILLED] and first:
                    model.hangs.set()
                    time.sleep(120)
                    return
                if marker == TROUBLE[BROKEN] and first:
                    self.answer(500, "application/json", b'{"error":"the model runner has stopped"}')
                    return
                headers, asked = {"content-type": "application/json"}, time.monotonic()
                try:
                    with HTTP.open(urllib.request.Request(model.target + self.path, body, headers), timeout=60) as reply:
                        status, kind, text = reply.status, reply.headers["content-type"], reply.read()
                except urllib.error.HTTPError as error:
                    status, kind, text = error.code, error.headers["content-type"], error.read()
                if self.is_call and status == 200:
                    is_bad = marker == TROUBLE[UNUSABLE] or (marker == TROUBLE[AGAIN] and first)
                    text = reworked(text, is_bad, time.monotonic() - asked)
                self.answer(status, kind, text)

            def answer(self, status, kind, text):
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                model.answered += self.is_call

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a worker that was killed

        server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()


def reworked(text, is_bad, seconds):
    """The fake's answer with times that fit what it took, which it makes up; if bad, the model says something else."""
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if is_bad and "message" in line:
            line["message"]["content"] = "" if i else "I would rather not."
        if line.get("done"):
            for name, share in (("load_duration", 0.1), ("prompt_eval_duration", 0.2), ("eval_duration", 0.6)):
                line[name] = int(seconds * share * 1e9)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def documents(folder):
    """The example documents and the one that makes trouble; the number of chunks by document."""
    shutil.copytree(ROOT / "deploy/examples/chunks", folder)
    texts = [f"{marker}: the pump of building 7 was replaced in March and runs at 40 Hz since." for marker in TROUBLE] + ["  \n"]
    chunks = [{"text": text, "chunk_id": f"0_{i}", "chunk_index": i} for i, text in enumerate(texts)]
    (folder / "proof_chunks.json").write_text(json.dumps({"status": "completed", "chunks": chunks, "metadata": {"file_name": "proof.txt"}}))
    return {path.name[: -len("_chunks.json")]: len(json.loads(path.read_text())["chunks"]) for path in folder.glob("*_chunks.json")}


Ran = collections.namedtuple("Ran", "work records chunks began ended calls job")


def run(options, work, otlp, outage=False):
    """Runs the fleet; what became of it, or None if even that went wrong."""
    processes, ports = Processes(work), [int(port) for port in options.metrics_ports.split(",")]
    binaries = pathlib.Path(options.bin)
    relay = Relay(otlp) if otlp else None
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "QA_", "GENERATOR_", "OLLAMA_"))}
    env.update(NO_PROXY="127.0.0.1", QA_ACK_WAIT="3s", QA_PRESENCE_AGE="3s", OTEL_METRICS_EXPORTER="none")
    if relay:
        env.update(OTEL_EXPORTER_OTLP_ENDPOINT=relay.url, OTEL_EXPORTER_OTLP_PROTOCOL=options.protocol, OTEL_BSP_SCHEDULE_DELAY="300",
                   OTEL_RESOURCE_ATTRIBUTES="openinference.project.name=qa-fleet", QA_TRACE_CONTENT="true")
    if options.pushed:
        env.update(OTEL_METRICS_EXPORTER="otlp", OTEL_METRIC_EXPORT_INTERVAL="1000")
    (work / "empty.env").write_text("")
    chunks = documents(work / "chunks")
    began = time.time()
    try:
        nats_port = free_port()
        nats = f"nats://127.0.0.1:{nats_port}"
        processes.start("nats", [options.nats_server, "-a", "127.0.0.1", "-p", str(nats_port), "-js", "-sd", str(work / "nats")])
        wait_until_listening(nats_port)
        fake = processes.start("ollama", [options.fake_ollama, "2", "2", MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        model = Model(fake.stdout.readline().decode().split()[0])

        def worker(number):
            return processes.start(f"worker{number}", [
                binaries / "qa-worker", "--env-file", work / "empty.env", "--nats-url", nats, "--ollama-base-url", model.url,
                "--concurrency", str(number), "--metrics-listen", f"127.0.0.1:{ports[number]}"], env)

        doomed = worker(1)
        coordinator = processes.start("coordinator", [
            binaries / "qa-coordinator", "generate", "--env-file", work / "empty.env", "--nats-url", nats, "--provider", "local",
            "--model", MODEL, "--chunks-dir", work / "chunks", "--qa-dir", work / "qa", "--questions-per-chunk", str(QUESTIONS),
            # The chunk of the killed worker is to come again, not to get a second round.
            "--metrics-listen", f"127.0.0.1:{ports[0]}", "--no-speculation", "--json"], env)
        if outage:
            time.sleep(1)
            say(f"  the way to the backend is cut after {relay.bytes} bytes")
            relay.cut()
        if not model.hangs.wait(60):
            problem(f"the run does not get to the chunk that hangs; see {work}")
            return None
        time.sleep(2)  # what has ended is sent, and read by Prometheus
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        calls_before, heir = model.answered, worker(2)
        try:
            status = coordinator.wait(90)
        except subprocess.TimeoutExpired:
            problem(f"the run does not end; see {work}")
            return None
        if options.prometheus:
            time.sleep(3)
        calls = model.answered - calls_before
        ended = time.time()
        heir.terminate()
        check("the second worker's exit status", 0, heir.wait(20))
        # 1: some chunks failed for good, as two should.
        check("the coordinator's exit status", 1, status)
    finally:
        processes.end()
    logs = {name: (work / f"{name}.log").read_text() for name in ("coordinator", "worker1", "worker2")}
    for name, text in logs.items():
        if "panicked" in text:
            problem(f"{name} panicked; see {work}")
    if outage:
        # The first worker is killed; the other two must say it, once.
        for name in ("coordinator", "worker2"):
            check(f"warnings of {name}", 1, logs[name].count("telemetry cannot be sent"))
    elif "telemetry" in "".join(logs.values()):
        problem(f"telemetry was not sent well; see the logs in {work}")
    records = {}
    for path in (work / "qa").glob("*_qa.json"):
        document = path.name[: -len("_qa.json")]
        for record in json.loads(path.read_text())["chunks"]:
            records[document, record["chunk"]] = record
    check("chunks with a record", sum(chunks.values()), len(records))
    failed = sorted(key for key, record in records.items() if record["status"] == "failed")
    check("failed chunks", [("proof", UNUSABLE), ("proof", EMPTY)], failed)
    job = json.loads(next((work / "qa" / ".qa-fleet").glob("job*.json")).read_text()).get("job", "")
    return Ran(work, records, chunks, began, ended, calls, job)


# --- Traces ---


def wait_for(backend, trace, is_there, seconds):
    """The spans of a trace, as soon as it is whole or no longer waited for."""
    end = time.monotonic() + seconds
    while True:
        spans = sorted(backend.spans(trace), key=lambda span: span.start)
        if is_there(spans) or time.monotonic() > end:
            return spans
        time.sleep(0.3)


def check_traces(backend, ran):
    runs, spans_of_all, ids, patience = collections.Counter(), 0, set(), 20
    linked = collections.defaultdict(set)
    for (document, chunk), record in sorted(ran.records.items()):
        what = f"{document} {chunk}"
        trace = record.get("trace_id")
        if not trace:
            problem(f"{what}: its record has no trace id")
            continue
        names = lambda spans: [span.name for span in spans]  # noqa: E731
        spans = wait_for(backend, trace, lambda spans: "apply QA_RESULTS" in names(spans), patience)
        if not spans:
            problem(f"{what}: no trace {trace}")
            patience = 0.5  # the next ones will not come later
            continue
        spans_of_all += len(spans)
        ids |= {span.id for span in spans}
        trouble = chunk if document == "proof" else None
        for trace_of_run, span in check_chunk(what, trouble, record, spans):
            runs[trace_of_run] += 1
            linked[document].add(span)
    if backend.name == "Phoenix":
        say("  Phoenix keeps neither links nor services: they are not looked at")
        # Lines of the run's own have its trace.
        runs.update(re.findall(r"worker is present.* trace_id=([0-9a-f]{32})", (ran.work / "coordinator.log").read_text()))
    if len(runs) != 1:
        problem(f"links to {len(runs)} runs: {sorted(runs)}")
    else:
        spans_of_all += check_run(backend, next(iter(runs)), linked, ran)
    say(f"  {backend.name}: {len(ran.records)} traces of chunks with {len(ids)} different spans, {spans_of_all} spans in all")


def check_chunk(what, trouble, record, spans):
    """One chunk's trace; returns its links."""
    by_id, seen = {span.id: span for span in spans}, collections.Counter(span.name for span in spans)
    problems_before = len(problems)
    if len(by_id) != len(spans):
        problem(f"{what}: two spans have one id")
    chat = f"chat {MODEL}"
    chats = {UNUSABLE: 3, AGAIN: 2, BROKEN: 2, EMPTY: 0}.get(trouble, 1)
    expected = {"publish QA_TASKS": 1, "queue wait": 1, "process QA_TASKS": 1, chat: chats, "apply QA_RESULTS": 1}
    check(f"{what}: spans", {name: count for name, count in expected.items() if count},
          {name: count for name, count in sorted(seen.items(), key=lambda item: list(expected).index(item[0]) if item[0] in expected else 9)
           if name not in PHASES})
    for span in spans:
        place = f"{what}: {span.name}"
        parent = by_id.get(span.parent)
        wanted = {"publish QA_TASKS": None, "queue wait": "publish QA_TASKS", "process QA_TASKS": "publish QA_TASKS",
                  chat: "process QA_TASKS", "apply QA_RESULTS": "process QA_TASKS"}.get(span.name, chat)
        if span.parent and not parent:
            problem(f"{place}: its parent {span.parent} is not there")
        else:
            check(f"{place}: parent", wanted, parent and parent.name)
        for warning in span.warnings:
            # Jaeger takes every shorter span that begins after its parent's end for one of a wrong clock: messages are so.
            if not (warning.startswith("clock skew adjustment disabled") and name_of_consumer(span.name)):
                problem(f"{place}: the backend warns: {warning}")
        if span.end < span.start or (parent and span.start < parent.start - 0.001):
            problem(f"{place}: begins before its parent or ends before it begins")
        if span.name in PHASES + [chat] and parent and span.end > parent.end + 0.001:
            problem(f"{place}: ends after its parent")
        check_attributes(place, span, record, trouble, chats)
    found = {link for span in spans for link in span.links or []}
    for span in spans:
        if span.links is not None:
            check(f"{what}: {span.name}: links", 2 if span.name in ("publish QA_TASKS", "apply QA_RESULTS") else 0, len(set(span.links)))
    if len(problems) > problems_before:
        say(f"         trace {record['trace_id']}: " + ", ".join(span.name for span in spans))
    return found


def name_of_consumer(name):
    return name in ("process QA_TASKS", "apply QA_RESULTS")


def check_attributes(place, span, record, trouble, chats):
    name, attributes = span.name, span.attributes
    chat = name.startswith("chat ")
    process, apply = name == "process QA_TASKS", name == "apply QA_RESULTS"
    service = "qa-coordinator" if name in ("publish QA_TASKS", "apply QA_RESULTS") else "qa-worker"
    kind = {"publish QA_TASKS": "producer", "process QA_TASKS": "consumer", "apply QA_RESULTS": "consumer"}.get(name, "client" if chat else "internal")
    if span.service is not None:
        check(f"{place}: service", service, span.service)
    if span.kind is not None:
        check(f"{place}: kind", kind, span.kind)

    def has(**wanted):
        for key, value in wanted.items():
            key = key.replace("__", ".")
            found = attributes.get(key)
            if value is None:
                if found in (None, "", 0):
                    problem(f"{place}: no {key}")
            # Backends differ in whether a list or a number stays one.
            elif str(found).strip("[]\"'") != str(value):
                problem(f"{place}: {key} is {found!r} instead of {value!r}")

    outcome = "failed" if trouble in (UNUSABLE, EMPTY) else "completed"
    if name in ("publish QA_TASKS", "queue wait") or process or apply:
        has(messaging__system="nats", qa__job=None, qa__chunk=record["chunk"], qa__round=1, qa__document__token=None,
            messaging__destination__name="QA_RESULTS" if apply else "QA_TASKS", messaging__destination__template=None)
        message = str(attributes.get("messaging.message.id"))
        digest = hashlib.sha256(f"qa-fleet trace {message}".encode()).hexdigest()[:32]
        check(f"{place}: the trace id that belongs to messaging.message.id {message}", record["trace_id"], digest)
    if name == "publish QA_TASKS":
        has(messaging__operation__name="publish", messaging__operation__type="send", qa__document=place.split(" ")[0], qa__pool=None)
        check(f"{place}: id", hashlib.sha256(f"qa-fleet span {attributes.get('messaging.message.id')}".encode()).hexdigest()[:16], span.id)
    if process:
        has(messaging__operation__name="process", messaging__operation__type="process", messaging__consumer__group__name=None,
            messaging__message__body__size=None, qa__worker=None, qa__outcome=outcome, qa__attempts=chats,
            qa__delivery=2 if trouble == KILLED else 1)
    if apply:
        has(messaging__operation__name="apply", messaging__operation__type="process", qa__outcome=outcome)
    if outcome == "completed" and (process or apply):
        has(qa__pairs=QUESTIONS)
    reason = "empty_chunk" if trouble == EMPTY else "no_usable_answer"
    if outcome == "failed" and process:
        has(error__type=reason)
    if outcome == "failed" and apply:
        has(qa__reason=reason)
    if chat:
        has(gen_ai__operation__name="chat", gen_ai__provider__name="ollama", gen_ai__request__model=MODEL, gen_ai__request__temperature="0.7",
            gen_ai__request__max_tokens=None, server__address="127.0.0.1", server__port=None, qa__call=None)
        if trouble == BROKEN and str(attributes.get("qa.call")) == "1":
            has(error__type=None)
            check(f"{place}: failed", True, span.failed)
        else:
            has(gen_ai__response__model=MODEL, gen_ai__response__finish_reasons="stop", gen_ai__usage__input_tokens=None,
                gen_ai__usage__output_tokens=None, gen_ai__input__messages=None, gen_ai__output__messages=None)
            check(f"{place}: failed", False, span.failed)
    if name in PHASES:
        has(qa__server__duration_ms=None)
    if not chat:
        # That a result says failure is no failure of taking it.
        check(f"{place}: failed", outcome == "failed" and process, span.failed)


def check_run(backend, trace, linked, ran):
    count = len(ran.chunks)
    spans = wait_for(backend, trace, lambda spans: any(span.name == "run" for span in spans), 20)
    seen = collections.Counter(span.name for span in spans)
    check("the run's spans", {"run": 1, "document": count, **dict.fromkeys(STEPS, 1)}, dict(seen))
    by_id = {span.id: span for span in spans}
    for span in spans:
        place = f"run: {span.name}"
        check(f"{place}: parent", None if span.name == "run" else "run", by_id[span.parent].name if span.parent in by_id else span.parent or None)
        if span.service is not None:
            check(f"{place}: service", "qa-coordinator", span.service)
        check(f"{place}: failed", False, span.failed)
        if span.warnings:
            problem(f"{place}: the backend warns: {span.warnings}")
    for span in spans:
        if span.name == "run":
            check("run: process.exit.code", "1", str(span.attributes.get("process.exit.code")))
            check("run: qa.chunks", str(sum(ran.chunks.values())), str(span.attributes.get("qa.chunks")))
    documents = sorted(str(span.attributes.get("qa.document")) for span in spans if span.name == "document")
    check("run: documents", sorted(ran.chunks), documents)
    for document, links in sorted(linked.items()):
        targets = sorted((by_id[link].name, by_id[link].attributes.get("qa.document")) if link in by_id else ("nothing", link) for link in links)
        check(f"what {document}'s chunks are linked to", [("document", document), ("run", None)], targets)
    return len(spans)


# --- Metrics ---


def metrics():
    """The table of the programs: name in Prometheus, kind, labels, program."""
    text = (ROOT / "shared/src/telemetry/instruments.rs").read_text()
    units = {"s": "_seconds", "By": "_bytes", "{token}/s": "_per_second"}
    program, table = None, []
    row = re.compile(r'^ +[A-Z_]+ "([a-z._]+)" (Sum|Gauge|Spread)(?:\([A-Z_]+\))?, "([^"]+)",\s*\[([^\]]*)\]', re.M)
    for block in re.finditer(r'^    "(qa-\w+)" \{\n(.*?)^    \}', text, re.M | re.S):
        program = block.group(1)
        for name, kind, unit, labels in row.findall(block.group(2)):
            full = name.replace(".", "_") + units.get(unit, "") + ("_total" if kind == "Sum" else "")
            table.append((full, kind, {label.replace(".", "_") for label in re.findall(r'"([^"]+)"', labels)}, program))
    assert len(table) == len(re.findall(r'^ +[A-Z_]+ "', text, re.M)) > 20, "instruments.rs is written otherwise now"
    return table


# Absent where there is nothing to say.
NOT_HERE = {
    "qa_job_cost": "a model of one's own costs nothing",
}
MAYBE = {"qa_job_eta_seconds": "needs a rate", "qa_worker_server_speed_per_second": "needs some calls"}


def check_metrics(url, ran, ports):
    url = url.rstrip("/")
    where = {"qa-coordinator": [ports[0]], "qa-worker": [ports[1], ports[2]]}
    window = {"start": f"{ran.began:.3f}", "end": f"{ran.ended + 1:.3f}"}
    count = 0
    for port in ports:
        up = get(f"{url}/api/v1/query", query=f'max_over_time(up{{instance="127.0.0.1:{port}"}}[{int(ran.ended - ran.began) + 2}s])', time=window["end"])
        values = [result["value"][1] for result in up["data"]["result"]]
        check(f"Prometheus reads port {port}", ["1"], values)
    for name, kind, labels, program in metrics():
        at = "|".join(f"127.0.0.1:{port}" for port in where[program])
        for part in [name + suffix for suffix in ("_count", "_sum", "_bucket")] if kind == "Spread" else [name]:
            found = get(f"{url}/api/v1/series", **{"match[]": f'{part}{{instance=~"{at}"}}', **window})["data"]
            count += len(found)
            if not found:
                if name in MAYBE or name in NOT_HERE:
                    say(f"  {part}: nothing, {NOT_HERE.get(name) or MAYBE[name]}")
                else:
                    problem(f"{program}: no series of {part}")
                continue
            own = {label for series in found for label in series} - {"__name__", "instance", "job", "le"}
            own = {label for label in own if not label.startswith("otel_scope_")}
            if own != labels:
                problem(f"{part}: labels {sorted(own)} instead of {sorted(labels)}")
            if "qa_job" in labels:
                check(f"{part}: job", {ran.job}, {series["qa_job"] for series in found})

    def value(query):
        result = get(f"{url}/api/v1/query", query=query, time=window["end"])["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    span = f"[{int(ran.ended - ran.began)}s]"
    heir = f'instance="127.0.0.1:{ports[2]}"'
    calls = value(f"sum(max_over_time(gen_ai_client_operation_duration_seconds_count{{{heir}}}{span}))")
    check("model calls of the second worker", ran.calls, calls)
    redelivered = value(f"sum(max_over_time(qa_worker_redeliveries_total{{{heir}}}{span}))")
    check("deliveries of the task whose worker was killed", 1, redelivered)
    # The coordinator ends between two readings: the last ones may lack the end.
    for name, most in (("qa_pairs_total", QUESTIONS * (sum(ran.chunks.values()) - 2)), ("qa_tasks_published_total", sum(ran.chunks.values()))):
        found = value(f"sum(max_over_time({name}{{instance=\"127.0.0.1:{ports[0]}\"}}{span}))") or 0
        if not 0 < found <= most:
            problem(f"{name} is {found}, of at most {most}")
    say(f"  Prometheus: {count} series of {len(metrics())} metrics")


def check_pushed(url, ran):
    """What was sent to a collector; the last figures of whoever ended well are there."""
    with HTTP.open(url, timeout=20) as answer:
        text = answer.read().decode()
    values = collections.defaultdict(list)
    for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)", text, re.M):
        values[name].append((dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)))
    for name, kind, labels, program in metrics():
        part = name + "_count" if kind == "Spread" else name
        own = [found for found, _ in values[part] if found.get("service_name") == program]
        if not own and part not in NOT_HERE and part not in MAYBE:
            problem(f"{program}: {part} was sent but does not come out")
        missing = labels - {label for found in own for label in found}
        if own and missing:
            problem(f"{part}: no label {sorted(missing)}")
    for name, key, expected in (("qa_chunks_total", "qa_job", sum(ran.chunks.values())),
                                ("qa_pairs_total", "qa_job", sum(record["got"] for record in ran.records.values()))):
        check(f"{name} that was sent", expected, sum(value for found, value in values[name] if found.get(key) == ran.job))
    say(f"  sent metrics: {len(values)} names come out")


# --- All of it ---


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=True)
    for name, default in (("jaeger", None), ("phoenix", None), ("prometheus", None), ("bin", str(ROOT / "target/debug")),
                          ("fake-ollama", None), ("nats-server", "nats-server"), ("otlp", None), ("protocol", "http/protobuf"),
                          ("metrics-ports", "19464,19465,19466"), ("pushed", None), ("keep", None)):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--outage", action="store_true")
    options = parser.parse_args()
    options.fake_ollama = options.fake_ollama or os.path.join(options.bin, "examples/fake_ollama")
    backends = [kind(url, options.protocol) for kind, url in ((Jaeger, options.jaeger), (Phoenix, options.phoenix)) if url]
    if not backends and not options.prometheus:
        parser.error("no backend is given")
    base = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="qa-backends-"))
    for number, backend in enumerate(backends or [None]):
        name = backend.name if backend else "Prometheus"
        work = base / f"{name.lower()}-{int(time.time())}"
        work.mkdir(parents=True)
        say(f"==> a run for {name}{', cut off in the middle' if options.outage else ''}")
        ran = run(options, work, (options.otlp or backend.otlp) if backend else None, options.outage)
        if not ran:
            continue
        say(f"  {len(ran.records)} chunks of {len(ran.chunks)} documents in {ran.ended - ran.began:.0f} s")
        if backend and not options.outage:
            check_traces(backend, ran)
        if options.prometheus:
            check_metrics(options.prometheus, ran, [int(port) for port in options.metrics_ports.split(",")])
        if backend and options.pushed and not options.outage:
            check_pushed(options.pushed, ran)
    if problems:
        say(f"{len(problems)} things are missing or wrong; files and logs are in {base}")
        sys.exit(1)
    if not options.keep:
        shutil.rmtree(base)
    say("nothing is missing or wrong")


if __name__ == "__main__":
    main()
