"""The parts of quickstart.sh that bash does badly. Needs only Python's own library (3.8+).

  free-port                        prints a free loopback port
  supervise PARENT COMMAND...      runs COMMAND in a session of its own; ends it, with all its
                                   children, on SIGTERM and when its parent is not PARENT any more
  foreground COMMAND...            becomes COMMAND, with Ctrl-C working (bash makes what it runs
                                   in the background ignore it)
  wait-ready URL PID SECONDS       waits until an Ollama answers; fails early if PID ends
  smallest-chat-model URL          prints the smallest model that can chat; 1: no server answers,
                                   3: it has no such model
  count-chunks DIR                 prints the number of chunks in DIR/*_chunks.json
  show-pairs DIR N                 prints N pairs from the Q&A files in DIR, of different documents
"""

import glob
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request

# A proxy setting must not send loopback traffic elsewhere.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url, body=None, timeout=5):
    data = None if body is None else json.dumps(body).encode()
    with HTTP.open(urllib.request.Request(url, data), timeout=timeout) as answer:
        return json.load(answer)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        print(s.getsockname()[1])


def supervise(parent, *command):
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    # A session of its own: a Ctrl-C in the terminal is for the coordinator, whose last requests
    # still need the model.
    child = subprocess.Popen(command, start_new_session=True)
    while not stop and child.poll() is None and os.getppid() == int(parent):
        time.sleep(0.2)
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        pass
    try:  # what is left of the session, such as the runner of an Ollama that was killed
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        pass
    sys.exit(0 if stop else 1)


def foreground(*command):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    os.execv(command[0], command)


def wait_ready(url, pid, seconds):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            ask(url + "/api/version", timeout=2)
            return
        except (OSError, ValueError):
            pass
        try:
            os.kill(int(pid), 0)
        except OSError:
            sys.exit(1)
        time.sleep(0.1)
    sys.exit(1)


def smallest_chat_model(url):
    try:
        models = ask(url + "/api/tags")["models"] or []
    except (OSError, ValueError, KeyError, TypeError):
        sys.exit(1)
    for model in sorted(models, key=lambda m: m.get("size", 0)):
        # A model of the cloud has no size here and would send the documents away.
        if model.get("remote_host") or model["name"].endswith(("-cloud", ":cloud")):
            continue
        capabilities = model.get("capabilities")
        if capabilities is None:
            try:
                capabilities = ask(url + "/api/show", {"model": model["name"]}, 30).get("capabilities")
            except (OSError, ValueError):
                continue
        # Before 0.6.4 an Ollama names no capabilities: then every model counts but embedders.
        if "completion" in (capabilities or []) or (capabilities is None and "embed" not in model["name"]):
            print(model["name"])
            return
    sys.exit(3)


def count_chunks(folder):
    total = 0
    for name in glob.glob(os.path.join(glob.escape(folder), "*_chunks.json")):
        with open(name, encoding="utf-8") as file:
            total += len(json.load(file)["chunks"])
    print(total)


def show_pairs(folder, wanted):
    pairs = []  # one per document, the middle one: the first is often about the title
    total = 0
    for name in sorted(glob.glob(os.path.join(glob.escape(folder), "*_qa.json"))):
        with open(name, encoding="utf-8") as file:
            found = json.load(file).get("training_pairs") or []
        total += len(found)
        if found:
            pairs.append(found[len(found) // 2])
    for pair in pairs[: int(wanted)]:
        print()
        for label, key in (("Document", "file_name"), ("Question", "question"), ("Answer", "answer")):
            text = " ".join(str(pair.get(key, "")).split())
            print(textwrap.fill(text, 96, initial_indent=f"  {label + ':':10}", subsequent_indent=" " * 12))
    if total == 0:
        sys.exit(1)


COMMANDS = {
    "free-port": free_port,
    "supervise": supervise,
    "foreground": foreground,
    "wait-ready": wait_ready,
    "smallest-chat-model": smallest_chat_model,
    "count-chunks": count_chunks,
    "show-pairs": show_pairs,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
