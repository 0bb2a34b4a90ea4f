"""The .safetensors format, read with nothing but numpy: 8 bytes of length, a JSON table, the raw tensors."""
import json
import mmap

import numpy as np
import torch

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def load(path):
    """Returns ({name: tensor}, {metadata})."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:start])
    metadata = table.pop("__metadata__", {})
    tensors = {}
    for name, entry in table.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors, metadata


def load_module(module, tensors, prefix):
    """Gives a module the tensors whose names begin with the prefix; a missing one is an error."""
    own = {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    missing = module.load_state_dict(own, strict=False).missing_keys
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise KeyError(f"{len(missing)} tensors are not in the file, the first is {prefix}{missing[0]}")
