"""A GPU for tests where there is none: tensors that say they lie on ``cuda:0`` and are computed on the CPU.

Like a GPU it refuses an operation on tensors that lie apart, and it notes what a GPU has to be waited for. Gradients
need a GPU's streams, so everything runs without them.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_COPIES, _INDEXED = ("aten.copy_", "aten._to_copy"), ("aten.index.", "aten.index_put")
_WAITED_FOR = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount")


def _depends_on_values(name, args):
    """Whether numbers have to be known for the result, or for its size."""
    masks = name.startswith(_INDEXED) and [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    return bool(masks) or any(part in name for part in _WAITED_FOR)


class OnGpu(torch.Tensor):
    """``inside``: the same numbers on the CPU."""

    @staticmethod
    def __new__(cls, inside):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inside.size(), strides=inside.stride(), storage_offset=inside.storage_offset(), dtype=inside.dtype,
            device=CPU, dispatch_device=True,
        )  # fmt: skip
        made.inside = inside
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.prim.device.default:
            return GPU
        raise AssertionError(f"{function} of a tensor on a GPU that has been left")


class PretendedGpu(TorchDispatchMode):
    """``waits``: the operations so far for which the host would have waited."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), str(function)
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        ours = [one for one in tensors if isinstance(one, OnGpu)]
        if function is torch.ops.prim.device.default:
            return GPU if ours else CPU
        asked = kwargs.get("device")
        there = bool(ours) if asked is None else torch.device(asked).type == "cuda"
        apart = [one for one in tensors if not isinstance(one, OnGpu) and (one.dim() or "cat" in name)]
        index_apart = name.startswith(_INDEXED) and isinstance(args[0], OnGpu)
        if ours and apart and not (index_apart or name.startswith(_COPIES)):
            raise RuntimeError(f"Expected all tensors to be on the same device: {name}")
        moves = name.startswith(_COPIES) and (bool(ours) != there or (ours and apart))
        if moves or (ours and (_depends_on_values(name, args) or (index_apart and apart))):
            self.waits.append(name)
        if asked is not None and there:
            kwargs["device"] = CPU
        if name.startswith("aten.copy_"):
            there = isinstance(args[0], OnGpu)
        known = {id(one.inside): one for one in ours}
        inside = tree_map_only(OnGpu, lambda one: one.inside, (args, kwargs))
        found = function(*inside[0], **inside[1])
        if not there:
            return found
        return tree_map_only(torch.Tensor, lambda one: known[id(one)] if id(one) in known else OnGpu(one), found)


class _Generator(torch.Generator):
    """Of the CPU, whatever it is asked to be."""

    def __new__(cls, device=CPU):
        return super().__new__(cls)


@contextlib.contextmanager
def pretended_gpu():
    """A block that has a GPU, as far as our own code asks for one; without gradients. It leaves torch as no other test
    may find it: it is for a process of its own."""
    torch._C._ensureCUDADeviceGuardSet()  # as torch's own fake tensors do
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.backends.cudnn.enabled = False
    torch.cuda._lazy_init = lambda: None
    torch.cuda.default_generators = (torch.default_generator,)
    torch.Generator = _Generator
    with torch.no_grad(), PretendedGpu() as gpu:
        yield gpu
