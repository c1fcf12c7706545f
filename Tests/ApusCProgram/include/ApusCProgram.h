// A program in C over apus.h, as a function that the tests of ApusC call.
#ifndef APUS_C_PROGRAM_H
#define APUS_C_PROGRAM_H

#include <stddef.h>

// Runs the model at `path`, the digits of TestModels, on `count` pictures of 8×8 pixels, and everything else of the
// interface that needs no further model. Prints what is wrong and returns how much that is. `expected` has ten numbers
// a picture.
int apus_c_program(const char *path, const float *pixels, size_t count, const float *expected);

// Updates the state of a model of `size` bytes: a TensorScatter of "update" (1, 2, 1, 16) into "cache" (1, 2, 128, 16)
// at "position" (1), whose result is "present". Returns how much is wrong.
int apus_c_state_program(const void *bytes, size_t size);

// Makes smaller models of the one at `path`, the digits of TestModels, with the pictures as samples, and provokes
// errors on the way. `expected` has ten numbers a picture. Returns how much is wrong.
int apus_c_compression_program(const char *path, const float *pixels, size_t count, const float *expected);

#endif
