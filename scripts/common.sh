# shellcheck shell=bash
# Shared by the scripts of this folder (sourced, not run): headings with timing, and where the tools are.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/build-tools # what the package manager is too old for; deleting it is always safe
meson_wanted=1.0

# Seconds since the script began.
elapsed() { echo "$((SECONDS))"; }

heading() { printf '\n== %s  [%d s]\n' "$1" "$(elapsed)"; }

# fail MESSAGE [WHAT TO DO NEXT]...
fail() {
  printf '\nFAILED: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# version_at_least FOUND WANTED
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Prints the meson to use; fails where there is none that is new enough.
find_meson() {
  local candidate
  for candidate in "$tools/meson/bin/meson" meson /usr/bin/meson; do
    if version_at_least "$("$candidate" --version 2>/dev/null || echo 0)" "$meson_wanted"; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

find_ninja() { command -v ninja || command -v ninja-build || command -v samu; }

find_compiler() {
  if [ -n "${CC:-}" ]; then echo "$CC"; else command -v gcc || command -v clang || command -v cc; fi
}

# Configures the build directory $1 unless it is so already, or with the further options where they differ.
configure() {
  local dir=$1
  shift
  if [ -f "$dir/build.ninja" ]; then
    [ $# -eq 0 ] || "$(find_meson)" configure "$dir" "$@"
  else
    CC=$(find_compiler) "$(find_meson)" setup "$dir" "$root" "$@"
  fi
}

# compile BUILD [OPTION OF ninja]...
compile() {
  local dir=$1
  shift
  "$(find_ninja)" -C "$dir" "$@"
}

# Python of the packages: where the first python3 on the PATH lacks the modules that the tests use and the system's
# has them (pyenv, conda), the system's comes first.
prefer_python_with_modules() {
  local modules="import numpy, h5py, PIL"
  if python3 -c "$modules" 2>/dev/null || ! /usr/bin/python3 -c "$modules" 2>/dev/null; then return 0; fi
  mkdir -p "$tools/bin"
  ln -sf /usr/bin/python3 "$tools/bin/python3"
  export PATH="$tools/bin:$PATH"
}
