#!/bin/sh
# What a container of anymc3d runs. "once IN OUT", or MERCURE_IN_DIR and MERCURE_OUT_DIR: one study. "serve": the
# service, with every plugin of ANYMC3D_PLUGINS and the token in /run/secrets/anymc3d-token; words that follow are options
# of "anymc3d serve". Anything else: a command of anymc3d.
set -eu
if [ -n "${MERCURE_IN_DIR:-}" ]; then
    exec python -m anymc3d.serve.once
fi
case "${1:-serve}" in
once)
    shift
    exec python -m anymc3d.serve.once "$@"
    ;;
serve)
    [ $# -eq 0 ] || shift
    for plugin in "${ANYMC3D_PLUGINS:-/plugins}"/*.safetensors; do
        set -- -p "$plugin" "$@"
    done
    exec anymc3d serve --host 0.0.0.0 --allow-host localhost --store "${ANYMC3D_STORE:-/store}" \
        --token-file "${ANYMC3D_TOKEN_FILE:-/run/secrets/anymc3d-token}" --backbone "${ANYMC3D_BACKBONE:-/backbone}" "$@"
    ;;
*)
    exec anymc3d "$@"
    ;;
esac
