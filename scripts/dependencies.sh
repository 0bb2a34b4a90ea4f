#!/usr/bin/env bash
# Installs what building needs and this machine lacks (Debian 12 and later, Ubuntu 22.04 and later).
#
#   scripts/dependencies.sh [--tests] [--check]
#
#   --tests   also what the tests and the checks of the continuous integration use
#   --check   install nothing, only say what is missing (exit status 1 then)
#
# Nothing is downloaded and no privilege is asked for when everything is there.
set -euo pipefail
. "$(dirname "$0")/common.sh"

with_tests=no only_check=no
for argument in "$@"; do
  case $argument in
    --tests) with_tests=yes ;;
    --check) only_check=yes ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "dependencies.sh: unknown argument '$argument' (--help)" >&2; exit 2 ;;
  esac
done

# ---- probes: each is true when the thing is there and works.

have_compiler() { echo 'int main(void) { return 0; }' | $(find_compiler) -x c -o /dev/null - 2>/dev/null; }
have_header() { echo "#include <$1>" | $(find_compiler) -E -x c -o /dev/null - 2>/dev/null; }
have_library() { pkg-config --exists "$1" 2>/dev/null; }
have_onednn() { have_library dnnl || have_header dnnl.h; }

# What Debian's packages of python3-* serve is the system's interpreter, which need not be the first on the PATH.
have_python_module() { python3 -c "import $1" 2>/dev/null || /usr/bin/python3 -c "import $1" 2>/dev/null; }

# need PACKAGE PROBE...: notes the package unless the probe succeeds.
missing=()
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

probe_everything() {
  missing=()
  have_compiler || missing+=(gcc libc6-dev)
  need ninja-build find_ninja
  need pkg-config command -v pkg-config
  need meson find_meson
  need libdnnl-dev have_onednn
  need libhdf5-dev have_library hdf5
  need libcjson-dev have_library libcjson
  need libpng-dev have_library libpng
  need libjpeg-dev have_library libjpeg
  need zlib1g-dev have_library zlib
  need libyaml-dev have_library yaml-0.1
  [ "$with_tests" = no ] || probe_test_extras
}

probe_test_extras() {
  need python3 command -v python3
  need python3-numpy have_python_module numpy
  need python3-h5py have_python_module h5py
  need python3-pil have_python_module PIL
  need python3-scipy have_python_module scipy
  need python3-lmdb have_python_module lmdb
  need g++ command -v g++
  need clang command -v clang
  need valgrind command -v valgrind
  need libc6-dbg test -d /usr/lib/debug/.build-id # without it valgrind cannot replace strlen in the loader
  command -v clang-format-14 >/dev/null || need clang-format command -v clang-format
}

# ---- installing

# How a command becomes root: nothing for root, sudo otherwise (without a question where there is nobody to answer).
become_root() {
  if [ "$(id -u)" = 0 ]; then return 0; fi
  command -v sudo >/dev/null || return 1
  if [ -t 0 ]; then echo sudo; else sudo -n true 2>/dev/null && echo "sudo -n"; fi
}

give_up() {
  fail "$1" "missing: ${missing[*]}" "install them, for example as root with" \
    "    apt-get install ${missing[*]}" "and run the same command again."
}

# Debian and Ubuntu before 2023 offer a meson that is too old: one of our own then, which touches nothing else.
apt_meson_is_new_enough() {
  version_at_least "$(LC_ALL=C apt-cache policy meson 2>/dev/null | sed -n 's/^ *Candidate: //p')" "$meson_wanted"
}

install_private_meson() {
  heading "Installing meson >= $meson_wanted into build-tools/"
  # With the system's modules, because meson gives its own interpreter to the tests that are Python.
  { python3 -m venv --system-site-packages "$tools/meson" && "$tools/meson/bin/pip" install --quiet "meson >= $meson_wanted"; } ||
    fail "meson >= $meson_wanted could not be installed with pip" \
      "the system's is $(meson --version 2>/dev/null || echo absent); a network with PyPI is needed, or a newer meson on the PATH."
}

install_missing() {
  command -v apt-get >/dev/null || give_up "this system has no apt-get, so nothing can be installed automatically"
  local sudo private_meson=no wanted=() package
  sudo=$(become_root) || give_up "packages have to be installed, and this user is neither root nor able to use sudo"
  # shellcheck disable=SC2206 # two words on purpose
  local apt=($sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)

  heading "Installing packages: ${missing[*]}"
  "${apt[@]}" update || echo "warning: the package lists could not be refreshed; going on with what is there" >&2
  for package in "${missing[@]}"; do
    case $package in
      meson) if apt_meson_is_new_enough; then wanted+=(meson); else private_meson=yes wanted+=(python3-venv); fi ;;
      clang-format) wanted+=("$(apt-cache show clang-format-14 >/dev/null 2>&1 && echo clang-format-14 || echo clang-format)") ;;
      *) wanted+=("$package") ;;
    esac
  done
  "${apt[@]}" install -y --no-install-recommends "${wanted[@]}" </dev/null || give_up "apt-get install failed (its message is above)"
  [ "$private_meson" = no ] || install_private_meson
}

probe_everything
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$only_check" = yes ]; then
  echo "missing: ${missing[*]}"
  exit 1
fi
install_missing
probe_everything
[ ${#missing[@]} -eq 0 ] || give_up "installed, but still not usable"
