#!/usr/bin/env bash
# Writes the file to upload, NAME.tar.gz: ./save.sh [NAME]
set -euo pipefail
name="${1:-anymc3d-vlm3d}"
docker save "$name" | gzip -c > "$name.tar.gz"
