// The Python module _C_cuda. Importing it loads the shared library, whose static initialisers
// register the CUDA kernels with the dispatcher; arch_list() says what they were compiled for.
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#ifndef FASTCORE_CUDA_ARCH_LIST
#define FASTCORE_CUDA_ARCH_LIST ""
#endif

static PyObject* arch_list(PyObject*, PyObject*) {
  PyObject* text = PyUnicode_FromString(FASTCORE_CUDA_ARCH_LIST);
  PyObject* list = text ? PyUnicode_Split(text, nullptr, -1) : nullptr;
  Py_XDECREF(text);
  return list;
}

static PyMethodDef methods[] = {{"arch_list", arch_list, METH_NOARGS, "Architectures this module was built for."},
                                {nullptr, nullptr, 0, nullptr}};

static struct PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, -1, methods,
                                               nullptr,               nullptr,   nullptr, nullptr};

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C_cuda(void) {
  return PyModule_Create(&module_definition);
}
