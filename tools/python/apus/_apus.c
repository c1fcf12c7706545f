// The hot path of InferenceSession.run in C, on Python's stable ABI: arrays in, arrays out, nothing else. What it does
// not know (other types of values, arrays that are not contiguous, names that do not fit) it declines, and _session.py
// does it; so it changes what a call costs and never what it means. tools/build-python-extension compiles it.

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <stdint.h>

#include "apus.h"

// Element types of ONNX have small numbers.
#define TYPE_COUNT 64

// The functions of libapus that are called here; `load` finds them.
static struct {
  int32_t (*error_code)(const apus_error *);
  const char *(*error_message)(const apus_error *);
  void (*error_release)(apus_error *);
  apus_error *(*model_run_in_order)(const apus_model *, const apus_value *const *, size_t, const size_t *, size_t,
                                    const apus_cancellation *, apus_value **);
  apus_error *(*tensor_create_borrowed)(int32_t, const int64_t *, size_t, const void *, size_t, apus_release_function,
                                        void *, apus_value **);
  apus_error *(*tensor_data_mutable)(apus_value *, void **);
  int32_t (*tensor_element_type)(const apus_value *);
  size_t (*tensor_rank)(const apus_value *);
  const int64_t *(*tensor_shape)(const apus_value *);
  size_t (*tensor_byte_count)(const apus_value *);
  void (*value_release)(apus_value *);
} library;

// MARK: - Memory: the elements of a result, for as long as an array refers to them

typedef struct {
  PyObject_HEAD
  apus_value *value;
  void *data;
  Py_ssize_t size;
} Memory;

static PyTypeObject *memory_type;

static void memory_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  library.value_release(((Memory *)self)->value);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

static int memory_getbuffer(PyObject *self, Py_buffer *view, int flags) {
  Memory *memory = (Memory *)self;
  return PyBuffer_FillInfo(view, self, memory->data, memory->size, 0, flags);
}

static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, (void *)memory_dealloc},
    {Py_bf_getbuffer, (void *)memory_getbuffer},
    {Py_tp_doc, (void *)"The elements of a result, which the library owns."},
    {0, NULL},
};
static PyType_Spec memory_spec = {
    "apus._apus.Memory", sizeof(Memory), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, memory_slots};

// Takes over `value`, a tensor whose elements lie at `data`; on failure too.
static PyObject *memory_over(apus_value *value, void *data) {
  allocfunc allocate = (allocfunc)PyType_GetSlot(memory_type, Py_tp_alloc);
  Memory *memory = (Memory *)allocate(memory_type, 0);
  if (!memory) {
    library.value_release(value);
    return NULL;
  }
  memory->value = value;
  memory->data = data;
  memory->size = (Py_ssize_t)library.tensor_byte_count(value);
  return (PyObject *)memory;
}

// MARK: - Runner: a model, with what its runs need

typedef struct {
  PyObject_HEAD
  apus_model *model;
  // Tuple of the names of the inputs; dictionary from the name of an output to its number.
  PyObject *inputs, *outputs;
  Py_ssize_t output_count;
  // numpy.ndarray; what makes an exception of a code and a text; what makes a Python value of the address of any value.
  PyObject *array_type, *make_error, *take;
  // By element type: the dtype of arrays; NULL for types whose elements are not those of an array.
  PyObject *dtypes[TYPE_COUNT];
} Runner;

// The element type that a buffer's format spells; 0 for what ONNX has not, or what is not in the machine's order.
static int32_t element_type(const Py_buffer *view) {
  const char *format = view->format;
  if (!format) return 0;
  if (format[0] == 'Z') return format[1] == 'f' ? APUS_COMPLEX64 : format[1] == 'd' ? APUS_COMPLEX128 : 0;
  if (format[0] == 0 || format[1] != 0) return 0;
  switch (format[0]) {
    case '?': return APUS_BOOL;
    case 'b': return APUS_INT8;
    case 'B': return APUS_UINT8;
    case 'h': return APUS_INT16;
    case 'H': return APUS_UINT16;
    case 'e': return APUS_FLOAT16;
    case 'f': return APUS_FLOAT32;
    case 'd': return APUS_FLOAT64;
    case 'i':
    case 'l':
    case 'q': return view->itemsize == 8 ? APUS_INT64 : APUS_INT32;
    case 'I':
    case 'L':
    case 'Q': return view->itemsize == 8 ? APUS_UINT64 : APUS_UINT32;
    default: return 0;
  }
}

static void set_error(const Runner *self, apus_error *error) {
  PyObject *exception = PyObject_CallFunction(self->make_error, "is", (int)library.error_code(error),
                                              library.error_message(error));
  library.error_release(error);
  if (!exception) return;
  PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
  Py_DECREF(exception);
}

// What one call holds; all of it is given up by `finish`.
typedef struct {
  Py_ssize_t input_count, output_count;
  Py_buffer *views;
  apus_value **inputs, **outputs;
  void **data;
  size_t *indices;
  // The views that must be released.
  Py_ssize_t viewed;
} Call;

static bool start(Call *call, Py_ssize_t inputs, Py_ssize_t outputs) {
  size_t size = inputs * (sizeof(Py_buffer) + sizeof(apus_value *)) +
                outputs * (sizeof(apus_value *) + sizeof(void *) + sizeof(size_t));
  char *block = PyMem_Calloc(1, size + 1);
  if (!block) {
    PyErr_NoMemory();
    return false;
  }
  *call = (Call){.input_count = inputs, .output_count = outputs, .views = (Py_buffer *)block};
  call->inputs = (apus_value **)(call->views + inputs);
  call->outputs = call->inputs + inputs;
  call->data = (void **)(call->outputs + outputs);
  call->indices = (size_t *)(call->data + outputs);
  return true;
}

static void finish(Call *call) {
  for (Py_ssize_t i = 0; i < call->input_count; i++) library.value_release(call->inputs[i]);
  for (Py_ssize_t i = 0; i < call->viewed; i++) PyBuffer_Release(&call->views[i]);
  for (Py_ssize_t i = 0; i < call->output_count; i++) library.value_release(call->outputs[i]);
  PyMem_Free(call->views);
}

// 1 if every input is a plain array and stands in the call; 0 if the general path must look at them; -1 for an
// exception.
static int read_inputs(const Runner *self, Call *call, PyObject *feed) {
  for (Py_ssize_t i = 0; i < call->input_count; i++) {
    PyObject *array = PyDict_GetItemWithError(feed, PyTuple_GetItem(self->inputs, i));
    if (!array) return PyErr_Occurred() ? -1 : 0;
    if ((PyObject *)Py_TYPE(array) != self->array_type) return 0;
    Py_buffer *view = &call->views[i];
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
      PyErr_Clear();
      return 0;
    }
    call->viewed++;
    int32_t type = element_type(view);
    if (!type) return 0;
    _Static_assert(sizeof(Py_ssize_t) == sizeof(int64_t), "extents of arrays are those of tensors");
    const int64_t *shape = (const int64_t *)view->shape;
    apus_error *error = library.tensor_create_borrowed(type, shape, (size_t)view->ndim, view->buf, (size_t)view->len,
                                                       NULL, NULL, &call->inputs[i]);
    if (error) {
      set_error(self, error);
      return -1;
    }
  }
  return 1;
}

// As `read_inputs`, for the numbers of the outputs that `names`, a list or tuple, asks for.
static int read_names(const Runner *self, Call *call, PyObject *names) {
  for (Py_ssize_t i = 0; i < call->output_count; i++) {
    PyObject *name = PySequence_GetItem(names, i);
    if (!name) return -1;
    PyObject *number = PyUnicode_Check(name) ? PyDict_GetItemWithError(self->outputs, name) : NULL;
    Py_DECREF(name);
    if (!number) return PyErr_Occurred() ? -1 : 0;
    call->indices[i] = PyLong_AsSize_t(number);
  }
  return 1;
}

// More axes than any NumPy has; the general path says so.
#define LARGEST_RANK 64

// The array over output `i`, which no longer belongs to the call afterwards.
static PyObject *take_output(const Runner *self, Call *call, Py_ssize_t i) {
  apus_value *value = call->outputs[i];
  call->outputs[i] = NULL;
  int32_t type = library.tensor_element_type(value);
  size_t rank = library.tensor_rank(value);
  if (!call->data[i] || rank > LARGEST_RANK)
    return PyObject_CallFunction(self->take, "K", (unsigned long long)(uintptr_t)value);
  const int64_t *extents = library.tensor_shape(value);
  PyObject *shape = PyTuple_New((Py_ssize_t)rank);
  for (size_t axis = 0; shape && axis < rank; axis++) {
    PyObject *extent = PyLong_FromLongLong(extents[axis]);
    if (!extent || PyTuple_SetItem(shape, (Py_ssize_t)axis, extent) < 0) Py_CLEAR(shape);
  }
  if (!shape) {
    library.value_release(value);
    return NULL;
  }
  PyObject *memory = memory_over(value, call->data[i]);
  PyObject *array =
      memory ? PyObject_CallFunctionObjArgs(self->array_type, shape, self->dtypes[type], memory, NULL) : NULL;
  Py_XDECREF(memory);
  Py_DECREF(shape);
  return array;
}

// Whether arrays can lie over the elements of a value.
static bool is_plain(const Runner *self, const apus_value *value) {
  int32_t type = library.tensor_element_type(value);
  return type > 0 && type < TYPE_COUNT && self->dtypes[type];
}

// The computation, with the interpreter's lock released.
static apus_error *compute(const Runner *self, Call *call, bool all, const apus_cancellation *cancellation) {
  apus_error *error =
      library.model_run_in_order(self->model, (const apus_value *const *)call->inputs, (size_t)call->input_count,
                                 all ? NULL : call->indices, (size_t)call->output_count, cancellation, call->outputs);
  for (Py_ssize_t i = 0; !error && i < call->output_count; i++) {
    if (is_plain(self, call->outputs[i])) error = library.tensor_data_mutable(call->outputs[i], &call->data[i]);
  }
  return error;
}

// run(output_names, input_feed, cancellation): a list of arrays, or NotImplemented for what the general path must do.
static PyObject *runner_run(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
  Runner *self = (Runner *)object;
  if (count != 3) return PyErr_Format(PyExc_TypeError, "run takes 3 arguments, not %zd", count);
  PyObject *names = arguments[0], *feed = arguments[1];
  Py_ssize_t input_count = PyTuple_Size(self->inputs);
  bool all = names == Py_None;
  if (!PyDict_CheckExact(feed) || PyDict_Size(feed) != input_count) Py_RETURN_NOTIMPLEMENTED;
  if (!all && !PyList_CheckExact(names) && !PyTuple_CheckExact(names)) Py_RETURN_NOTIMPLEMENTED;
  Py_ssize_t wanted = all ? 0 : PySequence_Size(names);
  all = all || wanted == 0;
  void *cancellation = PyLong_AsVoidPtr(arguments[2]);
  if (!cancellation && PyErr_Occurred()) return NULL;
  Call call;
  if (!start(&call, input_count, all ? self->output_count : wanted)) return NULL;
  PyObject *results = NULL;
  int ready = all ? 1 : read_names(self, &call, names);
  if (ready > 0) ready = read_inputs(self, &call, feed);
  if (ready == 0) results = Py_NewRef(Py_NotImplemented);
  if (ready > 0) {
    apus_error *error;
    Py_BEGIN_ALLOW_THREADS
    error = compute(self, &call, all, cancellation);
    Py_END_ALLOW_THREADS
    if (error) {
      set_error(self, error);
    } else {
      results = PyList_New(call.output_count);
    }
    for (Py_ssize_t i = 0; results && i < call.output_count; i++) {
      PyObject *array = take_output(self, &call, i);
      if (!array || PyList_SetItem(results, i, array) < 0) Py_CLEAR(results);
    }
  }
  finish(&call);
  return results;
}

// Runner(model, inputs, outputs, dtypes, array_type, make_error, take): the address of a model, which must outlive the
// runner; the names of its inputs and outputs, tuples; a dictionary from element types to dtypes; see the fields.
static PyObject *runner_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
  (void)keywords;
  PyObject *model, *inputs, *outputs, *dtypes, *array_type, *make_error, *take;
  if (!PyArg_ParseTuple(arguments, "OOOOOOO", &model, &inputs, &outputs, &dtypes, &array_type, &make_error, &take)) {
    return NULL;
  }
  if (!PyTuple_Check(inputs) || !PyTuple_Check(outputs) || !PyDict_Check(dtypes)) {
    return PyErr_Format(PyExc_TypeError, "the names are tuples, dtypes is a dictionary");
  }
  void *address = PyLong_AsVoidPtr(model);
  if (!address) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "the model is NULL");
  Runner *self = (Runner *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
  if (!self) return NULL;
  self->model = address;
  self->inputs = Py_NewRef(inputs);
  self->array_type = Py_NewRef(array_type);
  self->make_error = Py_NewRef(make_error);
  self->take = Py_NewRef(take);
  self->output_count = PyTuple_Size(outputs);
  self->outputs = PyDict_New();
  bool failed = !self->outputs;
  for (Py_ssize_t i = 0; !failed && i < self->output_count; i++) {
    PyObject *number = PyLong_FromSsize_t(i), *name = PyTuple_GetItem(outputs, i);
    // Of two outputs of one name, which have one value, the first is asked.
    int known = number ? PyDict_Contains(self->outputs, name) : -1;
    failed = known < 0 || (known == 0 && PyDict_SetItem(self->outputs, name, number) < 0);
    Py_XDECREF(number);
  }
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (!failed && PyDict_Next(dtypes, &position, &key, &value)) {
    long number = PyLong_AsLong(key);
    failed = number <= 0 || number >= TYPE_COUNT;
    if (!failed) self->dtypes[number] = Py_NewRef(value);
  }
  if (!failed) return (PyObject *)self;
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "dtypes has a key that is no element type");
  Py_DECREF(self);
  return NULL;
}

static void runner_dealloc(PyObject *object) {
  Runner *self = (Runner *)object;
  PyTypeObject *type = Py_TYPE(object);
  Py_XDECREF(self->inputs);
  Py_XDECREF(self->outputs);
  Py_XDECREF(self->array_type);
  Py_XDECREF(self->make_error);
  Py_XDECREF(self->take);
  for (int i = 0; i < TYPE_COUNT; i++) Py_XDECREF(self->dtypes[i]);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
  Py_DECREF(type);
}

static PyMethodDef runner_methods[] = {
    {"run", (PyCFunction)(void (*)(void))runner_run, METH_FASTCALL, "run(output_names, input_feed, cancellation)"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot runner_slots[] = {
    {Py_tp_new, (void *)runner_new},
    {Py_tp_dealloc, (void *)runner_dealloc},
    {Py_tp_methods, (void *)runner_methods},
    {Py_tp_doc, (void *)"Runs a model on arrays."},
    {0, NULL},
};
static PyType_Spec runner_spec = {"apus._apus.Runner", sizeof(Runner), 0, Py_TPFLAGS_DEFAULT, runner_slots};

// MARK: - The module

static bool find(void *handle, const char *name, void **function) {
  *function = dlsym(handle, name);
  if (!*function) PyErr_Format(PyExc_ImportError, "the library has no function %s", name);
  return *function != NULL;
}

// load(path): finds the functions of the library, which stays loaded.
static PyObject *load(PyObject *module, PyObject *path) {
  (void)module;
  PyObject *bytes = NULL;
  if (!PyUnicode_FSConverter(path, &bytes)) return NULL;
  void *handle = dlopen(PyBytes_AsString(bytes), RTLD_NOW | RTLD_LOCAL);
  Py_DECREF(bytes);
  if (!handle) return PyErr_Format(PyExc_ImportError, "%s", dlerror());
#define FIND(NAME) find(handle, "apus_" #NAME, (void **)&library.NAME)
  bool found = FIND(error_code) && FIND(error_message) && FIND(error_release) && FIND(model_run_in_order) &&
               FIND(tensor_create_borrowed) && FIND(tensor_data_mutable) && FIND(tensor_element_type) &&
               FIND(tensor_rank) && FIND(tensor_shape) && FIND(tensor_byte_count) && FIND(value_release);
#undef FIND
  if (!found) return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"load", load, METH_O, "load(path): finds the functions of libapus"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "_apus", "The hot path of runs.", -1, module_methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__apus(void) {
  PyObject *module = PyModule_Create(&module_definition);
  if (!module) return NULL;
  PyObject *runner = PyType_FromSpec(&runner_spec);
  memory_type = (PyTypeObject *)PyType_FromSpec(&memory_spec);
  bool added = runner && memory_type && PyModule_AddObjectRef(module, "Runner", runner) == 0;
  Py_XDECREF(runner);
  if (added) return module;
  Py_DECREF(module);
  return NULL;
}
