#!/usr/bin/env bash
# Installs into a scratch prefix, builds every example and a C++ program against that copy through pkg-config, and runs them.
#   run.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
DESTDIR=$scratch/root meson install -C "$build" --no-rebuild --quiet >/dev/null
pc=$(find "$scratch/root" -name encdiff.pc)
[ -n "$pc" ] || { echo "encdiff.pc was not installed"; exit 1; }
export PKG_CONFIG_SYSROOT_DIR=$scratch/root PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
library=$(dirname "$(find "$scratch/root" -name libencdiff.so)")
export LD_LIBRARY_PATH=$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
flags=$(pkg-config --cflags --libs encdiff)
# Link with the sanitizers where the library was built with them.
if ldd "$library/libencdiff.so" | grep -q libasan; then flags="$flags -fsanitize=address,undefined"; fi
cd "$scratch"
for name in encode reconstruct swap train traverse; do
  # shellcheck disable=SC2086
  ${CC:-cc} -std=c11 -Wall -Wextra -Wshadow -Werror -D_POSIX_C_SOURCE=200809L "$source/examples/$name.c" $flags -o "$name"
done
printf '#include <encdiff/encdiff.h>\n#include <cstdio>\nint main() { std::puts(encdiff_version()); return encdiff_abi_version() == ENCDIFF_ABI_MAJOR ? 0 : 1; }\n' >host.cpp
# shellcheck disable=SC2086
${CXX:-c++} -std=c++17 -Wall -Wextra -Werror host.cpp $flags -o host && ./host
for header in "$source"/include/encdiff/*.h; do
  printf '#include <encdiff/%s>\n' "$(basename "$header")" | ${CC:-cc} -std=c11 -Wall -Wextra -Werror -I"$source/include" -fsyntax-only -x c -
  printf '#include <encdiff/%s>\n' "$(basename "$header")" | ${CXX:-c++} -std=c++17 -Wall -Wextra -Werror -I"$source/include" -fsyntax-only -x c++ -
done
./train model.safetensors 2
[ "$(./encode model.safetensors 'procedural:shapes3d[0:3]' | wc -l)" -eq 3 ]
./reconstruct model.safetensors 'procedural:shapes3d[0:2]' reconstruction.png
./swap model.safetensors 'procedural:shapes3d[0:2]' 'procedural:shapes3d[100:102]' 0,3 swap.png
./traverse model.safetensors 'procedural:shapes3d[7:8]' 1 traversal.png
for picture in reconstruction swap traversal; do [ -s "$picture.png" ]; done
if ./encode model.safetensors nowhere 2>message; then echo "a missing file went unnoticed"; exit 1; fi
grep -q nowhere message
