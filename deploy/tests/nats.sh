#!/usr/bin/env bash
# The configurations in deploy/nats: nats-server takes each, and three servers with nats-cluster-tls.conf find each
# other, agree on a leader and let the users in. usage: deploy/tests/nats.sh [NATS_SERVER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../nats"
server=${1:-nats-server}
command -v openssl >/dev/null || { echo "nats: no openssl here, nothing was checked"; exit 0; }
work=$(mktemp -d)
pids=()
finish() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

fail() {
    printf 'nats: %s\n' "$*" >&2
    exit 1
}

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null || fail "openssl made no certificate"

# Three free ports for clients, three for servers, three to look from outside.
read -r -a ports <<<"$(python3 -c 'import socket
held = [socket.socket() for _ in range(9)]
[s.bind(("127.0.0.1", 0)) for s in held]
print(*[s.getsockname()[1] for s in held])')"

export QA_NATS_COORDINATOR_PASSWORD='"p #1"' QA_NATS_WORKER_PASSWORD='"p 2"' QA_NATS_OPERATOR_PASSWORD='"123"'
export QA_NATS_CERT_FILE=$work/cert.pem QA_NATS_KEY_FILE=$work/key.pem QA_NATS_CA_FILE=$work/cert.pem
export QA_NATS_ROUTES_PASSWORD=between-servers QA_NATS_STORE_DIR=$work/check QA_NATS_SERVER_NAME=check
for i in 1 2 3; do export "QA_NATS_ROUTE_$i=nats://routes:between-servers@127.0.0.1:${ports[i + 2]}"; done

for file in nats-server.conf nats-server-tls.conf nats-cluster.conf nats-cluster-tls.conf; do
    "$server" -t -c "$file" >"$work/out" 2>&1 || fail "$file is refused: $(<"$work/out")"
    ! grep -i warn "$work/out" || fail "nats-server has doubts about $file"
done

# What is not said must end the start, not leave an account open.
if (unset QA_NATS_WORKER_PASSWORD && "$server" -t -c nats-server.conf) >/dev/null 2>&1; then
    fail "nats-server.conf is taken without the workers' password"
fi

for i in 0 1 2; do
    conf=$work/$i.conf
    sed -e "s/^listen: .*/listen: 127.0.0.1:${ports[i]}/" -e "s/^  listen: .*/  listen: 127.0.0.1:${ports[i + 3]}/" \
        -e "s/^http: .*/http: 127.0.0.1:${ports[i + 6]}/" nats-cluster-tls.conf >"$conf"
    cp accounts.conf "$work"
    QA_NATS_SERVER_NAME=n$i QA_NATS_STORE_DIR=$work/store$i "$server" -c "$conf" >"$work/$i.log" 2>&1 &
    pids+=($!)
done

# A cluster is one when its group has a leader and all three are current members.
python3 - "${ports[@]:6:3}" <<'PYTHON_END' || { tail -n 5 "$work"/*.log >&2; fail "three servers did not become a cluster"; }
import json, sys, time, urllib.request
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    for port in sys.argv[1:]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/jsz", timeout=2) as answer:
                group = json.load(answer).get("meta_cluster") or {}
        except OSError:
            continue
        replicas = group.get("replicas") or []
        if group.get("leader") and group.get("cluster_size") == 3 and len(replicas) == 2 and all(r.get("current") for r in replicas):
            sys.exit(0)
    time.sleep(0.2)
sys.exit(1)
PYTHON_END
printf 'nats: every configuration is taken, and three servers with TLS are one cluster\n'
