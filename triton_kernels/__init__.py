"""Triton kernels, one file per operator family, as operators of the namespace ``fastcore_triton``.

This folder stands at the top of the repository and is known as ``fastcore_ops.triton_kernels`` alone, through
a symlink in the package. Importing it as top-level ``triton_kernels`` would register its operators twice.
It imports torch and triton and nothing of ``fastcore_ops``; the package imports a module of it on first use.

A module defines its operators at import: schema, implementation for CPU and CUDA tensors, and fake. The
argument order is that of the operator of the same name in ``fastcore_ops``. CPU tensors need the interpreter:
``TRITON_INTERPRET=1``, set before the module is imported.
"""
