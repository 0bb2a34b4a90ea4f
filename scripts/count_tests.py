"""Reads meson's testlog.json (one JSON object a line) and prints `N passed, N failed, N skipped`.

Exit status 0 when nothing failed and at least one test ran.
"""
import json
import os
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP", "IGNORED"}


def main(path):
    results = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as lines:
            results = [json.loads(line)["result"] for line in lines if line.strip()]
    passed = sum(result in PASSED for result in results)
    skipped = sum(result in SKIPPED for result in results)
    failed = len(results) - passed - skipped
    if not results:
        print("no test ran", file=sys.stderr)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


sys.exit(main(sys.argv[1]))
