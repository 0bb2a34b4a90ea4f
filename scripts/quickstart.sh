#!/usr/bin/env bash
# Installs what is missing, builds the library and runs `encdiff quickstart`, which renders scenes, trains both
# stages small and writes pictures and a report. Arguments are passed on (`--help` lists them).
set -euo pipefail
. "$(dirname "$0")/common.sh"
build=$root/build

"$root/scripts/dependencies.sh" || exit 1

heading "Configuring build/"
configure "$build" || fail "configuring failed" \
  "if the message above names a library, run scripts/dependencies.sh --check;" \
  "if build/ was made by another compiler or meson, delete it and run this again."

heading "Building"
compile "$build" || fail "the build failed" "the first error above says where; 'ninja -C build' repeats it."
encdiff=$build/tools/encdiff/encdiff
[ -x "$encdiff" ] || fail "the command line was not built" "meson configure build -Dcli=enabled, and run this again."

heading "Running encdiff quickstart"
status=0
"$encdiff" quickstart "$@" || status=$?
case $status in
  0) heading "Done" ;;
  2) exit 2 ;; # wrong usage: the message has been printed
  130) echo "interrupted" >&2; exit 130 ;;
  *) printf '\nFAILED: encdiff quickstart ended with status %d\n  the line above says why; %s\n' "$status" \
       "after putting it right, run the same command again (what is built is kept)." >&2
     exit "$status" ;;
esac
