// The twin's physics steps in a row: PyBullet is asked for each, by way of Python, and all between two of them is done here.
// Of Python no more than its stable interface, declared by hand: its headers need not be on the machine.
#include <cstddef>
#include <cstdint>

extern "C" {

struct _object;
_object* PyObject_CallFunctionObjArgs(_object* callable, ...);
_object* PyList_New(std::ptrdiff_t);
int PyList_SetItem(_object*, std::ptrdiff_t, _object*);  // takes the item over
_object* PyTuple_GetItem(_object*, std::ptrdiff_t);      // lends it
_object* PyFloat_FromDouble(double);
double PyFloat_AsDouble(_object*);
_object* PyErr_Occurred();
void Py_DecRef(_object*);

}  // extern "C"

namespace {

// Item `k` of a tuple; null, with Python's exception set, where that is none.
_object* item(_object* tuple, int k) { return tuple == nullptr ? nullptr : PyTuple_GetItem(tuple, k); }

bool number(_object* tuple, int k, double* out) {
  _object* found = item(tuple, k);
  if (found == nullptr) return false;
  *out = PyFloat_AsDouble(found);
  return *out != -1.0 || PyErr_Occurred() == nullptr;
}

bool numbers(_object* tuple, int count, double* out) {
  for (int k = 0; k < count; ++k)
    if (!number(tuple, k, out + k)) return false;
  return true;
}

// What `World.simulate` says, into `answer`; false with Python's exception set.
bool take(_object* said, double* answer) {
  _object *pose = item(said, 0), *twist = item(said, 1), *states = item(said, 2);
  for (int k = 0; k < N; ++k) {
    _object* state = item(states, k);
    if (!number(state, 0, answer + k) || !number(state, 1, answer + N + k)) return false;
  }
  double *at = answer + 2 * N, *speed = at + 7;
  return numbers(item(pose, 0), 3, at) && numbers(item(pose, 1), 4, at + 3) && numbers(item(twist, 0), 3, speed) &&
         numbers(item(twist, 1), 3, speed + 3);
}

bool simulated(const Plant& p, _object* simulate) {
  _object* forces = PyList_New(N);
  if (forces == nullptr) return false;
  for (int k = 0; k < N; ++k) PyList_SetItem(forces, k, PyFloat_FromDouble(p.forces[k]));
  _object* said = PyObject_CallFunctionObjArgs(simulate, forces, nullptr);
  Py_DecRef(forces);
  if (said == nullptr) return false;
  const bool taken = take(said, p.answer);
  Py_DecRef(said);
  return taken;
}

}  // namespace

extern "C" {

// Physics steps up to step number `last`, or until the servos' next event (s) is due. `simulate`: `World.simulate`. `p->step` says
// where it stands. 1 when a current is not a number, and when Python's exception is set: then the next step was not made.
int robotrl_steps(Plant* p, int64_t last, double next_event, _object* simulate) {
  do {
    if (!demand(*p) || !simulated(*p, simulate)) return 1;
    record(*p);
  } while (p->step < last && p->step * p->dt < next_event);
  return 0;
}

}  // extern "C"
