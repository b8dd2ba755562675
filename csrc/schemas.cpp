// The operators of fastcore_ops and the module that registers them when it is imported.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fastcore_ops, m) {
#include "schemas.inc"
}

static struct PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr,
                                               nullptr,               nullptr, nullptr, nullptr};

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C(void) {
  return PyModule_Create(&module_definition);
}
