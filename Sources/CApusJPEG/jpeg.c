// Decoding with libjpeg. ITU-T T.81. Without a trait of the package that enables JPEG there is nothing here.
#include "apus_jpeg.h"

#if APUS_JPEG

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

// A progressive file may have any number of scans, each of which costs the whole picture.
enum { SCANS_MAXIMUM = 500 };

// What the callbacks of libjpeg find from the decompressor.
typedef struct {
  struct jpeg_error_mgr errors;  // first, so that its address is that of the decoder
  struct jpeg_progress_mgr progress;
  jmp_buf failure;
  char *message;
  bool is_cut_off;
} decoder;

static void fail(j_common_ptr info) {
  decoder *d = (decoder *)info->err;
  char text[JMSG_LENGTH_MAX];
  info->err->format_message(info, text);
  snprintf(d->message, APUS_JPEG_MESSAGE_BYTES, "%s", text);
  longjmp(d->failure, 1);
}

// Warnings and traces: nothing is printed.
static void note(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) ((decoder *)info->err)->is_cut_off = true;
}

static void limit_scans(j_common_ptr info) {
  decoder *d = (decoder *)info->err;
  if (((j_decompress_ptr)info)->input_scan_number <= SCANS_MAXIMUM) return;
  snprintf(d->message, APUS_JPEG_MESSAGE_BYTES, "there are more than %d scans", SCANS_MAXIMUM);
  longjmp(d->failure, 1);
}

static void prepare(decoder *d, struct jpeg_decompress_struct *info, char *message) {
  memset(d, 0, sizeof *d);
  memset(info, 0, sizeof *info);
  d->message = message;
  info->err = jpeg_std_error(&d->errors);
  d->errors.error_exit = fail;
  d->errors.emit_message = note;
  d->progress.progress_monitor = limit_scans;
}

// Reads up to the first scan and chooses the form of the samples; returns their channels.
static uint32_t start(decoder *d, struct jpeg_decompress_struct *info, const uint8_t *bytes, size_t count) {
  jpeg_create_decompress(info);
  info->progress = &d->progress;
  jpeg_mem_src(info, bytes, count);
  jpeg_read_header(info, TRUE);
  switch (info->jpeg_color_space) {
  case JCS_GRAYSCALE: info->out_color_space = JCS_GRAYSCALE; return 1;
  case JCS_CMYK:
  case JCS_YCCK: info->out_color_space = JCS_CMYK; return 4;
  default: info->out_color_space = JCS_RGB; return 3;
  }
}

bool apus_jpeg_read_header(const uint8_t *bytes, size_t count, apus_jpeg_header *header, char *message) {
  decoder d;
  struct jpeg_decompress_struct info;
  prepare(&d, &info, message);
  if (setjmp(d.failure)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  const uint32_t channels = start(&d, &info, bytes, count);
  *header = (apus_jpeg_header){.width = info.image_width, .height = info.image_height, .channels = channels};
  jpeg_destroy_decompress(&info);
  return true;
}

bool apus_jpeg_decode(const uint8_t *bytes, size_t count, uint8_t *pixels, char *message) {
  decoder d;
  struct jpeg_decompress_struct info;
  prepare(&d, &info, message);
  if (setjmp(d.failure)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  const size_t row_bytes = (size_t)start(&d, &info, bytes, count) * info.image_width;
  info.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = pixels + (size_t)info.output_scanline * row_bytes;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  if (d.is_cut_off) snprintf(message, APUS_JPEG_MESSAGE_BYTES, "the file is cut off");
  return !d.is_cut_off;
}
#endif
