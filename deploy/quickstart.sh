#!/usr/bin/env bash
# The main job on the example documents, with real parts, on a machine that has a Rust toolchain
# and nothing else of ours. See --help.
set -euo pipefail
# shellcheck source=deploy/lib/tools.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/tools.sh"

usage() {
    cat <<'END'
Turns the example documents into question-answer pairs, to show that everything works.

usage: deploy/quickstart.sh [--demo-model] [--model NAME] [--questions N]

  --demo-model   do not look for an Ollama, use the small demo model
  --model NAME   the model to use of the Ollama that answers (default: its smallest chat model)
  --questions N  pairs to ask for, per chunk (default 2)

It builds the programs, uses the Ollama at OLLAMA_BASE_URL or http://127.0.0.1:11434 if one
answers (it never pulls a model), and otherwise starts a small model of its own, whose pairs are
of demo quality. What is missing is fetched into .tools/ in this checkout (pinned versions and
checksums, about 300 MB); nothing is installed system-wide. Ctrl-C stops everything.

  QA_TOOLS_DIR          another place for .tools
  QA_DEMO_MODEL_SERVER  what runs the demo model: 'ollama' (built with go; taken where go and a
                        C++ compiler are there) or 'node' (node-llama-cpp)
  QA_DEPLOY_INSTALL=1   allow system-wide installation of what cannot be had otherwise
END
}

want_demo='' model='' questions=2
while [ $# -gt 0 ]; do
    case $1 in
        --demo-model) want_demo=1 ;;
        --model | --questions)
            [ $# -ge 2 ] || die "$1 needs a value; see --help"
            if [ "$1" = --model ]; then model=$2; else questions=$2; fi
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; die "unknown argument '$1'" ;;
    esac
    shift
done
case $questions in '' | *[!0-9]* | 0*) die "--questions needs a number of at least 1, not '$questions'" ;; esac
[ -z "$want_demo" ] || [ -z "$model" ] || die "--demo-model and --model exclude each other"

CHUNKS=$ROOT/deploy/examples/chunks
WORK=$TOOLS_DIR/quickstart
QA_DIR=$WORK/qa_results
BUDGET=300 # seconds that a demo may take
COORDINATOR_PID='' stopped=''

# --- Stopping: the coordinator gets the signal once and finishes what is running; then we go ---

# shellcheck disable=SC2329 # the traps below invoke it
on_signal() { # STATUS SIGNAL_TO_PASS_ON
    stopped=$1
    if [ -z "$COORDINATOR_PID" ]; then leave_if_stopped; fi
    [ -z "$2" ] || kill "-$2" "$COORDINATOR_PID" 2>/dev/null || true
}

leave_if_stopped() {
    [ -z "$stopped" ] || { say "stopped"; exit "$stopped"; }
}

# Ctrl-C and the closing of a terminal reach the coordinator directly: passing them on would be
# the second signal, with which it leaves at once.
trap 'on_signal 130 ""' INT
trap 'on_signal 129 ""' HUP
trap 'on_signal 143 TERM' TERM
trap 'stop_demo_model; clean_scratch' EXIT

# coordinate ARGUMENTS...: runs qa-coordinator so that our traps work while it runs; returns its status.
coordinate() {
    local status=0
    "$PYTHON" "$LIB/demo.py" foreground "$COORDINATOR" "$@" </dev/null &
    COORDINATOR_PID=$!
    while :; do
        status=0
        wait "$COORDINATOR_PID" || status=$? # also returns early, when a trap has run
        kill -0 "$COORDINATOR_PID" 2>/dev/null || break
    done
    COORDINATOR_PID=
    return "$status"
}

# --- Parts ---

say "==> checking the tools"
ensure_cargo
ensure_python
ensure_nats_server

say "==> building qa-coordinator and qa-worker (release; the first build takes minutes)"
(cd "$ROOT" && cargo build --release --locked </dev/null) || die "the build failed; see above"
TARGET=$(cd "$ROOT" && cargo metadata --no-deps --format-version 1 --locked --offline |
    "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
COORDINATOR=$TARGET/release/qa-coordinator
[ -x "$COORDINATOR" ] || die "the build made no $COORDINATOR"

# find_ollama: sets URL and model if an Ollama with a chat model answers.
find_ollama() {
    local status=0
    URL=${OLLAMA_BASE_URL:-http://127.0.0.1:11434}
    URL=${URL%%,*} # the first of several
    case $URL in http://* | https://*) ;; *) URL=http://$URL ;; esac
    URL=${URL%/} URL=${URL%/v1} URL=${URL%/}
    FOUND=$("$PYTHON" "$LIB/demo.py" smallest-chat-model "$URL") || status=$?
    case $status in
        0) model=${model:-$FOUND}; say "==> using the Ollama at $URL with its model $model" ;;
        3) [ -z "$model" ] || die "the Ollama at $URL has no chat model; try: ollama pull $model"
            say "==> the Ollama at $URL has no chat model (nothing is pulled unasked)"; return 1 ;;
        *) [ -z "$model" ] || die "no Ollama answers at $URL, so there is no model '$model'. Start it, or set OLLAMA_BASE_URL."
            say "==> no Ollama answers at $URL"; return 1 ;;
    esac
}

own_model=''
if [ -n "$want_demo" ] || ! find_ollama; then
    own_model=1
    say "==> starting the demo model $DEMO_MODEL: real, but tiny; expect nonsense among its pairs"
    start_demo_model
    URL=$DEMO_URL model=$DEMO_MODEL
    say "    running ($DEMO_KIND) at $URL"
fi

# --- The job ---

# The user's own settings must not leak into the demo: an empty env file is read instead of a
# config.env, and the variables that the programs know are dropped.
mkdir -p "$WORK"
: >"$WORK/empty.env"
for name in $(compgen -e | grep -E '^(GENERATOR|OLLAMA|QA)_|_API_KEY$' || true); do unset "$name"; done
export QA_NATS_SERVER=$NATS_SERVER

# Low temperature and a little repeat penalty: the demo model needs both, no other minds.
common=(--local --env-file "$WORK/empty.env" --nats-server "$NATS_SERVER" --chunks-dir "$CHUNKS"
    --provider local --model "$model" --ollama-base-url "$URL" --questions-per-chunk "$questions"
    --max-tokens $((200 * questions)) --temperature 0.2 --ollama-repeat-penalty 1.1 --restart)

chunks=$("$PYTHON" "$LIB/demo.py" count-chunks "$CHUNKS")
sample=()
if [ -z "$own_model" ]; then
    say "==> timing one chunk"
    start=$SECONDS
    coordinate generate "${common[@]}" --qa-dir "$WORK/timing" --sample 1 --quiet ||
        { status=$?; leave_if_stopped; say "error: the trial with one chunk failed; see above"; exit "$status"; }
    leave_if_stopped
    took=$((SECONDS - start > 0 ? SECONDS - start : 1))
    if [ $((took * chunks)) -gt $BUDGET ]; then
        some=$((BUDGET / took > 0 ? BUDGET / took : 1))
        say "==> one chunk took $took s, all $chunks would take about $((took * chunks / 60)) minutes: the demo does $some of them"
        sample=(--sample "$some")
    fi
fi

say "==> generating: ${sample[1]:+${sample[1]} of }$chunks chunks in $(find "$CHUNKS" -name '*_chunks.json' | wc -l | tr -d ' ') documents, $questions pairs per chunk"
status=0
# The odd expansion: bash 3.2 calls an empty array unset.
coordinate generate "${common[@]}" --qa-dir "$QA_DIR" ${sample[@]+"${sample[@]}"} || status=$?
leave_if_stopped

# --- What came out ---

say ""
say "==> some of the pairs${own_model:+ (demo quality: the model is tiny, judge the machinery and not the text)}"
"$PYTHON" "$LIB/demo.py" show-pairs "$QA_DIR" 3 || {
    [ "$status" != 0 ] || status=1
    say "error: no pairs were made; qa-coordinator ended with status $status, see above"
    exit "$status"
}
say ""
say "The files are in $QA_DIR:"
say "  *_qa.json           pairs and status, one file per document"
say "  training_data.json  all pairs${sample[0]:+ (once the job is finished: this was a sample)}"
say ""
say "Your own documents, with a model of your Ollama:"
say "  $COORDINATOR generate --nats-server $NATS_SERVER \\"
say "    --ollama-base-url http://127.0.0.1:11434 --model MODEL --chunks-dir DIR --qa-dir DIR"
if [ "$status" = 1 ]; then
    say "note: some chunks failed, the lines above say why${own_model:+; of so small a model that is to be expected}"
    # Status 1 says just that. With the demo model the demonstration has succeeded all the same.
    [ -z "$own_model" ] || status=0
fi
exit "$status"
