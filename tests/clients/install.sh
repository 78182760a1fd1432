#!/usr/bin/env bash
# Puts the foreign clients that come from package registries into tests/clients/.programs, and
# says which of the others are missing. Quick when nothing changed. PYTHON chooses the interpreter.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
programs="$here/.programs"
python="${PYTHON:-python3}"

# Runs "$3..." unless the folder $1 was already filled from the same list $2.
fill() {
    local folder="$1" list="$2"
    shift 2
    if cmp --silent "$list" "$folder/.filled-from"; then
        return
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    "$@"
    cp "$list" "$folder/.filled-from"
}

# A folder $1 with an interpreter that has what the list $2 names.
install_python() {
    "$python" -m venv --without-pip "$1"
    "$python" -m pip --disable-pip-version-check --python "$1/bin/python" install --quiet --requirement "$2"
}

install_npm() {
    cp "$here/package.json" "$programs/npm/"
    npm install --prefix "$programs/npm" --no-audit --no-fund --no-package-lock --loglevel=error
}

filling=()
python_client() {
    fill "$programs/$1" "$here/$2" install_python "$programs/$1" "$here/$2" &
    filling+=($!)
}

# At once: each waits for the network most of the time.
python_client python requirements.txt
python_client iot-gateway requirements-gateway.txt
python_client rest-4.3 requirements-rest-4.3.txt
python_client rest-4.4 requirements-rest-4.4.txt
python_client blynk requirements-blynk.txt

missing=()
if command -v npm >/dev/null; then
    fill "$programs/npm" "$here/package.json" install_npm &
    filling+=($!)
else
    missing+=(nodejs npm)
fi
for one in "${filling[@]}"; do wait "$one"; done

command -v curl >/dev/null || missing+=(curl)
command -v mosquitto_rr >/dev/null || missing+=(mosquitto-clients)
for build in notls openssl gnutls; do
    command -v "coap-client-$build" >/dev/null || { missing+=(libcoap3-bin); break; }
done
command -v openssl >/dev/null || missing+=(openssl)
command -v pki >/dev/null || missing+=(strongswan-pki libstrongswan-standard-plugins)
if ((${#missing[@]})); then
    echo "Missing programs; their tests will be skipped. Install them with:" >&2
    echo "    apt-get install --no-install-recommends ${missing[*]}" >&2
fi
