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

install_python() {
    "$python" -m venv "$programs/python"
    "$programs/python/bin/pip" install --quiet --requirement "$here/requirements.txt"
}

install_iot_gateway() {
    "$python" -m venv "$programs/iot-gateway"
    "$programs/iot-gateway/bin/pip" install --quiet --requirement "$here/requirements-gateway.txt"
}

install_rest_43() {
    "$python" -m venv "$programs/rest-4.3"
    "$programs/rest-4.3/bin/pip" install --quiet --requirement "$here/requirements-rest-4.3.txt"
}

install_rest_44() {
    "$python" -m venv "$programs/rest-4.4"
    "$programs/rest-4.4/bin/pip" install --quiet --requirement "$here/requirements-rest-4.4.txt"
}

install_npm() {
    cp "$here/package.json" "$programs/npm/"
    npm install --prefix "$programs/npm" --no-audit --no-fund --no-package-lock --loglevel=error
}

fill "$programs/python" "$here/requirements.txt" install_python
fill "$programs/iot-gateway" "$here/requirements-gateway.txt" install_iot_gateway
fill "$programs/rest-4.3" "$here/requirements-rest-4.3.txt" install_rest_43
fill "$programs/rest-4.4" "$here/requirements-rest-4.4.txt" install_rest_44

missing=()
if command -v npm >/dev/null; then
    fill "$programs/npm" "$here/package.json" install_npm
else
    missing+=(nodejs npm)
fi
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
