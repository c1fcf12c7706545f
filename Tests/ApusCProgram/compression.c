// A program in C over the part of apus.h that makes models smaller.

#include "ApusCProgram.h"
#include "apus.h"
#include "expectations.h"

#include <stdlib.h>

#define PIXELS 64

// What the functions below read and count.
typedef struct {
    const float *pixels;
    size_t count, next;
    int restarts, measured, told;
    // The number of the sample, and of the measurement, that is refused; -1: none is.
    int refused_sample, refused_measure;
    const char *input;
    double quality;
} caller;

static bool restart(void *context) {
    caller *self = context;
    self->restarts += 1;
    self->next = 0;
    return true;
}

static bool next_sample(void *context, apus_sample *sample) {
    caller *self = context;
    if ((int)self->next == self->refused_sample) return false;
    if (self->next == self->count) return true;
    int64_t shape[] = {1, 1, 8, 8};
    // Memory that is another's when the next sample comes: its elements must have been copied.
    static float memory[PIXELS];
    memcpy(memory, self->pixels + PIXELS * self->next++, sizeof memory);
    apus_value *image = NULL;
    OK(apus_tensor_create_borrowed(APUS_FLOAT32, shape, 4, memory, sizeof memory, NULL, NULL, &image));
    OK(apus_sample_set(sample, self->input, image));
    FAILS(apus_sample_set(sample, self->input, image), APUS_INVALID_ARGUMENT, "given twice");
    FAILS(apus_sample_set(sample, NULL, image), APUS_INVALID_ARGUMENT, "input is NULL");
    FAILS(apus_sample_set(sample, "x", NULL), APUS_INVALID_ARGUMENT, "value is NULL");
    apus_value_release(image);
    return true;
}

static bool measure(void *context, apus_model *model, double *quality) {
    caller *self = context;
    EXPECT(apus_model_input_count(model) == 1 && apus_model_thread_count(model) > 0);
    apus_model_release(model);
    *quality = self->quality;
    return self->measured++ != self->refused_measure;
}

static bool progress(void *context, const char *stage, int64_t done, int64_t all) {
    caller *self = context;
    self->told += strcmp(stage, "calibration") == 0 && done < all && all == (int64_t)self->count;
    return true;
}

// The largest of the first ten outputs of a model for a picture, and how often it is the same as before.
static int agreement(const apus_model *model, const float *pixels, size_t count, const float *expected) {
    int64_t shape[] = {(int64_t)count, 1, 8, 8};
    apus_value *images = NULL, *output = NULL;
    OK(apus_tensor_create(APUS_FLOAT32, shape, 4, pixels, count * PIXELS * sizeof *pixels, &images));
    const apus_value *inputs[] = {images};
    OK(apus_model_run_in_order(model, inputs, 1, NULL, 1, NULL, &output));
    const float *scores = apus_tensor_data(output);
    int same = 0;
    for (size_t i = 0; scores && i < count; i++) {
        int ours = 0, theirs = 0;
        for (int digit = 1; digit < 10; digit++) {
            if (scores[i * 10 + digit] > scores[i * 10 + ours]) ours = digit;
            if (expected[i * 10 + digit] > expected[i * 10 + theirs]) theirs = digit;
        }
        same += ours == theirs;
    }
    apus_value_release(output);
    apus_value_release(images);
    return same;
}

static void integers(const apus_source *source, const float *pixels, size_t count, const float *expected) {
    caller self = {pixels, count, 0, 0, 0, 0, -1, -1, "input", 0.5};
    apus_quantization_calls calls = {&self, next_sample, restart, (int64_t)count, measure, progress};
    apus_compressed *small = NULL;
    OK(apus_source_quantize(source, "{}", &calls, &small));
    EXPECT(strstr(apus_compressed_report(small), "\"calibration_samples\"") != NULL);
    EXPECT(strstr(apus_compressed_page(small), "</html>") != NULL);
    EXPECT(self.restarts >= 2 && self.told == (int)count && self.measured == 0);
    const void *bytes = NULL, *again = NULL;
    size_t size = 0;
    OK(apus_compressed_bytes(small, &bytes, &size));
    OK(apus_compressed_bytes(small, &again, &size));
    EXPECT(bytes == again && size > 0);
    apus_model *model = NULL, *read = NULL;
    OK(apus_compressed_load(small, NULL, &model));
    OK(apus_model_load_bytes(bytes, size, NULL, NULL, &read));
    EXPECT(agreement(model, pixels, count, expected) == (int)count);
    EXPECT(agreement(read, pixels, count, expected) == (int)count);
    apus_model_release(model);
    apus_model_release(read);
    FAILS(apus_compressed_save(small, "/nowhere/q.onnx", 0), APUS_OTHER, "/nowhere/q.onnx");
    FAILS(apus_compressed_save(small, "q.onnx", 3), APUS_INVALID_ARGUMENT, "opset is 3");
    FAILS(apus_compressed_bytes(small, NULL, NULL), APUS_INVALID_ARGUMENT, "result is NULL");
    apus_compressed_release(small);

    // A target that holds at once, and one that never does.
    OK(apus_source_quantize(source, "{\"target_accuracy\": 0.25}", &calls, &small));
    EXPECT(self.measured == 1);
    apus_compressed_release(small);
    FAILS(apus_source_quantize(source, "{\"target_accuracy\": 0.75}", &calls, &small), APUS_TARGET_NOT_MET, "0.5");
    self.quality = 0.0 / 0.0;
    FAILS(apus_source_quantize(source, "{\"target_accuracy\": 0.75}", &calls, &small), APUS_INVALID_ARGUMENT,
          "no number");

    // Functions that end the work.
    self.refused_sample = (int)count;
    FAILS(apus_source_quantize(source, "{}", &calls, &small), APUS_CANCELLED, "next_sample");
    self.refused_sample = -1;
    self.measured = self.refused_measure = 0;
    FAILS(apus_source_quantize(source, "{\"target_accuracy\": 0.25}", &calls, &small), APUS_CANCELLED, "measure");
    EXPECT(small == NULL);

    // Samples that do not fit, and none.
    self.input = "image";
    FAILS(apus_source_quantize(source, "{}", &calls, &small), APUS_INVALID_INPUT, "sample 1: ");
    self.count = 0;
    FAILS(apus_source_quantize(source, "{}", &calls, &small), APUS_INVALID_INPUT, "no samples");
    apus_quantization_calls none = {0};
    FAILS(apus_source_quantize(source, "{\"static\": true}", &none, &small), APUS_INVALID_INPUT, "samples");
}

static void without_samples(const apus_source *source, const float *pixels, size_t count, const float *expected) {
    const struct {
        apus_error *(*make)(const apus_source *, const char *, apus_compressed **);
        const char *options;
        // Pictures that may be recognized otherwise.
        int lost;
    } cases[] = {
        {apus_source_prune, "{\"magnitude\": 0.2}", 1},
        {apus_source_cluster, "{\"codebook\": 64, \"keep_zeros\": true}", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        apus_compressed *small = NULL;
        apus_model *model = NULL;
        OK(cases[i].make(source, cases[i].options, &small));
        OK(apus_compressed_load(small, NULL, &model));
        EXPECT(agreement(model, pixels, count, expected) >= (int)count - cases[i].lost);
        EXPECT(apus_compressed_page(small) == NULL && strstr(apus_compressed_report(small), "\"comparison\""));
        apus_model_release(model);
        apus_compressed_release(small);
        FAILS(cases[i].make(source, "{\"kodebook\": 3}", &small), APUS_INVALID_ARGUMENT, "expected");
        FAILS(cases[i].make(source, NULL, &small), APUS_INVALID_ARGUMENT, "options is NULL");
        FAILS(cases[i].make(NULL, "{}", &small), APUS_INVALID_ARGUMENT, "source is NULL");
    }
    apus_compressed *small = NULL;
    OK(apus_source_quantize(source, "{\"weights\": \"int8\", \"minimum_elements\": 16}", NULL, &small));
    apus_compressed_release(small);
    const char *wrong[][2] = {
        {"{}", "nothing says"}, {"[]", "the options"}, {"{", "the options"}, {"{\"dynamic\": 1}", "dynamic"},
        {"{\"dynamic\": true, \"blok\": 32}", "'blok'"}, {"{\"weights\": \"int3\"}", "int4"},
        {"{\"weights\": \"int4\", \"blok\": 32}", "did you mean 'block'"},
        {"{\"weights\": \"int4\", \"weight_type\": [[\"a\"]]}", "[pattern, type]"},
        {"{\"weights\": \"int4\", \"float16\": true}", "exclude"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        FAILS(apus_source_quantize(source, wrong[i][0], NULL, &small), APUS_INVALID_ARGUMENT, wrong[i][1]);
    EXPECT(small == NULL);
    const char *report = NULL, *again = NULL;
    OK(apus_source_sparsity(source, &report));
    OK(apus_source_sparsity(source, &again));
    EXPECT(report == again && strstr(report, "\"weight_elements\""));
}

int apus_c_compression_program(const char *path, const float *pixels, size_t count, const float *expected) {
    problems = 0;
    apus_source *source = NULL;
    FAILS(apus_source_read_file("/nowhere.onnx", NULL, &source), APUS_CANNOT_READ, "/nowhere.onnx");
    FAILS(apus_source_read_bytes(NULL, 3, NULL, NULL, &source), APUS_INVALID_ARGUMENT, "bytes is NULL");
    FAILS(apus_source_read_file(path, NULL, NULL), APUS_INVALID_ARGUMENT, "result is NULL");
    OK(apus_source_read_file(path, NULL, &source));
    if (!source) return problems + 1;
    EXPECT(apus_source_input_count(source) == 1 && apus_source_input(source, 1) == NULL);
    EXPECT(strcmp(apus_value_info_name(apus_source_input(source, 0)), "input") == 0);
    integers(source, pixels, count, expected);
    without_samples(source, pixels, count, expected);
    apus_source_release(source);
    apus_source_release(NULL);
    apus_compressed_release(NULL);
    EXPECT(apus_compressed_report(NULL) == NULL && apus_compressed_page(NULL) == NULL);
    return problems;
}
