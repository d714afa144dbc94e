#!/usr/bin/env bash
# Builds what a release consists of. See --help.
set -euo pipefail
# shellcheck source=deploy/lib/tools.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/tools.sh"

usage() {
    cat <<'END'
Builds both programs for release and packs them with completions, settings, service units and checksums.

usage: deploy/release.sh [--target TRIPLE]... [--out FOLDER] [--allow-dirty]

  --target TRIPLE  for which machines (default: this one; on Linux static, with musl, so that they run on every Linux)
  --out FOLDER     where to (default: target/release-packages)
  --allow-dirty    also with changes that are not committed

For each target FOLDER gets qa-fleet-VERSION-TARGET.tar.gz, and all together SHA256SUMS. The same commit gives
the same archive where tar is GNU tar and the toolchain is the same.

The musl targets need `rustup target add TRIPLE` (done where rustup is there) and a C compiler for ring: musl-gcc
(Debian: musl-tools) for this machine's kind, a cross compiler named in CC_<triple> for another.
END
}

targets=() out='' allow_dirty=''
while [ $# -gt 0 ]; do
    case $1 in
        --target | --out)
            [ $# -ge 2 ] || die "$1 needs a value; see --help"
            if [ "$1" = --target ]; then targets+=("$2"); else out=$2; fi
            shift ;;
        --allow-dirty) allow_dirty=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown argument '$1'" ;;
    esac
    shift
done

trap clean_scratch EXIT
ensure_cargo
ensure_python
cd "$ROOT"
metadata=$(cargo metadata --no-deps --format-version 1 --locked)
# field NAME: target_directory, or the version that all packages have.
field() {
    printf %s "$metadata" | "$PYTHON" -c 'import json, sys
data = json.load(sys.stdin)
if sys.argv[1] == "version":
    versions = {p["version"] for p in data["packages"]}
    print(*versions)
else:
    print(data[sys.argv[1]])' "$1"
}
version=$(field version)
case $version in *' '*) die "the packages have different versions: $version" ;; esac
grep -q "^## $version" deploy/CHANGELOG.md || die "deploy/CHANGELOG.md has no section for version $version"
if [ -z "$allow_dirty" ] && [ -n "$(git status --porcelain)" ]; then
    die "there are changes that are not committed; --allow-dirty builds all the same"
fi
target_dir=$(field target_directory)
out=${out:-$target_dir/release-packages}
mkdir -p "$out"
# Files in archives carry the commit's time.
epoch=$(git log -1 --format=%ct)

if [ ${#targets[@]} = 0 ]; then
    case $(uname -s)-$(uname -m) in
        Linux-x86_64) targets=(x86_64-unknown-linux-musl) ;;
        Linux-aarch64) targets=(aarch64-unknown-linux-musl) ;;
        *) targets=("$(rustc -vV | sed -n 's/^host: //p')") ;;
    esac
fi

# compiler_for TARGET: the C compiler for musl, where none is named in the environment.
compiler_for() {
    local variable=CC_${1//-/_}
    case $1 in *-musl) ;; *) return 0 ;; esac
    if [ -n "${!variable:-}" ]; then return 0; fi
    have musl-gcc || system_install "musl-gcc (for static programs)" musl-tools musl-cross
    case $1 in
        "$(uname -m)"-*) export "$variable=musl-gcc" ;;
        *) die "name a C compiler for $1 in $variable" ;;
    esac
}

is_static() { # FILE: no program interpreter is asked for
    "$PYTHON" - "$1" <<'PYTHON_END'
import struct, sys
data = open(sys.argv[1], "rb").read()
offset, = struct.unpack_from("<Q", data, 32)
size, count = struct.unpack_from("<HH", data, 54)
kinds = [struct.unpack_from("<I", data, offset + i * size)[0] for i in range(count)]
sys.exit(3 in kinds)
PYTHON_END
}

for target in "${targets[@]}"; do
    say "==> $version for $target"
    if have rustup && ! rustup target list --installed | grep -qx "$target"; then rustup target add "$target"; fi
    compiler_for "$target"
    # Paths of this machine are no one's business.
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$ROOT=qa-fleet --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
        cargo build --release --locked --target "$target" --package qa-coordinator --package qa-worker </dev/null
    built=$target_dir/$target/release
    name=qa-fleet-$version-$target
    stage=$(scratch)
    mkdir -p "$stage/$name/bin" "$stage/$name/completions"
    for program in qa-coordinator qa-worker; do
        case $target in *-linux-musl) is_static "$built/$program" || die "$program for $target is not static" ;; esac
        install -m 755 "$built/$program" "$stage/$name/bin/"
    done
    # Completions say the same for every target, so the programs of this machine's kind may write them.
    for shell in bash zsh fish; do
        for program in qa-coordinator qa-worker; do
            "$built/$program" completions "$shell" >"$stage/$name/completions/$program.$shell" ||
                die "$program for $target does not run here; build on a machine of its kind, or under its emulation"
        done
    done
    [ "$("$built/qa-worker" --version)" = "qa-worker $version" ] || die "the program says another version: $("$built/qa-worker" --version)"
    cp README.md LICENSE config.env.example "$stage/$name/"
    mkdir "$stage/$name/deploy"
    cp -R deploy/install-workers.sh deploy/*.md deploy/gpu-host deploy/nats deploy/kubernetes deploy/grafana deploy/prometheus "$stage/$name/deploy/"
    archive=$out/$name.tar.gz
    if tar --version 2>/dev/null | grep -q GNU; then
        tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rw,go+rX,go-w --mtime="@$epoch" -cf - "$name" | gzip -n -9 >"$archive.new"
    else
        tar -C "$stage" -cf - "$name" | gzip -n -9 >"$archive.new"
    fi
    mv "$archive.new" "$archive"
    rm -rf "$stage"
    say "    $archive"
done
(
    cd "$out"
    if have sha256sum; then sha256sum qa-fleet-*.tar.gz; else shasum -a 256 qa-fleet-*.tar.gz; fi >SHA256SUMS.new
    mv SHA256SUMS.new SHA256SUMS
)
say "==> $(wc -l <"$out/SHA256SUMS" | tr -d ' ') packages in $out, with SHA256SUMS"
