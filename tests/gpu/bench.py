#!/usr/bin/env python3
"""encdiff bench --device cuda: every operator is timed, and the table printed. Without a device the exit status is 77.

usage: bench.py ENCDIFF [argument of encdiff bench ...]
"""
import json
import math
import subprocess
import sys


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def reason_for_none(program):
    """Why there is no GPU; None where there is one."""
    done = run(program, 'info', '--devices', '--json', '-')
    if done.returncode:
        sys.exit(f'FAILED: encdiff info --devices: {done.stderr}')
    gpus = [device for device in json.loads(done.stdout)['devices'] if device['kind'] == 'cuda']
    if any(device['available'] for device in gpus):
        return None
    return gpus[0]['reason'] if gpus else 'no GPU is known'


def main():
    program, arguments = sys.argv[1], sys.argv[2:]
    reason = reason_for_none(program)
    if reason is not None:
        print(f'SKIPPED: {reason}')
        return 77
    done = run(program, 'bench', '--device', 'cuda', '--json', '-', '--quiet', *arguments)
    if done.returncode:
        print(f'FAILED: encdiff bench: exit {done.returncode}, {done.stderr}')
        return 1
    rows = json.loads(done.stdout)
    wrong = [row for row in rows if not (math.isfinite(row['seconds']) and row['seconds'] > 0)]
    rows.sort(key=lambda row: -row['count'] * row['seconds'])
    for row in rows:
        print(f"{row['operator']:24} {row['count']:5} x {1e3 * row['seconds']:10.4f} ms {1e-9 * row['flops'] / row['seconds']:10.1f}"
              f" GFLOP/s {1e-9 * row['bytes'] / row['seconds']:8.1f} GB/s  {row['shape']}")
    print(f"{len(rows)} cases, {1e3 * sum(row['count'] * row['seconds'] for row in rows):.1f} ms in all")
    for row in wrong:
        print(f"FAILED: {row['operator']} {row['shape']}: {row['seconds']} s")
    return 1 if wrong or not rows else 0


if __name__ == '__main__':
    sys.exit(main())
