#!/usr/bin/env bash
# A Blynk device from a shell: it claims a token, sends a value, and gets a new token.
#
#     examples/blynk-session.sh [TEMPLATE]
#
# To be run where the gateway runs: the tokens come from its store. Blynk's devices put them into
# addresses, so curl reads those from a pipe: they are in no argument, neither in the history nor in
# `ps`. Needs curl.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:$PWD/.venv/bin"

template=${1:-TMPLexample01}
api=http://127.0.0.1:${GATEHOUSE_HTTP_PORT:-8080}/external/api
work=$(mktemp -d) # for its owner alone
trap 'rm -rf "$work"' EXIT

# Standard input is the token; $1 is the call, $2 what follows the token.
ask() { (printf 'url = "%s/%s?token=' "$api" "$1" && tr -d '\n' && printf '%s"\n' "${2:-}") |
    curl -sS --fail-with-body --config -; }
claim() { ask provision "&templateId=$template&ver=1.0.0&type=MCU"; }

gatehouse ticket issue 2>/dev/null >"$work/token"
ask isHardwareConnected <"$work/token" >"$work/before" # false: nobody has claimed it yet
claim <"$work/token"
claim <"$work/token" # the answer may have been lost: asking again changes nothing
ask update "&v1=21.5" <"$work/token"
name=$(ask device/meta "&metaFieldName=Device%20Name" <"$work/token" | sed 's/.*"value":"\([^"]*\)".*/\1/')
echo "$name was made and has sent a value"

gatehouse device reprovision "$name" 2>/dev/null >"$work/new"
claim <"$work/new"
echo "$name has a new token and still says $(ask get "&v1" <"$work/new")"
