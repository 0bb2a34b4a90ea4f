#!/usr/bin/env python3
"""What the shared library exports is what the list and the headers say, and nothing else.

usage: check_exported.py LIST LIBRARY HEADERS

After adding a function on purpose:  nm -D --defined-only LIBRARY | awk '{print $3}' | sort > LIST
"""
import pathlib
import re
import subprocess
import sys

listed, library, headers = sys.argv[1:]


def symbols(*options):
    text = subprocess.run(['nm', '-D', *options, library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split('@')[0] for line in text.splitlines()}


# The name of the version script's node is a symbol of some linkers.
exported = {name for name in symbols('--defined-only') if not re.fullmatch(r'ENCDIFF_[0-9.]+', name)}
wanted = set(pathlib.Path(listed).read_text().split())
declared = set()
for header in pathlib.Path(headers).glob('*.h'):
    text = re.sub(r'/\*.*?\*/', '', header.read_text(), flags=re.DOTALL)
    declared |= set(re.findall(r'ENCDIFF_API\b[^;(]*?\b(encdiff_\w+)\s*\(', text))

problems = []
for name in sorted(exported - wanted):
    problems.append(f'{name} is exported and not in the list')
for name in sorted(wanted - exported):
    problems.append(f'{name} is in the list and not exported: programs that use it no longer start')
for name in sorted(declared ^ wanted):
    problems.append(f'{name} is {"declared and not" if name in declared else "not declared but"} in the list')

for name in sorted(symbols('--undefined-only')):
    if re.match(r'_*(cuda|cudnn|cublas|nv|cu[A-Z])', name):
        problems.append(f'{name} is asked for: the library does not link CUDA')

dynamic = subprocess.run(['readelf', '-d', library], check=True, capture_output=True, text=True).stdout
soname = re.search(r'SONAME.*\[(.*)\]', dynamic)
if not soname or not re.fullmatch(r'libencdiff\.so\.\d+', soname.group(1)):
    problems.append(f'the soname is {soname and soname.group(1)}')
# What is loaded beside it is C: no runtime of another language, and nothing of a GPU.
for needed in re.findall(r'NEEDED.*\[(.*)\]', dynamic):
    if re.match(r'lib(cuda|cudart|cublas|cudnn|OpenCL|python)', needed):
        problems.append(f'{needed} is loaded with the library')

print('\n'.join(problems) or f'{len(exported)} functions, as listed and declared')
sys.exit(1 if problems else 0)
