#!/usr/bin/env python3
"""The order of the layers, and what the library never does.

usage: check_layers.py SOURCE_ROOT

Reads every source file of lib/ and cuda/ and fails when
  - a folder includes another that does not stand below it (docs/architecture.md has the picture), or
  - something calls abort, exit, printf, assert or the like, or installs a signal handler: a library must not end its
    host or write to its output, or
  - a function of the API that returns a status does not begin with ED_API_BEGIN (lib/api/handles.h).
A folder that is not in the table below fails too, so that it gets its place here first.
"""
import pathlib
import re
import sys

# What each folder may include besides itself.
BELOW = {
    'base': [],
    'tensor': ['base'],
    'graph': ['base', 'tensor'],
    'reference': ['base', 'tensor', 'graph'],
    'cpu': ['base', 'tensor', 'graph'],
    'cuda': ['base', 'tensor', 'graph'],
    'nn': ['base', 'tensor', 'graph'],
    'model': ['base', 'tensor', 'graph', 'nn', 'io'],
    'diffusion': ['base', 'tensor', 'graph', 'nn', 'io', 'model'],
    'train': ['base', 'tensor', 'graph', 'nn', 'io', 'model', 'diffusion', 'data'],
    'io': ['base', 'tensor'],
    'data': ['base', 'tensor', 'io'],
    'metrics': ['base', 'tensor'],
    'api': ['base', 'tensor', 'graph', 'cpu', 'nn', 'model', 'diffusion', 'train', 'io', 'data', 'metrics'],
}

FORBIDDEN = re.compile(r'''\b(?<![.>])(
    abort | exit | _exit | _Exit | quick_exit | atexit | assert |
    printf | vprintf | puts | putchar | perror | fputs\s*\(\s*[^()]*,\s*std(?:out|err) |
    signal | sigaction | raise | setlocale
    )\s*\(''', re.VERBOSE)
STREAMS = re.compile(r'\b(stdout|stderr|std::cout|std::cerr)\b')
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
ENTRY = re.compile(r'^encdiff_status (encdiff_\w+)\([^;{]*\)\s*\{(\s*ED_API_BEGIN;)?', re.MULTILINE)
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def without_comments(text, strings):
    """Comments (and, on wish, string literals) replaced by blanks; lines stay where they are."""
    def blank(match):
        token = match.group()
        if token[0] in '"\'' and not strings:
            return token
        return re.sub(r'[^\n]', ' ', token)
    return TOKEN.sub(blank, text)


def line_of(text, at):
    return text.count('\n', 0, at) + 1


def include_faults(folder, path, text, folders):
    for match in INCLUDE.finditer(without_comments(text, strings=False)):
        target = match.group(1).split('/')[0] if '/' in match.group(1) else folder
        if target in folders and target != folder and target not in BELOW[folder]:
            yield f'{path}:{line_of(text, match.start())}: {folder} must not include {match.group(1)}'


def call_faults(path, text):
    code = without_comments(text, strings=True)
    for pattern, what in ((FORBIDDEN, 'call'), (STREAMS, 'use')):
        for match in pattern.finditer(code):
            yield f'{path}:{line_of(code, match.start())}: the library must not {what} {match.group().strip(" (")}'


def entry_faults(path, text):
    for match in ENTRY.finditer(without_comments(text, strings=True)):
        if not match.group(2):
            yield f'{path}:{line_of(text, match.start())}: {match.group(1)} does not begin with ED_API_BEGIN'


def self_test():
    """The checker finds what it should: a checker that finds nothing looks the same as a clean tree."""
    bad = '#include "api/api.h"\nint f(void) { /* exit(1) */ abort(); return x->exit(2) + "printf(" [0]; }\n'
    assert len(list(include_faults('base', 'x.c', bad, BELOW))) == 1
    assert [f.split(' ')[-1] for f in call_faults('x.c', bad)] == ['abort']
    entries = 'encdiff_status encdiff_a(int x)\n{\n    ED_API_BEGIN;\n}\nencdiff_status encdiff_b(int x,\n int y)\n{ f(); }\n'
    assert [f.split(' ')[1] for f in entry_faults('x.c', entries)] == ['encdiff_b']
    assert len(list(call_faults('x.c', 'fprintf(stderr, "a"); snprintf(a, 1, "b"); ed_exit(1); s.signal(3);'))) == 1


def main():
    root = pathlib.Path(sys.argv[1])
    self_test()
    faults, count = [], 0
    trees = [path for path in sorted((root / 'lib').iterdir()) if path.is_dir()]
    trees += [root / 'cuda'] if (root / 'cuda').is_dir() else []
    for tree in trees:
        if tree.name not in BELOW:
            faults.append(f'{tree}: this folder has no place in the order of layers')
            continue
        for path in sorted(p for p in tree.rglob('*') if p.suffix in ('.c', '.h', '.def', '.cu', '.cuh', '.cpp')):
            text = path.read_text(encoding='utf-8')
            count += 1
            faults += include_faults(tree.name, path, text, BELOW)
            faults += call_faults(path, text)
            faults += entry_faults(path, text)
    for fault in faults:
        print(fault)
    print(f'{count} files, {len(faults)} faults')
    return 1 if faults or not count else 0


if __name__ == '__main__':
    sys.exit(main())
