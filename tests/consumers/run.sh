#!/usr/bin/env bash
# Installs into a scratch prefix and there, through pkg-config alone, builds and runs what strangers would: every
# example, a C host, a C++ host, and each header by itself.
#
#   run.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# ---- the installed copy
DESTDIR=$scratch/root meson install -C "$build" --no-rebuild --quiet >/dev/null
pc=$(find "$scratch/root" -name encdiff.pc)
[ -n "$pc" ] || { echo "encdiff.pc was not installed"; exit 1; }
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR=$scratch/root
export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
library=$(dirname "$(find "$scratch/root" -name libencdiff.so)")
headers=$(dirname "$(find "$scratch/root" -name encdiff.h)")
export LD_LIBRARY_PATH=$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
read -ra cflags <<<"$(pkg-config --cflags encdiff)"
read -ra flags <<<"$(pkg-config --cflags --libs encdiff)"
[ "$(pkg-config --libs-only-l encdiff | xargs)" = -lencdiff ] || { echo "not only -lencdiff: ${flags[*]}"; exit 1; }
[ "$(pkg-config --modversion encdiff)" = "$(sed -n 's/.*VERSION_STRING "\(.*\)"/\1/p' "$headers/version.h")" ] ||
  { echo "encdiff.pc has another version than version.h"; exit 1; }
for header in "$source"/include/encdiff/*.h; do
  cmp -s "$header" "$headers/$(basename "$header")" || { echo "$(basename "$header") is not installed"; exit 1; }
done
# Link with the sanitizers where the library was built with them.
if ldd "$library/libencdiff.so" | grep -q libasan; then flags+=("-fsanitize=address,undefined"); fi
if ldd "$library/libencdiff.so" | grep -q libtsan; then flags+=(-fsanitize=thread); fi

# ---- what is built against it
cd "$scratch"
warnings=(-Wall -Wextra -Wshadow -Werror)
c() { "${CC:-cc}" -std=c11 -D_POSIX_C_SOURCE=200809L "${warnings[@]}" "$@"; }
cxx() { "${CXX:-c++}" -std=c++17 "${warnings[@]}" "$@"; }
for name in encode reconstruct swap train traverse; do c "$source/examples/$name.c" "${flags[@]}" -o "$name"; done
c "$source/tests/consumers/host.c" "${flags[@]}" -pthread -o host
cxx "$source/tests/consumers/host.cpp" "${flags[@]}" -o host++
for header in "$headers"/*.h; do
  name=$(basename "$header")
  printf '#include <encdiff/%s>\n#include <encdiff/%s>\ntypedef int not_empty;\n' "$name" "$name" >alone.c
  c "${cflags[@]}" -pedantic -Wstrict-prototypes -Wundef -fsyntax-only alone.c
  cxx "${cflags[@]}" -pedantic -Wundef -fsyntax-only -x c++ alone.c
done
if ldd ./encode | grep -q 'not found'; then echo "a library is not found"; ldd ./encode; exit 1; fi

# ---- what is run
./host
./host++
./train model.safetensors 2
[ "$(./encode model.safetensors 'procedural:shapes3d[0:70]' | wc -l)" -eq 70 ] # more than a batch
./reconstruct model.safetensors 'procedural:shapes3d[0:2]' reconstruction.png
./swap model.safetensors 'procedural:shapes3d[0:2]' 'procedural:shapes3d[100:102]' 0,3 swap.png
./traverse model.safetensors 'procedural:shapes3d[7:8]' 1 traversal.png
for picture in reconstruction swap traversal; do [ "$(head -c 4 "$picture.png" | tail -c 3)" = PNG ]; done

# Wrong use is told apart from failures, and failures name what was wrong. fails STATUS TEXT COMMAND...
fails() {
  local wanted=$1 text=$2 status=0
  shift 2
  "$@" >/dev/null 2>message || status=$?
  if [ "$status" -ne "$wanted" ] || ! grep -q -- "$text" message; then
    echo "$*: exit status $status, not $wanted with \"$text\": $(cat message)"
    exit 1
  fi
}
for name in encode reconstruct swap train traverse; do fails 2 "usage: $name" "./$name"; done
fails 1 nowhere ./encode model.safetensors nowhere
fails 1 nowhere.safetensors ./encode nowhere.safetensors 'procedural:shapes3d[0:3]'
fails 1 /nonexistent/ ./reconstruct model.safetensors 'procedural:shapes3d[0:1]' /nonexistent/a.png
fails 1 'concept 99' ./swap model.safetensors 'procedural:shapes3d[0:1]' 'procedural:shapes3d[1:2]' 99 swap.png
fails 1 'concept 99' ./traverse model.safetensors 'procedural:shapes3d[0:1]' 99 traversal.png
fails 2 usage ./train model.safetensors many
fails 2 usage ./traverse model.safetensors 'procedural:shapes3d[0:1]' first traversal.png
fails 1 /nonexistent/ ./train /nonexistent/m.safetensors 1
