#!/usr/bin/env bash
# The gate: everything that must hold before a change lands. See --help.
set -euo pipefail
# shellcheck source=deploy/lib/tools.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/tools.sh"

usage() {
    cat <<'END'
Runs the whole gate and stops at the first section that fails.

usage: deploy/test.sh [SECTION...]

Sections, in this order: scripts deploy format clippy docs deny test. With names, only these run.
By name only: advisories, which checks the dependencies against the newest advisory database.
What is missing is fetched into .tools/ in this checkout, pinned by version and checksum.
END
}

SECTIONS='scripts deploy format clippy docs deny test'
BY_NAME_ONLY='advisories'

section_scripts() {
    local script
    for script in deploy/*.sh deploy/lib/*.sh deploy/tests/*.sh deploy/containers/*.sh deploy/gpu-host/*.sh deploy/kubernetes/*.sh .ci/run; do
        bash -n "$script" || return 1
    done
    for script in deploy/lib/*.py deploy/grafana/*.py deploy/tests/*.py; do
        "$PYTHON" -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$script" || return 1
    done
    bash deploy/tests/install-workers.sh || return 1
    ensure_shellcheck
    if [ -z "$SHELLCHECK" ]; then
        say "no shellcheck for this machine; only the syntax was checked"
        return 0
    fi
    "$SHELLCHECK" --external-sources deploy/*.sh deploy/lib/*.sh deploy/tests/*.sh deploy/containers/*.sh deploy/gpu-host/*.sh deploy/kubernetes/*.sh .ci/run
}

# What can be checked of the deployment without an engine, a cluster or a service manager.
section_deploy() {
    bash deploy/tests/nats.sh "$NATS_SERVER" || return 1
    "$PYTHON" -B deploy/lib/check_deploy.py "$ROOT/deploy" "${DEPLOY_CHECKS[@]}" || return 1
    "$PYTHON" -B deploy/grafana/dashboards.py --check || return 1
    # Pinned like the other tools it is not to be had; deploy/telemetry.md tells how to run it by hand.
    if have promtool; then
        promtool check rules deploy/prometheus/alerts.yml || return 1
        promtool test rules deploy/prometheus/alerts_test.yml || return 1
    else
        say "no promtool on PATH; the alerts were not tested"
    fi
    if [ -n "$HADOLINT" ]; then "$HADOLINT" deploy/containers/Dockerfile; fi
}

section_format() { cargo fmt --all --check; }

section_clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

section_docs() { RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked; }

# Without advisories: their database is a git repository that changes, so that the same commit
# could pass today and fail tomorrow. A scheduled workflow runs them.
section_advisories() { "$CARGO_DENY" --locked check advisories; }

section_deny() { "$CARGO_DENY" --locked check --hide-inclusion-graph licenses bans sources; }

# More threads than cores: the end-to-end tests wait for processes most of the time.
section_test() { QA_NATS_SERVER=$NATS_SERVER cargo test --workspace --locked -- --test-threads "${QA_TEST_THREADS:-6}"; }

need_components() {
    local missing=''
    cargo fmt --version >/dev/null 2>&1 || missing='rustfmt'
    cargo clippy --version >/dev/null 2>&1 || missing="$missing clippy"
    [ -z "$missing" ] || die "missing parts of the Rust toolchain; run: rustup component add $missing"
}

chosen=''
for argument in "$@"; do
    case $argument in
        -h | --help) usage; exit 0 ;;
        *) case " $SECTIONS $BY_NAME_ONLY " in
            *" $argument "*) chosen="$chosen $argument" ;;
            *) usage >&2; die "there is no section '$argument'" ;;
        esac ;;
    esac
done

cd "$ROOT"
trap clean_scratch EXIT
begin=$SECONDS
ensure_cargo
ensure_python
for section in ${chosen:-$SECTIONS}; do
    case $section in
        format | clippy) need_components ;;
        deny | advisories) ensure_cargo_deny ;;
        deploy) ensure_nats_server; ensure_hadolint; ensure_deploy_checks ;;
        test) ensure_nats_server ;;
    esac
    printf '\n===== %s =====\n' "$section"
    start=$SECONDS
    # Not in an 'if': that would switch off set -e inside the section.
    set +e
    (set -e; "section_$section") </dev/null
    status=$?
    set -e
    [ "$status" = 0 ] || die "section '$section' failed (status $status) after $((SECONDS - start)) s; again with: deploy/test.sh $section"
    printf '===== %s: ok, %s s =====\n' "$section" $((SECONDS - start))
done
printf '\nall of it passed in %s s:%s\n' $((SECONDS - begin)) " ${chosen:-$SECTIONS}"
