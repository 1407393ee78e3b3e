#!/usr/bin/env bash
# Builds the image: ./build.sh [NAME]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
docker build --platform linux/amd64 --tag "${1:-anymc3d-vlm3d}" "$here"
