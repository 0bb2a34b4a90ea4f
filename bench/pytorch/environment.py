"""The settings under which PyTorch is fastest on a CPU, and a start of the interpreter under them.

They have to be in the environment before the process begins (the loader, the C library and OpenMP read them once),
so `enter()` replaces the process by itself the first time.
"""
import glob
import importlib.util
import os
import subprocess
import sys

SKIPPED = 77  # what meson takes for a skipped test
MARK = "ENCDIFF_BENCH_ENVIRONMENT"


def cpu_flags():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def openblas_folder():
    """Folder of an OpenBLAS that uses OpenMP as PyTorch does ($ENCDIFF_OPENBLAS, or Debian's libopenblas0-openmp)."""
    folders = [os.environ.get("ENCDIFF_OPENBLAS"), *glob.glob("/usr/lib/*/openblas-openmp")]
    return next((f for f in folders if f and os.path.exists(os.path.join(f, "libblas.so.3"))), None)


def settings(threads):
    wanted = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_PROC_BIND": "false",
        # Freed memory stays with the process, in huge pages: faulting pages in anew each step costs PyTorch
        # more than anything else does.
        "GLIBC_TUNABLES": ":".join((
            "glibc.malloc.hugetlb=1", "glibc.malloc.mmap_threshold=68719476736",
            "glibc.malloc.trim_threshold=68719476736", "glibc.malloc.top_pad=268435456", "glibc.malloc.arena_max=1")),
    }
    if "avx512f" in cpu_flags():
        wanted["ATEN_CPU_CAPABILITY"] = "avx512"  # PyTorch itself stops at AVX2
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX"
    folder = openblas_folder()
    if folder:
        wanted["LD_LIBRARY_PATH"] = ":".join(filter(None, (folder, os.environ.get("LD_LIBRARY_PATH"))))
    return wanted


def interpreter():
    """This interpreter where it has PyTorch, else the system's, for which Debian packages it."""
    if importlib.util.find_spec("torch"):
        return sys.executable
    system = "/usr/bin/python3"
    probe = [system, "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"]
    if not os.path.exists(system) or subprocess.run(probe, check=False).returncode:
        print("PyTorch is not here (apt-get install python3-torch)", file=sys.stderr)
        sys.exit(SKIPPED)
    return system


def enter(threads=2):
    if os.environ.get(MARK):
        return
    python = interpreter()
    os.execve(python, [python, *sys.argv], {**os.environ, **settings(threads), MARK: "1"})


def description():
    """What the figures were taken under, for the report."""
    keys = ("OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE", "GLIBC_TUNABLES", "LD_LIBRARY_PATH")
    return {key: os.environ[key] for key in keys if key in os.environ}
