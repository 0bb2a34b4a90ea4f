#!/usr/bin/env bash
# Formats every C, header and CUDA file with the clang-format given (default: from the PATH). --check only compares.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=${1:-clang-format}
mode=(-i); [ "${2:-}" = --check ] && mode=(--dry-run -Werror)
git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | xargs "$tool" "${mode[@]}"
