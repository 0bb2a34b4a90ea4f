#!/usr/bin/env python3
"""What the options of the command line change on a device. Without a device the exit status is 77.

usage: command_line.py ENCDIFF
"""
import os
import sys
import tempfile

from bench import reason_for_none, run


def main():
    program = sys.argv[1]
    reason = reason_for_none(program)
    if reason is not None:
        print(f'SKIPPED: {reason}')
        return 77
    failures = []

    def check(holds, what):
        if not holds:
            failures.append(what)
            print(f'FAILED: {what}')

    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, 'model.safetensors')

        def picture(name, *options):
            """(the picture's bytes, stderr) of one image sampled in three calls of the U-Net."""
            path = os.path.join(folder, name + '.png')
            done = run(program, 'reconstruct', model, 'procedural:shapes3d[0:1]', '--resize', '--steps', '3', '-o', path,
                       '--device', 'cuda', '--verbose', *options)
            check(done.returncode == 0, f'{name}: exit {done.returncode}, {done.stderr}')
            return (open(path, 'rb').read() if os.path.exists(path) else None), done.stderr

        made = run(program, 'init', '-p', 'shapes3d-tiny', '--set', 'image.resolution=32', '-o', model)
        check(made.returncode == 0, f'init: {made.stderr}')
        recorded, log = picture('recorded')
        check('operators is recorded' in log, f'the U-Net\'s second run was not recorded: {log}')
        plain, log = picture('plain', '--no-cuda-graphs')
        check('recorded' not in log, f'--no-cuda-graphs: {log}')
        check(plain == recorded, 'recorded and plain runs differ')
        rounded, _ = picture('bf16', '--precision', 'bf16')
        check(rounded != recorded, '--precision bf16 changes no pixel')
        picture('tf32', '--precision', 'tf32')  # whose rounding need not show in eight bits
    print(f'{len(failures)} failed')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
