// JPEG by libjpeg, whose errors are long jumps: they end in these functions.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

enum { APUS_JPEG_MESSAGE_BYTES = 200 };

typedef struct {
  uint32_t width, height;
  uint32_t channels;  // 1: grey; 3: red, green, blue; 4: cyan, magenta, yellow, black, as they stand in the file
} apus_jpeg_header;

// Reads the size of the picture in `count` bytes. False after an error, of which the message tells.
bool apus_jpeg_read_header(const uint8_t *bytes, size_t count, apus_jpeg_header *header,
                           char message[_Nonnull APUS_JPEG_MESSAGE_BYTES]);

// Decodes the picture into height * width * channels samples, rows from the top. False after an error, also if the
// bytes end too early; what else is broken in a scan leaves a picture with faults. Samples that an error leaves out
// stay as they were.
bool apus_jpeg_decode(const uint8_t *bytes, size_t count, uint8_t *pixels,
                      char message[_Nonnull APUS_JPEG_MESSAGE_BYTES]);

#pragma clang assume_nonnull end
