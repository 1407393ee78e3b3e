#!/usr/bin/env bash
# Runs the image under the limits of the challenge, and stricter: ./test.sh INPUT_FOLDER OUTPUT_FOLDER [NAME]
set -euo pipefail
input="$(cd "$1" && pwd)"
mkdir -p "$2"
output="$(cd "$2" && pwd)"
chmod 0777 "$output" # the user of the image is another one
gpus=()
if command -v nvidia-smi > /dev/null; then gpus=(--gpus all); fi
docker run --rm "${gpus[@]}" \
    --memory=30g --memory-swap=30g \
    --shm-size=128m \
    --pids-limit=256 \
    --cap-drop=ALL \
    --security-opt=no-new-privileges \
    --network=none \
    --read-only --tmpfs /tmp \
    --volume "$input":/input:ro \
    --volume "$output":/output \
    "${3:-anymc3d-vlm3d}"
python3 -m json.tool "$output/results.json"
