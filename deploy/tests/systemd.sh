#!/usr/bin/env bash
# Runs our service units in a booted systemd and checks what they promise. See --help.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

usage() {
    cat <<'END'
Boots systemd in a container, installs the units of deploy/gpu-host there with install-on-host.sh, and runs a job.

usage: deploy/tests/systemd.sh PROGRAMS

PROGRAMS is a folder with qa-coordinator, qa-worker, nats-server and the example program fake_ollama:

  cargo build --workspace && cargo build -p qa-shared --features testing --example fake_ollama
  mkdir programs && cp target/debug/qa-{coordinator,worker} target/debug/examples/fake_ollama .tools/nats-server*/*/scripts/nats-server programs/

Needs root, and on a Debian machine: apt-get install debootstrap systemd-container jq curl. The first run makes a root
file system in .tools/systemd-root (QA_SYSTEMD_ROOT moves it). Queue server and fake Ollama run on this machine; the
container shares its network. Takes about three minutes. Not a part of deploy/test.sh, which does not ask for root.
END
}

case ${1:-} in '' | -h | --help) usage; exit 0 ;; esac
programs=$(cd "$1" && pwd)
for program in qa-coordinator qa-worker nats-server fake_ollama; do
    [ -x "$programs/$program" ] || { echo "error: $programs/$program is missing; see --help" >&2; exit 2; }
done
for command in debootstrap systemd-nspawn nsenter jq curl; do
    command -v "$command" >/dev/null || { echo "error: $command is missing; see --help" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "error: run this as root; it boots a container" >&2; exit 2; }

template=${QA_SYSTEMD_ROOT:-$ROOT/.tools/systemd-root}
work=$(mktemp -d)
machine=$work/root
pids=()
checks=0

finish() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'FAIL: %s\n' "$*"
    inside journalctl --quiet --no-pager --lines 30 --unit qa-worker --unit qa-coordinator || true
    exit 1
}

# check TEXT COMMAND...: one thing that must hold.
check() {
    local text=$1
    shift
    "$@" || fail "$text"
    checks=$((checks + 1))
    printf 'ok: %s\n' "$text"
}

# eventually SECONDS COMMAND...: polls until the command succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# inside COMMAND...: runs it in the container, in all of its namespaces.
inside() { nsenter --target "$leader" --mount --uts --ipc --pid --root --wd -- "$@"; }
property() { inside systemctl show --property "$2" --value "$1"; }
is() { [ "$(property "$1" "$2")" = "$3" ]; }
answers() { curl --silent --fail --max-time 3 --noproxy '*' --output /dev/null "$1"; }
summary() { jq -r "$1" "$machine/var/lib/qa-fleet/qa_results/qa_generation_summary.json"; }
completed() { jq -r .completed "$machine/var/lib/qa-fleet/qa_results/.qa-fleet/progress.json" 2>/dev/null || echo 0; }
has_completed() { [ "$(completed)" -ge "$1" ]; }
journal_says() { inside journalctl --quiet --no-pager --output cat --unit "$1" | grep -q "$2"; }
# may_write UNIT FILE: whether a process in the unit's mount namespace, as the unit's user, can make the file.
may_write() {
    inside sh -c "nsenter --target \$(systemctl show --property MainPID --value $1) --mount -- \
        setpriv --reuid=qa-fleet --regid=qa-fleet --clear-groups touch $2" 2>/dev/null
}
status_of() { inside sh -c "sed -n 's/^$2:[[:space:]]*//p' /proc/\$(systemctl show --property MainPID --value $1)/status"; }

step "a Debian root with systemd"
if [ ! -e "$template/usr/lib/systemd/systemd" ]; then
    mkdir -p "$(dirname "$template")"
    rm -rf "$template.partial"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,util-linux,procps bookworm "$template.partial" >"$work/debootstrap.log" ||
        { tail -n 5 "$work/debootstrap.log"; echo "error: debootstrap failed" >&2; exit 1; }
    mv "$template.partial" "$template"
fi
cp -a "$template" "$machine"

step "queue server and fake Ollama on this machine"
nats_port=$(free_port) ollama_port='' worker_port=$(free_port) coordinator_port=$(free_port)
# Kept readable only by this process's user: it holds a password.
password=$(head -c 18 /dev/urandom | base64 | tr -d '+/=')
(umask 077 && cat >"$work/nats.conf" <<END
listen: "127.0.0.1:$nats_port"
jetstream { store_dir: "$work/nats" }
authorization { user: "fleet", password: "$password" }
END
)
"$programs/nats-server" --config "$work/nats.conf" >"$work/nats.log" 2>&1 &
pids+=($!)
mkfifo "$work/stdin"
"$programs/fake_ollama" 4 20 qwen3:14b <"$work/stdin" >"$work/ollama.log" 2>&1 &
pids+=($!)
exec 7>"$work/stdin" # the fake ends when its standard input does
eventually 20 grep -q serves "$work/ollama.log" || { cat "$work/ollama.log"; exit 1; }
ollama_port=$(sed -n 's#^http://127.0.0.1:\([0-9]*\).*#\1#p' "$work/ollama.log")

step "boot"
systemd-nspawn --quiet --register=no --keep-unit --boot --directory "$machine" --link-journal=no </dev/null >"$work/console.log" 2>&1 &
nspawn=$!
pids+=("$nspawn")
first_child() { leader=$(pgrep --parent "$nspawn" | head -n 1) && [ -n "$leader" ]; }
eventually 20 pgrep --parent "$nspawn" || { cat "$work/console.log"; exit 1; }
first_child
state() { inside systemctl is-system-running 2>/dev/null || true; }
booted() { case $(state) in running | degraded) ;; *) return 1 ;; esac; }
eventually 60 booted || { cat "$work/console.log"; fail "systemd did not boot"; }
printf 'systemd %s, system state %s\n' "$(inside systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" "$(state)"

step "install the worker with install-on-host.sh"
bundle=$machine/root/bundle
mkdir -p "$bundle/etc" "$bundle/drop-ins"
cp "$programs/qa-worker" "$ROOT/deploy/gpu-host/qa-worker.service" "$ROOT/deploy/gpu-host/install-on-host.sh" "$bundle/"
cat >"$bundle/etc/worker.env" <<END
QA_NATS_URL=nats://127.0.0.1:$nats_port
QA_NATS_USER=fleet
QA_NATS_PASSWORD=$password
OLLAMA_BASE_URL=http://127.0.0.1:$ollama_port
QA_CONCURRENCY=4
QA_METRICS_LISTEN=127.0.0.1:$worker_port
END
inside sh /root/bundle/install-on-host.sh install 60 || fail "install-on-host.sh ended with $?"
check "the worker is active" is qa-worker ActiveState active
check "/readyz answers" answers "http://127.0.0.1:$worker_port/readyz"
check "the unit is enabled" inside systemctl is-enabled --quiet qa-worker
again=$(inside sh /root/bundle/install-on-host.sh install 60 2>&1)
check "a second installation changes nothing" grep -q 'nothing differs' <<<"$again"

step "hardening, as the kernel sees it"
check "no new privileges" [ "$(status_of qa-worker NoNewPrivs)" = 1 ]
check "no capabilities" [ "$(status_of qa-worker CapBnd)$(status_of qa-worker CapEff)" = 00000000000000000000000000000000 ]
check "a system call filter" [ "$(status_of qa-worker Seccomp)" = 2 ]
# shellcheck disable=SC2016 # the container's shell expands it
check "not root" [ "$(inside sh -c 'stat -c %U /proc/$(systemctl show --property MainPID --value qa-worker)')" = qa-fleet ]
for file in /usr/x /etc/x /var/x /root/x /var/lib/x; do
    if may_write qa-worker "$file"; then fail "the worker can write $file"; fi
done
check "the worker writes nothing below /usr, /etc, /root and /var" true
printf 'exposure: %s\n' "$(inside systemd-analyze security qa-worker --no-pager | tail -n 1)"

step "the coordinator's job"
install -m 755 "$programs/qa-coordinator" "$machine/usr/local/bin/"
install -m 644 "$ROOT/deploy/gpu-host/qa-coordinator.service" "$machine/etc/systemd/system/"
mkdir -p "$machine/var/lib/qa-fleet"
cp -r "$ROOT/deploy/examples/chunks" "$machine/var/lib/qa-fleet/chunks"
cat >"$machine/etc/qa-fleet/coordinator.env" <<END
QA_NATS_URL=nats://127.0.0.1:$nats_port
QA_NATS_USER=fleet
QA_NATS_PASSWORD=$password
GENERATOR_PROVIDER=local
GENERATOR_MODEL=qwen3:14b
GENERATOR_PROCESS_DIR=/var/lib/qa-fleet/chunks
GENERATOR_OUTPUT_DIR=/var/lib/qa-fleet/qa_results
GENERATOR_OUTPUT_FILE=/var/lib/qa-fleet/qa_results/training_data.json
QA_METRICS_LISTEN=127.0.0.1:$coordinator_port
END
inside sh -c 'chown -R qa-fleet:qa-fleet /var/lib/qa-fleet && chgrp qa-fleet /etc/qa-fleet/coordinator.env && chmod 640 /etc/qa-fleet/coordinator.env'
inside systemctl daemon-reload
# Enabled, so that systemd keeps its exit status after it ended.
inside systemctl enable --quiet --now qa-coordinator
total=$(jq -s 'map(.chunks | length) | add' "$ROOT"/deploy/examples/chunks/*.json)
eventually 30 has_completed 2 || fail "no chunk was completed"
check "the coordinator writes nothing outside /var/lib/qa-fleet" [ "$(may_write qa-coordinator /etc/x && echo yes || echo no)" = no ]
check "and can write there" may_write qa-coordinator /var/lib/qa-fleet/probe

step "a worker that is killed is started again"
before=$(property qa-worker MainPID)
inside systemctl kill --kill-whom=main --signal KILL qa-worker
restarted() { [ "$(property qa-worker MainPID)" != "$before" ] && is qa-worker ActiveState active && [ "$(property qa-worker MainPID)" != 0 ]; }
check "restarted after SIGKILL" eventually 20 restarted
check "ready again" eventually 30 answers "http://127.0.0.1:$worker_port/readyz"

step "a coordinator that is killed is started again and resumes"
[ "$(completed)" -lt "$total" ] || fail "the job was over before the coordinator could be killed"
before=$(property qa-coordinator MainPID)
inside systemctl kill --kill-whom=main --signal KILL qa-coordinator
resumed() { [ "$(property qa-coordinator MainPID)" != "$before" ] && [ "$(property qa-coordinator MainPID)" != 0 ]; }
check "restarted after SIGKILL" eventually 60 resumed

step "stop drains"
inside systemctl stop qa-worker
check "the worker's exit code is 0" is qa-worker ExecMainStatus 0
check "its result is success" is qa-worker Result success
inside systemctl stop qa-coordinator
check "a coordinator that is stopped did not fail" is qa-coordinator Result success
check "its exit code says interrupted" is qa-coordinator ExecMainStatus 3

step "go on to the end"
inside systemctl start qa-worker qa-coordinator
finished() { is qa-coordinator ActiveState inactive; }
eventually 180 finished || fail "the job did not end"
check "the coordinator's exit code is 0" is qa-coordinator ExecMainStatus 0
check "every chunk is completed" [ "$(summary '"\(.chunks.completed)/\(.chunks.total)"')" = "$total/$total" ]
pairs=$(jq '.training_pairs | length' "$machine/var/lib/qa-fleet/qa_results/training_data.json")
check "the combined file has 3 pairs per chunk" [ "$pairs" = $((total * 3)) ]

step "journal"
check "the worker's lines are in the journal" journal_says qa-worker connected
check "no password is in the journal" sh -c "! nsenter --target $leader --mount --pid --root --wd -- journalctl --quiet --no-pager | grep -qF -- '$password'"

step "a mistake in the settings is not retried"
echo 'QA_CONCURRENCY=many' >>"$machine/etc/qa-fleet/worker.env"
inside systemctl restart qa-worker || true
check "the worker failed" eventually 20 is qa-worker ActiveState failed
check "with exit code 2" is qa-worker ExecMainStatus 2
check "and was not restarted" is qa-worker NRestarts 0
check "the journal names the setting" journal_says qa-worker QA_CONCURRENCY

printf '\n%s checks passed; %s chunks, %s pairs\n' "$checks" "$total" "$pairs"
