// One process with Apache Mesos' own master and N agents, for tests: the entry points that `mesos-local` itself uses,
// found inside the shared object of the Python package mesos.scheduler.
//
//   mesos-local WORK_DIR AGENTS
//
// libprocess reads LIBPROCESS_IP and LIBPROCESS_PORT; master and agents read their flags as MESOS_<FLAG>.
//
// There are no headers to compile against, so `scripts/mesos` looks the mangled names up and passes them as macros, and
// the two structures that cross the border are described here by their layout, which is the same from 1.8 to 1.11.

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>

namespace {

// mesos::internal::local::Flags: what we set stands at the front, the rest is left to its constructor.
struct Flags {
  void* virtual_table;
  std::string work_dir;
  int agents;
  char remainder[16 << 10];
};

// stout's Option<std::string>: the tag comes first, and zero means that there is a value.
struct OptionalText {
  explicit OptionalText(const char* text) : is_none(0), text(text) {}
  int is_none;
  alignas(8) std::string text;
};

}  // namespace

extern "C" {
void construct_flags(void* self) asm(SYMBOL_FLAGS);
void* launch(void* master_pid, const void* flags, void* allocator) asm(SYMBOL_LAUNCH);
bool initialize(const OptionalText* delegate, const OptionalText* writing, const OptionalText* reading) asm(SYMBOL_INITIALIZE);

// The object is a Python 2 extension; the loader wants these, nothing ever reads them.
void* PyExc_Exception;
void* PyExc_RuntimeError;
void* PyExc_TypeError;
void* PyExc_ValueError;
long _Py_NoneStruct[8];
}

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: mesos-local WORK_DIR AGENTS" << std::endl;
    return 2;
  }

  // A request without a process name goes to the master, as it does in mesos-master.
  const OptionalText delegate("master"), writing("mesos-master-readwrite"), reading("mesos-master-readonly");
  initialize(&delegate, &writing, &reading);

  static char storage[sizeof(Flags)];
  static char master_pid[1024];
  construct_flags(storage);
  Flags* flags = reinterpret_cast<Flags*>(storage);
  flags->work_dir = arguments[1];
  flags->agents = std::atoi(arguments[2]);
  launch(master_pid, flags, nullptr);

  for (;;) pause();
}
