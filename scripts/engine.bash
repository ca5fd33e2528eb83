# Sourced by the scripts that need a Docker engine: speaks the Engine API with curl, so that no docker CLI is needed.
# Not a command of its own.
# shellcheck shell=bash

# Says one line on stderr, under the name of the script that runs.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Says one line and ends the script.
fail() {
    say "$@"
    exit 1
}

# Where the engine listens: DOCKER_HOST, else the default socket.
engine_address() {
    printf '%s' "${DOCKER_HOST:-unix:///var/run/docker.sock}"
}

# engine_api PATH [CURL OPTION]...: one request to the engine; the answer's body goes to stdout.
engine_api() {
    local path=$1 address
    shift
    address=$(engine_address)
    case $address in
    unix://*) curl --silent --show-error --unix-socket "${address#unix://}" "$@" "http://engine$path" ;;
    tcp://* | http://*) curl --silent --show-error "$@" "http://${address#*://}$path" ;;
    *) fail "cannot use the engine at DOCKER_HOST=$address: only unix:// and tcp:// are supported" ;;
    esac
}

# Whether an engine answers within a few seconds.
engine_answers() {
    [[ $(engine_api /_ping --fail --max-time 5 2>/dev/null) == OK ]]
}

# engine_has_image NAME
engine_has_image() {
    engine_api "/images/$1/json" --fail --max-time 10 --output /dev/null 2>/dev/null
}
