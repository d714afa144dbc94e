#!/usr/bin/env bash
# Makes the passwords of the queue's three users for compose.yaml: one file each in secrets/. Those that exist stay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# Only its owner can enter the folder. The files are mounted one by one, and the users of the containers, who are not
# root, have to be able to read them.
mkdir -p -m 700 secrets
for user in coordinator worker operator; do
    file=secrets/nats-$user
    [ ! -e "$file" ] || continue
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$file.new"
    chmod 644 "$file.new"
    mv "$file.new" "$file"
    echo "made $file"
done
