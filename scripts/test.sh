#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors and runs the tests.
#
#   scripts/test.sh [--slow] [SUITE...]
#
#   SUITE     only these: unit parity api cli abi consumers python fuzz slow (default: all but slow)
#   --slow    also the suite slow: files of gigabytes
#
# Ends with one line, `N passed, N failed, N skipped`; the exit status is 0 when nothing failed and something ran.
set -uo pipefail
. "$(dirname "$0")/common.sh"
build=${ENCDIFF_TEST_BUILD:-$root/build}

slow=no suites=()
for argument in "$@"; do
  case $argument in
    --slow) slow=yes ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "test.sh: unknown option '$argument' (--help)" >&2; exit 2 ;;
    *) suites+=("$argument") ;;
  esac
done

# What goes wrong before a test can run counts as one failure, so that the closing line is always there.
stop() {
  (fail "$@")
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

"$root/scripts/dependencies.sh" --tests || stop "the tests' packages are not there" "the message above names them"

prefer_python_with_modules

heading "Configuring"
configure "$build" -Dwerror=true || stop "configuring failed" "if build/ was made otherwise, delete it and try again"

heading "Building"
compile "$build" || stop "the build failed" "the first error above says where; 'ninja -C build' repeats it"

heading "Testing"
selection=()
for suite in ${suites[@]+"${suites[@]}"}; do selection+=(--suite "$suite"); done
if [ "$slow" = no ] && [ ${#suites[@]} -eq 0 ]; then
  echo "without the suite slow (--slow)"
  selection+=(--no-suite slow)
fi
log=$build/meson-logs/testlog.json
rm -f "$log"
"$(find_meson)" test -C "$build" --no-rebuild --print-errorlogs -t 3 ${selection[@]+"${selection[@]}"} </dev/null
python3 "$root/scripts/count_tests.py" "$log"
