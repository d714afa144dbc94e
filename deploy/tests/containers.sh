#!/usr/bin/env bash
# Builds our images, runs a job with the compose file and checks what both promise. See --help.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

usage() {
    cat <<'END'
Starts a Docker engine of its own, builds both images with deploy/containers/Dockerfile, and runs jobs with
deploy/containers/compose.yaml: options of the containers, secrets, health, drain, SIGKILL, resume, the combined file.

usage: deploy/tests/containers.sh PROGRAMS

PROGRAMS is a folder with qa-coordinator, qa-worker, nats-server and the example program fake_ollama:

  cargo build --workspace && cargo build -p qa-shared --features testing --example fake_ollama
  mkdir programs && cp target/debug/qa-{coordinator,worker} target/debug/examples/fake_ollama .tools/nats-server*/*/scripts/nats-server programs/

Nothing is pulled. The base images are made from a Debian root under the names that the Dockerfile and the compose file
want; `cargo` in the build image copies PROGRAMS, `ollama` is fake_ollama. So this checks everything but Alpine, the
compilation and the images of others. Only nats, ollama, ollama-pull, worker and coordinator are started.

Needs root, and on a Debian machine: apt-get install docker.io debootstrap iptables jq curl, and Compose 2.30 or later as
a plugin (from its Go module: go mod download github.com/docker/compose/v2@v2.39.4, copy the module's folder out of the
cache, and there go build -o /usr/local/lib/docker/cli-plugins/docker-compose ./cmd). The first run makes a root file
system in .tools/container-root. Takes about two minutes. Not a part of deploy/test.sh, which does not ask for root.
END
}

case ${1:-} in '' | -h | --help) usage; exit 0 ;; esac
programs=$(cd "$1" && pwd)
for program in qa-coordinator qa-worker nats-server fake_ollama; do
    [ -x "$programs/$program" ] || { echo "error: $programs/$program is missing; see --help" >&2; exit 2; }
done
for command in dockerd docker debootstrap iptables jq; do
    command -v "$command" >/dev/null || { echo "error: $command is missing; see --help" >&2; exit 2; }
done
docker compose version >/dev/null 2>&1 || { echo "error: docker compose is missing; see --help" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "error: run this as root; it starts a Docker engine" >&2; exit 2; }

template=${QA_CONTAINER_ROOT:-$ROOT/.tools/container-root}
work=$(mktemp -d)
source=$work/source
export DOCKER_HOST=unix://$work/docker.sock COMPOSE_BAKE=false DOCKER_BUILDKIT=1
engine=
checks=0

finish() {
    if [ -n "$engine" ]; then
        [ ! -d "$source" ] || compose down --timeout 1 --volumes >"$work/down.log" 2>&1 || true
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'FAIL: %s\n' "$*"
    compose ps --all || true
    compose logs --tail 15 --no-log-prefix worker coordinator | cut -c 1-300 || true
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

compose() { docker compose --project-directory "$source/deploy/containers" "$@"; }
container() { compose ps --all --quiet "$1" | head -n 1; }
inspected() { docker inspect --format "$2" "$(container "$1")"; }
is() { [ "$(inspected "$1" "$2")" = "$3" ]; }
exit_code() { is "$1" '{{.State.Status}} {{.State.ExitCode}}' "exited $2"; }
may_write() { docker exec "$(container "$1")" touch "$2" 2>/dev/null; }
summary() { jq -r "$1" "$results/qa_generation_summary.json"; }
completed() { jq -r .completed "$results/.qa-fleet/progress.json" 2>/dev/null || echo 0; }
has_completed() { [ "$(completed)" -ge "$1" ]; }
pairs() { jq '.training_pairs | length' "$results/training_data.json"; }

step "a Docker engine"
# Without NAT: nothing leaves this machine. Networks of the compose file are bridges all the same.
dockerd --host "$DOCKER_HOST" --data-root "$work/docker" --exec-root "$work/exec" --pidfile "$work/docker.pid" \
    --iptables=false --ip6tables=false >"$work/dockerd.log" 2>&1 &
engine=$!
eventually 60 docker info || { tail -n 20 "$work/dockerd.log"; echo "error: dockerd did not start" >&2; exit 1; }
printf 'docker %s, compose %s, storage %s\n' "$(docker version --format '{{.Server.Version}}')" \
    "$(docker compose version --short)" "$(docker info --format '{{.Driver}}')"

step "base images from a Debian root"
if [ ! -e "$template/usr/bin/wget" ]; then
    mkdir -p "$(dirname "$template")"
    rm -rf "$template.partial"
    debootstrap --variant=minbase --include=wget,socat bookworm "$template.partial" >"$work/debootstrap.log" ||
        { tail -n 5 "$work/debootstrap.log"; echo "error: debootstrap failed" >&2; exit 1; }
    rm -rf "$template.partial"/var/cache/apt/* "$template.partial"/var/lib/apt/lists/* "$template.partial"/usr/share/{doc,locale,man}
    mv "$template.partial" "$template"
fi
mkdir "$work/images"
# image_of FILE: the image that a line of ours names.
image_of() { sed -n "s,^    image: \($1:.*\),\1,p" "$ROOT/deploy/containers/compose.yaml" | head -n 1; }
argument() { sed -n "s/^ARG $1=//p" "$ROOT/deploy/containers/Dockerfile"; }
alpine=alpine:$(argument ALPINE)
tar -C "$template" -c . | docker import - "$alpine" >"$work/import.log" 2>&1
cp "$programs"/* "$work/images/"
cat >"$work/images/cargo" <<'END'
#!/bin/sh
mkdir -p target/release && cp /programs/qa-worker /programs/qa-coordinator target/release/
END
cat >"$work/images/ollama" <<'END'
#!/bin/sh
# serve: the fake one, at Ollama's port. list, pull: there is always a model.
[ "${1:-serve}" = serve ] || exit 0
mkfifo /tmp/stdin && exec 3<>/tmp/stdin
fake_ollama 4 40 "${QA_MODEL:-qwen3:4b}" </tmp/stdin >/tmp/fake.log 2>&1 &
until grep -q serves /tmp/fake.log 2>/dev/null; do sleep 0.1; done
exec socat TCP-LISTEN:11434,fork,reuseaddr "TCP:$(sed -n 's#^http://\([0-9.:]*\).*#\1#p' /tmp/fake.log)"
END
chmod +x "$work/images/cargo" "$work/images/ollama"
# derived NAME LINES...: an image from the base, without BuildKit's own images.
derived() {
    local name=$1
    shift
    printf '%s\n' "FROM $alpine" "$@" | DOCKER_BUILDKIT=0 docker build --quiet --tag "$name" --file - "$work/images" >>"$work/import.log" 2>&1 ||
        { tail -n 20 "$work/import.log"; echo "error: no image $name" >&2; exit 1; }
}
derived "rust:$(argument RUST)-alpine$(argument ALPINE)" 'COPY qa-worker qa-coordinator /programs/' 'COPY cargo /usr/local/bin/cargo' \
    'RUN ln -s /bin/true /usr/local/bin/apk'
derived "$(image_of nats)" 'COPY nats-server /usr/local/bin/' 'ENTRYPOINT ["nats-server"]'
derived "$(image_of ollama/ollama)" 'COPY fake_ollama ollama /usr/local/bin/' 'ENTRYPOINT ["ollama"]' 'CMD ["serve"]'

step "our images"
mkdir "$source"
git -C "$ROOT" ls-files --cached --others --exclude-standard -z | tar -C "$ROOT" --null --ignore-failed-read -T - -c 2>/dev/null | tar -C "$source" -x
# The frontend of that line is an image elsewhere; the engine's own reads the same file.
sed -i '/^# syntax=/d' "$source/deploy/containers/Dockerfile"
# Long enough that there is time to kill things.
mkdir -m 755 "$work/chunks"
for copy in 1 2 3; do
    for file in "$ROOT"/deploy/examples/chunks/*.json; do install -m 644 "$file" "$work/chunks/copy-$copy-${file##*/}"; done
done
total=$(jq -s 'map(.chunks | length) | add' "$work"/chunks/*.json)
results=$work/results
mkdir -m 755 "$results"
chown 1234:1234 "$results"
secrets=$source/deploy/containers/secrets
"$source/deploy/containers/make-secrets.sh" >"$work/secrets.log"
worker_password=$(cat "$secrets/nats-worker") coordinator_password=$(cat "$secrets/nats-coordinator")
check "a second make-secrets.sh changes nothing" [ -z "$("$source/deploy/containers/make-secrets.sh")" ]
cat >"$source/deploy/containers/.env" <<END
QA_MODEL=qwen3:4b
QA_CHUNKS=$work/chunks
QA_RESULTS=$results
QA_UID=1234
QA_GID=1234
QA_CONCURRENCY=4
END
services=(nats ollama ollama-pull worker coordinator)
compose build worker coordinator >"$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; fail "the images were not built"; }
check "both images are there" docker image inspect --format '{{.Id}}' qa-worker:latest qa-coordinator:latest

step "a job while its containers are looked at"
compose up --detach --no-build --no-deps "${services[@]}" >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "the services did not start"; }
eventually 60 has_completed 2 || fail "no chunk was completed"
for service in worker coordinator; do
    check "$service: the root file system is read-only" [ "$(may_write "$service" /etc/x && echo yes || echo no)" = no ]
    check "$service: nor can it write /tmp" [ "$(may_write "$service" /tmp/x && echo yes || echo no)" = no ]
    status=$(docker exec "$(container "$service")" cat /proc/1/status)
    check "$service: no capabilities" grep -q '^CapBnd:[[:space:]]*0*$' <<<"$status"
    check "$service: no new privileges" grep -q '^NoNewPrivs:[[:space:]]*1$' <<<"$status"
    check "$service: a system call filter" grep -q '^Seccomp:[[:space:]]*2$' <<<"$status"
done
check "the worker is not root" grep -q '^65532$' <<<"$(docker exec "$(container worker)" stat -c %u /proc/1)"
check "the coordinator is who owns the results" grep -q '^1234$' <<<"$(docker exec "$(container coordinator)" stat -c %u /proc/1)"
check "the worker can read its secret" [ "$(docker exec "$(container worker)" cat /run/secrets/nats-worker)" = "$worker_password" ]
check "and has not the coordinator's" [ "$(docker exec "$(container worker)" ls /run/secrets)" = nats-worker ]
for service in worker coordinator; do
    environment=$(docker exec "$(container "$service")" cat /proc/1/environ | tr '\0' '\n')
    check "$service: no password in its environment" [ "$(grep -cE "$worker_password|$coordinator_password" <<<"$environment")" = 0 ]
    check "$service: none in its log" [ "$(compose logs "$service" 2>&1 | grep -cE "$worker_password|$coordinator_password")" = 0 ]
done
for service in nats worker; do
    check "$service is healthy" eventually 60 is "$service" '{{.State.Health.Status}}' healthy
done

step "SIGKILL"
docker kill --signal KILL "$(container coordinator)" >/dev/null
before=$(completed)
[ "$before" -lt "$total" ] || fail "the job was over before anything could be killed"
check "a coordinator that is killed stays down" eventually 10 exit_code coordinator 137
docker kill --signal KILL "$(container worker)" >/dev/null
compose up --detach --no-build --no-deps --scale worker=2 worker coordinator >>"$work/up.log" 2>&1
check "two workers run" [ "$(compose ps --status running --quiet worker | wc -l)" = 2 ]

step "stop drains"
eventually 60 has_completed $((before + 4)) || fail "no further chunk was completed"
compose stop coordinator >>"$work/up.log" 2>&1
check "the coordinator says that it was interrupted" exit_code coordinator 3
compose stop worker >>"$work/up.log" 2>&1
check "the worker ends with 0" exit_code worker 0

step "go on to the end"
compose up --detach --no-build --no-deps worker coordinator >>"$work/up.log" 2>&1
eventually 180 exit_code coordinator 0 || fail "the job did not end"
check "the coordinator's exit code is 0" exit_code coordinator 0
check "every chunk is completed" [ "$(summary '"\(.chunks.completed)/\(.chunks.total)"')" = "$total/$total" ]
check "the combined file has 3 pairs per chunk" [ "$(pairs)" = $((total * 3)) ]
check "it belongs to the user of the results" [ "$(stat -c %u "$results/training_data.json")" = 1234 ]
compose up --no-build --no-deps coordinator >>"$work/up.log" 2>&1 || true
check "once more does nothing and ends with 0" exit_code coordinator 0
check "and the combined file is as it was" [ "$(pairs)" = $((total * 3)) ]
printf 'sizes: %s\n' "$(docker image ls --format '{{.Repository}} {{.Size}}' | grep '^qa-' | tr '\n' ' ')"

printf '\n%s checks passed; %s chunks, %s pairs\n' "$checks" "$total" "$(pairs)"
