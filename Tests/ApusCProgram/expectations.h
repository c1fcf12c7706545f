// What the programs in C expect of calls, and how they say that it is not so. Each file counts for itself.
#ifndef EXPECTATIONS_H
#define EXPECTATIONS_H

#include "apus.h"

#include <stdio.h>
#include <string.h>

static int problems;

#define EXPECT(condition)                                                                            \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            printf("%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                          \
            problems += 1;                                                                           \
        }                                                                                            \
    } while (0)

// Expects success.
static void ok(apus_error *error, const char *file, int line) {
    if (!error) return;
    printf("%s:%d: %s\n", file, line, apus_error_message(error));
    apus_error_release(error);
    problems += 1;
}
#define OK(call) ok(call, __FILE__, __LINE__)

// Expects an error with the code and a message that contains the text.
static void fails(apus_error *error, int32_t code, const char *text, const char *file, int line) {
    if (apus_error_code(error) != code || !strstr(error ? apus_error_message(error) : "", text)) {
        printf("%s:%d: code %d, expected %d; message '%s', expected '%s'\n", file, line,
               apus_error_code(error), code,
               error ? apus_error_message(error) : "", text);
        problems += 1;
    }
    apus_error_release(error);
}
#define FAILS(call, code, text) fails(call, code, text, __FILE__, __LINE__)

#endif
