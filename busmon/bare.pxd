"""`bare` for compiled code, of exact tuples."""

from cpython.object cimport PyObject, PyTypeObject


cdef inline object bare(type kind, tuple fields):
    arguments = (fields,)
    return (<PyTypeObject *>tuple).tp_new(kind, <PyObject *>arguments, NULL)
