#!/usr/bin/env bash
# Three devices from a shell, one on each wire: each is provisioned and sends a reading.
#
#     examples/shell-session.sh [PROFILE]
#
# To be run where the gateway runs: key and secret come from its store and pass through pipes.
# They are in no argument and no variable, so neither in the history nor in `ps`.
# Needs curl, mosquitto-clients and libcoap3-bin.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:$PWD/.venv/bin"

profile=${1:-demo}
http=http://127.0.0.1:${GATEHOUSE_HTTP_PORT:-8080}/api/v1
mqtt=(-h 127.0.0.1 -p "${GATEHOUSE_MQTT_PORT:-1883}")
coap=coap://127.0.0.1:${GATEHOUSE_COAP_PORT:-5683}/api/v1
reading='{"temperature":21.5}'
coap_client=$(command -v coap-client coap-client-notls coap-client-openssl | head -n 1)

name() { echo "shell-$1-$$-$RANDOM"; }
request() { gatehouse profile request "$profile" --device-name "$1"; }
token() { sed -n 's/.*"credentialsValue":"\([^"]*\)".*/\1/p' | grep . || refused; }
refused() { echo "refused; the reason: gatehouse device events" >&2; return 1; }

# HTTP. curl reads the body, and then the address with the token in it, from a pipe.
device=$(name http)
token=$(request "$device" | curl -sS --data-binary @- "$http/provision" | token)
printf 'url = "%s"\n' "$http/$token/telemetry" | curl -sSf -d "$reading" --config -
echo "$device is provisioned and has sent a reading"

# MQTT. mosquitto's clients read options from a file of their name in $XDG_CONFIG_HOME. It may be
# a pipe; so what `-m` and `-u` say does not stand on the command line.
options=$(mktemp -d)
trap 'rm -rf "$options"' EXIT
mkfifo -m 600 "$options/mosquitto_rr" "$options/mosquitto_pub"
device=$(name mqtt)
request "$device" | sed 's/^/-m /' >"$options/mosquitto_rr" &
token=$(XDG_CONFIG_HOME=$options mosquitto_rr "${mqtt[@]}" -u provision -W 10 \
    -t /provision/request -e /provision/response | token)
printf -- '-u %s\n' "$token" >"$options/mosquitto_pub" &
XDG_CONFIG_HOME=$options mosquitto_pub "${mqtt[@]}" -q 1 -t v1/devices/me/telemetry -m "$reading"
echo "$device is provisioned and has sent a reading"

# CoAP. coap-client takes an address as an argument only: while it runs, `ps` shows the token of
# this one device. The fleet's secret is in the body and passes through the pipe.
device=$(name coap)
token=$(request "$device" | "$coap_client" -m post -f - "$coap/provision" | token)
"$coap_client" -m post -e "$reading" "$coap/$token/telemetry"
echo "$device is provisioned and has sent a reading"
