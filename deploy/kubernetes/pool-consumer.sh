#!/usr/bin/env bash
# Prints the name of the JetStream consumer that the workers of a pool share, for KEDA and for `nats consumer info`.
# usage: pool-consumer.sh POOL     POOL as `qa-coordinator status` shows it, for example ollama/qwen3:14b
set -euo pipefail
[ $# = 1 ] && [ -n "$1" ] || { echo "usage: pool-consumer.sh POOL (for example ollama/qwen3:14b)" >&2; exit 2; }
# The readable part: letters and digits, anything else one dash, 32 characters at most. Then 12 digits of the SHA-256.
slug=$(printf %s "$1" | LC_ALL=C tr '[:upper:]' '[:lower:]' | LC_ALL=C sed -E 's/[^a-z0-9]+/-/g; s/^-//' | cut -c 1-32 | sed -E 's/-+$//')
if command -v sha256sum >/dev/null 2>&1; then sum=$(printf %s "$1" | sha256sum); else sum=$(printf %s "$1" | shasum -a 256); fi
printf 'pool-%s-%s\n' "${slug:-x}" "${sum:0:12}"
