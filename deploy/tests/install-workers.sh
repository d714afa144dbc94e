#!/usr/bin/env bash
# install-workers.sh against three hosts that are folders: an ssh of our own runs the commands here, with a systemctl,
# useradd, chown, journalctl and sudo of our own. With QA_TEST_SSHD=/usr/sbin/sshd a real ssh and sshd carry them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(uname -s)" = Linux ] || { echo "install-workers: only on Linux"; exit 0; }
work=$(mktemp -d)
pids=()
finish() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

fail() {
    printf 'install-workers: %s\n' "$*" >&2
    [ ! -f "$work/out" ] || sed 's/^/  | /' "$work/out" >&2
    exit 1
}

# --- Hosts ---

fake=$work/fake
mkdir -p "$fake" "$work/hosts/a" "$work/hosts/b" "$work/hosts/c"

write_fake() { # NAME, the script on standard input
    { echo '#!/bin/sh'; cat; } >"$fake/$1"
    chmod +x "$fake/$1"
}

write_fake systemctl <<'END'
root=$QA_INSTALL_ROOT
installed() { cksum <"$root/usr/local/bin/qa-worker" 2>/dev/null; }
echo "systemctl $* [$(installed)]" >>"$root/calls"
case $1 in
    is-active) [ -e "$root/active" ] ;;
    start | restart) if grep -q MISTAKE "$root/etc/qa-fleet/worker.env"; then touch "$root/failed"; else rm -f "$root/failed"; touch "$root/active"; fi ;;
    stop) rm -f "$root/active" ;;
    show) case $* in
        *ActiveState*) if [ -e "$root/failed" ]; then echo failed; elif [ -e "$root/active" ]; then echo active; else echo inactive; fi ;;
        *InvocationID*) echo 0123456789abcdef ;;
    esac ;;
esac
END
write_fake journalctl <<'END'
[ ! -e "$QA_INSTALL_ROOT/mute" ] || exit 0
echo '2026-11-23T10:00:00Z  INFO connected instance=gpu1-1-abc nats="nats://queue:4222" version="2.15.1"'
END
write_fake useradd <<'END'
for name; do :; done
echo "$name" >>"$QA_INSTALL_ROOT/users"
END
write_fake getent <<'END'
grep -qx "$2" "$QA_INSTALL_ROOT/users" 2>/dev/null
END
write_fake chown <<'END'
echo "chown $*" >>"$QA_INSTALL_ROOT/calls"
END
write_fake sudo <<'END'
[ "$1" = -n ] || exit 1
shift
echo "sudo $*" >>"$QA_INSTALL_ROOT/calls"
exec "$@"
END
write_fake id <<'END'
cat "$QA_INSTALL_ROOT/uid" 2>/dev/null || echo 0
END
write_fake uname <<'END'
if [ "$1" = -m ] && [ -e "$QA_INSTALL_ROOT/machine" ]; then cat "$QA_INSTALL_ROOT/machine"; else exec /bin/uname "$@"; fi
END

options=(--timeout 2)
if [ -n "${QA_TEST_SSHD:-}" ]; then
    ssh-keygen -q -t ed25519 -N '' -f "$work/host-key"
    ssh-keygen -q -t ed25519 -N '' -f "$work/user-key"
    cp "$work/user-key.pub" "$work/authorized"
    port=$(python3 -c 'import random; print(random.randrange(20000, 30000))')
    for host in a b c; do
        port=$((port + 1))
        cat >"$work/$host.sshd" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $work/host-key
AuthorizedKeysFile $work/authorized
StrictModes no
UsePAM no
PidFile none
SetEnv "PATH=$fake:$PATH" "QA_INSTALL_ROOT=$work/hosts/$host"
END
        "$QA_TEST_SSHD" -D -e -f "$work/$host.sshd" 2>"$work/$host.log" &
        pids+=($!)
        cat >>"$work/ssh.config" <<END
Host $host
    HostName 127.0.0.1
    Port $port
END
    done
    cat >>"$work/ssh.config" <<END
Host *
    IdentityFile $work/user-key
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
END
    options+=(--ssh-config "$work/ssh.config" --user "$(id -un)")
    sleep 1
else
    mkdir "$work/ssh"
    cat >"$work/ssh/ssh" <<END
#!/usr/bin/env bash
# ssh OPTION... -- HOST COMMAND
while [ "\$1" != -- ]; do shift; done
[ "\$2" != unreachable ] || { echo "ssh: no route" >&2; exit 255; }
PATH=$fake:\$PATH QA_INSTALL_ROOT=$work/hosts/\$2 exec sh -c "\$3"
END
    chmod +x "$work/ssh/ssh"
    export PATH=$work/ssh:$PATH
fi

# --- What is installed: two programs that differ and tell a version ---

cp "$(command -v sleep)" "$work/worker1"
cp "$work/worker1" "$work/worker2"
printf second >>"$work/worker2"
machine=$(/bin/uname -m)
cat >"$work/my settings.env" <<'END'
QA_NATS_URL=nats://queue:4222   # a comment
QA_NATS_PASSWORD=$HOME 'quoted' "twice" \back `id` $(id) ümlaut
END
printf 'certificate\n' >"$work/ca.pem"
printf '[Service]\nTimeoutStopSec=100\n' >"$work/longer.conf"

install_workers() { # STATUS ARGUMENTS...
    local expected=$1 status=0
    shift
    ./install-workers.sh "${options[@]}" "$@" >"$work/out" 2>&1 </dev/null || status=$?
    [ "$status" = "$expected" ] || fail "status $status instead of $expected: $*"
}
told() { grep -q -- "$1" "$work/out" || fail "it does not say '$1'"; }
same() { cmp -s "$1" "$2" || fail "$2 is not $1"; }
calls() { grep -c -- "$2" "$work/hosts/$1/calls" || true; }
is() { [ "$1" = "$2" ] || fail "$3: '$1' instead of '$2'"; }

first=(--binary "$work/worker1" --env-file "$work/my settings.env" --file "$work/ca.pem" --drop-in "$work/longer.conf")

# Mistakes end before anything is done.
install_workers 2 "${first[@]}" -- -oProxyCommand=id
install_workers 2 "${first[@]}" 'a;id'
install_workers 2 "${first[@]}"
install_workers 2 --env-file "$work/ca.pem" a
install_workers 2 --binary "$work/ca.pem" --env-file "$work/ca.pem" a
install_workers 2 "${first[@]}" --timeout soon a
[ ! -e "$work/hosts/a/etc" ] || fail "a mistake changed a host"

# A dry run on a bare host writes nothing.
install_workers 0 "${first[@]}" --dry-run a
told 'would write .*/usr/local/bin/qa-worker'
[ ! -e "$work/hosts/a/usr" ] || fail "a dry run changed a host"

# Bare hosts; b is reached as a user with sudo.
echo 1000 >"$work/hosts/b/uid"
install_workers 0 "${first[@]}" a b
for host in a b; do
    root=$work/hosts/$host
    same "$work/worker1" "$root/usr/local/bin/qa-worker"
    same "$work/my settings.env" "$root/etc/qa-fleet/worker.env"
    same "$work/ca.pem" "$root/etc/qa-fleet/ca.pem"
    same gpu-host/qa-worker.service "$root/etc/systemd/system/qa-worker.service"
    same "$work/longer.conf" "$root/etc/systemd/system/qa-worker.service.d/longer.conf"
    is "$(stat -c %a "$root/usr/local/bin/qa-worker" "$root/etc/qa-fleet/worker.env" | tr '\n' ' ')" "755 640 " "modes on $host"
    is "$(calls $host 'chown root:qa-fleet .*/worker.env')" 1 "owner of the settings on $host"
    is "$(cat "$root/users")" qa-fleet "users made on $host"
    [ -e "$root/active" ] || fail "no worker runs on $host"
    [ ! -e "$root/var/lib/qa-fleet-install" ] || fail "something is left over on $host"
done
is "$(calls a sudo)" 0 "sudo for root"
[ "$(calls b sudo)" -ge 1 ] || fail "no sudo for a user"

# The same again does nothing.
install_workers 0 "${first[@]}" a b
told 'nothing differs'
is "$(calls a 'systemctl stop')$(calls a 'systemctl restart')" 01 "stops and starts of the same again"

# An upgrade: stopped with the old program in place, started with the new one.
second=(--binary "$work/worker2" --env-file "$work/my settings.env")
install_workers 0 "${second[@]}" --dry-run a
told 'would drain'
same "$work/worker1" "$work/hosts/a/usr/local/bin/qa-worker"
install_workers 0 "${second[@]}" a
same "$work/worker2" "$work/hosts/a/usr/local/bin/qa-worker"
sum1=$(cksum <"$work/worker1") sum2=$(cksum <"$work/worker2")
is "$(calls a "systemctl stop .*$sum1")" 1 "drains of the old program"
is "$(calls a "systemctl restart .*$sum2")" 1 "starts of the new program"
same "$work/ca.pem" "$work/hosts/a/etc/qa-fleet/ca.pem"

# A worker that does not get ready: the old one comes back, the hosts after it are not touched.
touch "$work/hosts/b/mute"
install_workers 1 "${second[@]}" a b c
told 'b failed; 1 of 3'
same "$work/worker1" "$work/hosts/b/usr/local/bin/qa-worker"
[ -e "$work/hosts/b/active" ] || fail "the old worker was not started again"
[ ! -e "$work/hosts/c/calls" ] || fail "the host after the failed one was touched"
rm "$work/hosts/b/mute"

# Settings that the worker refuses are told at once, and on a new host nothing stays.
printf 'MISTAKE=1\n' >"$work/bad.env"
begin=$SECONDS
install_workers 1 --binary "$work/worker2" --env-file "$work/bad.env" --timeout 60 c
[ $((SECONDS - begin)) -lt 20 ] || fail "a worker that has ended is waited for"
[ ! -e "$work/hosts/c/usr/local/bin/qa-worker" ] || fail "a failed first installation leaves its program"

# A run that was cut off after the old worker's stop is finished by the next one.
mkdir -p "$work/hosts/b/var/lib/qa-fleet-install"
install_workers 0 "${second[@]}" b
same "$work/worker2" "$work/hosts/b/usr/local/bin/qa-worker"
[ ! -e "$work/hosts/b/var/lib/qa-fleet-install" ] || fail "what was kept is left over"

# Ready by /readyz where the settings have an address for it.
(cd "$work/hosts" && : >readyz && exec python3 -c 'import functools, http.server, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
print(server.server_port, flush=True)
server.serve_forever()') >"$work/port" &
pids+=($!)
while [ ! -s "$work/port" ]; do sleep 0.1; done
printf 'QA_METRICS_LISTEN="0.0.0.0:%s" # for Prometheus\n' "$(<"$work/port")" >"$work/metrics.env"
touch "$work/hosts/c/mute"
install_workers 0 --binary "$work/worker2" --env-file "$work/metrics.env" c
rm "$work/hosts/readyz"
install_workers 1 --binary "$work/worker1" --env-file "$work/metrics.env" c
same "$work/worker2" "$work/hosts/c/usr/local/bin/qa-worker"

# Another kind of machine, and one that cannot be reached.
case $machine in x86_64) other=aarch64 ;; *) other=x86_64 ;; esac
echo $other >"$work/hosts/a/machine"
install_workers 1 "${first[@]}" a
told "no --binary is for a $other machine"
[ -n "${QA_TEST_SSHD:-}" ] || { install_workers 1 "${first[@]}" unreachable && told 'ssh failed'; }

printf 'install-workers: installs, upgrades with a drain, goes back, and stops at the first failing host\n'
