#!/usr/bin/env bash
# Sets up or upgrades qa-worker on many hosts over ssh, one after the other. See --help.
set -euo pipefail

usage() {
    cat <<'END'
Installs qa-worker as a service on each HOST, or upgrades it there, one host after the other.

usage: deploy/install-workers.sh --binary FILE --env-file FILE [OPTION...] HOST...

  --binary FILE     the program; once for each kind of machine (x86_64, aarch64): the one that fits is taken.
                    Static ones from deploy/release.sh run everywhere
  --env-file FILE   the workers' settings, becomes /etc/qa-fleet/worker.env (gpu-host/worker.env.example)
  --file FILE       one more file for /etc/qa-fleet, such as a certificate; may be repeated
  --drop-in FILE    a drop-in for the service, such as gpu-host/qa-worker.service.d/secrets.conf; may be repeated
  --user USER       log in as USER (default: what ssh says); other users than root need sudo without a password
  --ssh-config FILE configuration for ssh (ssh -F), for ports, keys and jump hosts
  --timeout SECONDS how long a worker may take until it is ready (default 120)
  --dry-run         say what would change on each host, change nothing

On a host that already runs a worker: `systemctl stop` waits for its drain, then files are replaced by renaming, the
worker is started, and it has to be ready before the next host's turn comes. Where it does not get ready the
old files come back, the old worker is started, and no further host is touched. The fleet goes on all the while: the
other workers take the tasks. A host where nothing differs is left alone, so the same command can be given again.

A worker is ready when /readyz says so at its QA_METRICS_LISTEN, or, where the env file has none, when it has
written to the journal that it is connected to the queue.

Exit codes: 0 all hosts are as they should be, 1 a host failed (and the rest was not touched), 2 wrong arguments.
END
}

say() { printf '%s\n' "$*" >&2; }

wrong() {
    say "error: $*"
    exit 2
}

# machine_of FILE: for which machine an ELF program was made, as `uname -m` says it.
machine_of() {
    [ "$(head -c 4 "$1" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] || return 0
    case $(od -An -tx1 -j 18 -N 2 "$1" | tr -d ' \n') in
        3e00) echo x86_64 ;;
        b700) echo aarch64 ;;
    esac
}

binary_x86_64='' binary_aarch64='' env_file='' user='' ssh_config='' timeout=120 dry_run=''
files=() drop_ins=() hosts=()

while [ $# -gt 0 ]; do
    case $1 in
        --binary | --env-file | --file | --drop-in | --user | --ssh-config | --timeout)
            [ $# -ge 2 ] || wrong "$1 needs a value; see --help"
            case $1 in
                --user | --timeout) ;;
                *) [ -f "$2" ] && [ -r "$2" ] || wrong "$1 $2: there is no such file, or it cannot be read" ;;
            esac
            case $1 in
                --binary)
                    case $(machine_of "$2") in
                        x86_64) binary_x86_64=$2 ;;
                        aarch64) binary_aarch64=$2 ;;
                        *) wrong "--binary $2 is no program for Linux on x86_64 or aarch64" ;;
                    esac ;;
                --env-file) env_file=$2 ;;
                --file) files+=("$2") ;;
                --drop-in) drop_ins+=("$2") ;;
                --user) user=$2 ;;
                --ssh-config) ssh_config=$2 ;;
                --timeout) timeout=$2 ;;
            esac
            shift ;;
        --dry-run) dry_run=1 ;;
        -h | --help) usage; exit 0 ;;
        --) shift; hosts+=("$@"); break ;;
        -*) usage >&2; wrong "unknown option '$1'" ;;
        *) hosts+=("$1") ;;
    esac
    shift
done
[ ${#hosts[@]} -gt 0 ] || { usage >&2; wrong "no host is named"; }
[ -n "$binary_x86_64$binary_aarch64" ] || wrong "--binary is missing"
[ -n "$env_file" ] || wrong "--env-file is missing"
case $timeout in '' | *[!0-9]* | 0*) wrong "--timeout needs a number of seconds, not '$timeout'" ;; esac
case $user in -* | *[!A-Za-z0-9._-]*) wrong "'$user' is no name of a user" ;; esac
# Host names go to ssh as arguments and into messages, nowhere else; still nothing odd is taken.
for host in "${hosts[@]}"; do
    case $host in -* | *[!A-Za-z0-9._:@-]*) wrong "'$host' is no name of a host" ;; esac
done
for file in ${files[@]+"${files[@]}"} ${drop_ins[@]+"${drop_ins[@]}"}; do
    case $(basename "$file") in
        worker.env) wrong "$file: give worker.env with --env-file" ;;
        -* | .* | *[!A-Za-z0-9._-]*) wrong "$file: only letters, digits and ._- may be in its name" ;;
    esac
done
for file in ${drop_ins[@]+"${drop_ins[@]}"}; do
    case $file in *.conf) ;; *) wrong "$file: the name of a drop-in ends with .conf" ;; esac
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
umask 077 # settings may hold passwords
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ssh=(ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15)
[ -z "$ssh_config" ] || ssh+=(-F "$ssh_config")
[ -z "$user" ] || ssh+=(-l "$user")

# What a host gets: everything in one stream, and one script that does it there.
pack() { # BINARY
    rm -rf "$work/payload" &&
        mkdir -p "$work/payload/etc" "$work/payload/drop-ins" &&
        cp "$1" "$work/payload/qa-worker" &&
        cp "$here/gpu-host/qa-worker.service" "$here/gpu-host/install-on-host.sh" "$work/payload" &&
        cp "$env_file" "$work/payload/etc/worker.env" &&
        { [ ${#files[@]} = 0 ] || cp "${files[@]}" "$work/payload/etc"; } &&
        { [ ${#drop_ins[@]} = 0 ] || cp "${drop_ins[@]}" "$work/payload/drop-ins"; }
}

# Runs in the login shell of the host, whichever that is: plain words, no values of ours but numbers.
remote_command() {
    local become="" mode=install
    [ "$1" = 0 ] || become='sudo -n '
    [ -z "$dry_run" ] || mode=dry-run
    # shellcheck disable=SC2016 # expanded there
    printf 'sh -c '\''umask 077; d=$(mktemp -d) || exit 1; trap "rm -rf \"$d\"" EXIT; tar -xf - -C "$d" && %ssh "$d/install-on-host.sh" %s %s'\''' \
        "$become" "$mode" "$timeout"
}

one_host() { # HOST
    local host=$1 told system machine id binary
    # Never from our standard input: ssh would swallow it.
    told=$("${ssh[@]}" -- "$host" 'uname -s; uname -m; id -u' </dev/null) || { say "$host: ssh failed"; return 1; }
    { read -r system && read -r machine && read -r id; } <<<"$told" || { say "$host: unexpected answer: $told"; return 1; }
    [ "$system" = Linux ] || { say "$host: it runs $system, not Linux"; return 1; }
    case $machine in
        x86_64) binary=$binary_x86_64 ;;
        aarch64) binary=$binary_aarch64 ;;
        *) binary='' ;;
    esac
    [ -n "$binary" ] || { say "$host: no --binary is for a $machine machine"; return 1; }
    case $id in '' | *[!0-9]*) say "$host: unexpected answer: $told"; return 1 ;; esac
    pack "$binary" || return 1
    # COPYFILE_DISABLE: macOS' tar adds files of its own otherwise.
    COPYFILE_DISABLE=1 tar -C "$work/payload" -cf - . | "${ssh[@]}" -- "$host" "$(remote_command "$id")"
}

done_hosts=0
for host in "${hosts[@]}"; do
    say "==> $host (${done_hosts} of ${#hosts[@]} done)"
    if ! one_host "$host"; then
        say "error: $host failed; $done_hosts of ${#hosts[@]} hosts are done, the rest was not touched."
        say "Mend it and give the same command again: hosts that are done are left alone."
        exit 1
    fi
    done_hosts=$((done_hosts + 1))
done
if [ -n "$dry_run" ]; then say "nothing was changed"; else say "all ${#hosts[@]} hosts are done"; fi
