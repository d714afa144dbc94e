#!/bin/sh
# The part of install-workers.sh that runs on the host, as root, from the folder of files that it was sent with.
# usage: install-on-host.sh install|dry-run SECONDS
#
# QA_INSTALL_ROOT puts all files below another folder: for the tests, and for images.
set -eu

mode=$1
timeout=$2
from=$(cd "$(dirname "$0")" && pwd)
root=${QA_INSTALL_ROOT:-}
unit=qa-worker.service
bin=$root/usr/local/bin
etc=$root/etc/qa-fleet
units=$root/etc/systemd/system
drop_ins=$units/$unit.d
kept=$root/var/lib/qa-fleet-install # what was there before, until the new worker is ready

say() { printf '    %s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

command -v systemctl >/dev/null 2>&1 || die "there is no systemctl: this host has no systemd"
chmod 755 "$from/qa-worker"
version=$("$from/qa-worker" --version) || die "the program does not run here (a dynamic one needs this host's libraries)"

# places: every file that is sent with its place and mode, one a line. No name has blanks.
places() {
    echo "qa-worker $bin/qa-worker 755"
    echo "qa-worker.service $units/$unit 644"
    for file in "$from"/etc/*; do echo "etc/${file##*/} $etc/${file##*/} 640"; done
    for file in "$from"/drop-ins/*; do
        [ ! -f "$file" ] || echo "drop-ins/${file##*/} $drop_ins/${file##*/} 644"
    done
}

changed=$(places | while read -r file place _; do
    cmp -s "$from/$file" "$place" || echo "$place"
done)
is_active() { systemctl is-active --quiet "$unit"; }
was_active=no
if is_active; then was_active=yes; fi

if [ -z "$changed" ] && [ "$was_active" = yes ] && [ ! -e "$kept" ]; then
    say "$version runs here already; nothing differs"
    exit 0
fi
if [ "$mode" = dry-run ]; then
    for place in $changed; do say "would write $place"; done
    if [ "$was_active" = yes ]; then say "would drain and restart the worker"; else say "would start the worker"; fi
    exit 0
fi

if ! getent passwd qa-fleet >/dev/null; then
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin qa-fleet ||
        die "the user qa-fleet could not be made"
fi
mkdir -p "$bin" "$units" "$drop_ins" "$etc" "${kept%/*}"
chmod 755 "$etc" "$drop_ins"

# put FROM TO MODE: beside its place first, then renamed, so that there is never half a file. Settings can be read by
# the service's group and root only.
put() {
    cp "$1" "$2.new"
    case $2 in
        "$etc"/*) chown root:qa-fleet "$2.new" ;;
        *) chown root:root "$2.new" ;;
    esac
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}

# ready: as often as it takes until the worker says that it is ready, or is gone, or the time is over.
url=
ready() {
    listen=$(sed -n 's/^QA_METRICS_LISTEN=\([^ #]*\).*/\1/p' "$etc/worker.env" | tail -n 1 | tr -d "\"'")
    port=${listen##*:}
    end=$(($(date +%s) + timeout))
    while [ "$(date +%s)" -lt "$end" ]; do
        case $(systemctl show --property ActiveState --value "$unit") in
            active)
                if [ -n "$listen" ]; then
                    # All addresses of a machine are also reached at the loopback address; others by name.
                    case $listen in
                        0.0.0.0:* | :* | "[::]":*) url=http://127.0.0.1:$port/readyz ;;
                        *) url=http://$listen/readyz ;;
                    esac
                    if fetch "$url"; then return 0; fi
                else
                    run=$(systemctl show --property InvocationID --value "$unit")
                    if journalctl --quiet --no-pager --output cat "_SYSTEMD_INVOCATION_ID=$run" 2>/dev/null |
                        grep -q ' connected \|"connected"'; then return 0; fi
                fi ;;
            failed | inactive) return 1 ;;
        esac
        sleep 1
    done
    return 1
}

fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl --silent --fail --max-time 3 --noproxy '*' --output /dev/null "$1"
    else
        wget -q -T 3 -O /dev/null "$1"
    fi
}

# obstacles: what keeps the worker from its work, as /readyz tells it.
obstacles() {
    [ -n "$url" ] && command -v curl >/dev/null 2>&1 || return 0
    curl --silent --max-time 3 --noproxy '*' "$url" | head -n 10 | sed 's/^/        /' >&2 || true
}

# A left-over of a run that was cut off: the old files are still those in it.
if [ ! -e "$kept" ]; then
    rm -rf "$kept.new"
    mkdir "$kept.new"
    places | while read -r file place _; do
        if [ -e "$place" ]; then
            mkdir -p "$kept.new/$(dirname "$file")"
            cp -p "$place" "$kept.new/$file"
        fi
    done
    [ "$was_active" = no ] || : >"$kept.new/was-active"
    mv "$kept.new" "$kept"
fi

if [ "$was_active" = yes ]; then
    say "draining the old worker"
    systemctl stop "$unit" || die "the old worker could not be stopped"
fi
places | while read -r file place permissions; do put "$from/$file" "$place" "$permissions"; done
systemctl daemon-reload
systemctl enable --quiet "$unit"
systemctl reset-failed "$unit" 2>/dev/null || true
if systemctl restart "$unit" && ready; then
    rm -rf "$kept"
    say "$version is ready"
    exit 0
fi

say "the new worker did not get ready within $timeout s; what it says:"
obstacles
journalctl --quiet --no-pager --output cat --lines 10 --unit "$unit" 2>/dev/null | sed 's/^/        /' >&2 || true
systemctl stop "$unit" || true
places | while read -r file place permissions; do
    if [ -e "$kept/$file" ]; then put "$kept/$file" "$place" "$permissions"; else rm -f "$place"; fi
done
systemctl daemon-reload
if [ -e "$kept/was-active" ]; then
    if systemctl start "$unit"; then say "the old files are back and the old worker is started"; else say "the old files are back, but the old worker does not start either"; fi
else
    systemctl disable --quiet "$unit" 2>/dev/null || true
    say "what was there before is there again"
fi
rm -rf "$kept"
exit 1
