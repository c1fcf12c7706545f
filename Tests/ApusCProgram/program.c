// A program in C over apus.h: loads, inspects and runs a model, makes and reads values of every kind, provokes errors.

#include "ApusCProgram.h"
#include "apus.h"
#include "expectations.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void count_release(void *context) { *(int *)context += 1; }

static void loading(const char *path) {
    apus_model *model = NULL;
    FAILS(apus_model_load_file(NULL, NULL, &model), APUS_INVALID_ARGUMENT, "path is NULL");
    FAILS(apus_model_load_file("/nowhere.onnx", NULL, &model), APUS_CANNOT_READ, "/nowhere.onnx");
    FAILS(apus_model_load_file(path, NULL, NULL), APUS_INVALID_ARGUMENT, "result is NULL");
    FAILS(apus_model_load_file("\xff.onnx", NULL, &model), APUS_INVALID_ARGUMENT, "UTF-8");
    apus_error *error = apus_model_load_bytes("no model", 8, NULL, NULL, &model);
    EXPECT(error != NULL && model == NULL);
    apus_error_release(error);

    apus_options *options = apus_options_create();
    FAILS(apus_options_set_threads(options, -1), APUS_INVALID_ARGUMENT, "threads is -1");
    FAILS(apus_options_set_threads(NULL, 1), APUS_INVALID_ARGUMENT, "options is NULL");
    OK(apus_options_set_dimension(options, "no such symbol", 4));
    FAILS(apus_model_load_file(path, options, &model), APUS_INVALID_INPUT, "no such symbol");
    apus_options_release(options);

    options = apus_options_create();
    int64_t shape[] = {3, 1, 8, 8};
    OK(apus_options_set_threads(options, 1));
    OK(apus_options_set_optimize(options, false));
    OK(apus_options_set_shape(options, "input", shape, 4));
    OK(apus_model_load_file(path, options, &model));
    apus_options_release(options);
    EXPECT(apus_model_thread_count(model) == 1);
    EXPECT(apus_value_info_dimension(apus_model_input(model, 0), 0) == 3);
    apus_model_release(model);

    apus_model_release(NULL);
    apus_value_release(NULL);
    apus_error_release(NULL);
    EXPECT(apus_error_code(NULL) == 0 && apus_model_input(NULL, 0) == NULL && apus_value_kind(NULL) == APUS_UNKNOWN);
}

static void engines(const char *path) {
    apus_engine *engine = NULL;
    FAILS(apus_engine_create(-1, 0, &engine), APUS_INVALID_ARGUMENT, "threads is -1");
    FAILS(apus_engine_create(1, 0, NULL), APUS_INVALID_ARGUMENT, "result is NULL");
    OK(apus_engine_create(2, 16 << 20, &engine));
    EXPECT(apus_engine_thread_count(engine) == 2 && apus_engine_memory_budget(engine) == 16 << 20);
    EXPECT(apus_engine_memory_in_use(engine) == 0);
    EXPECT(apus_engine_thread_count(NULL) == 0 && apus_engine_memory_in_use(NULL) == 0);

    apus_options *options = apus_options_create();
    FAILS(apus_options_set_priority(options, 2), APUS_INVALID_ARGUMENT, "priority is 2");
    OK(apus_options_set_priority(options, APUS_PRIORITY_HIGH));
    OK(apus_options_set_engine(options, engine));
    apus_model *model = NULL;
    OK(apus_model_load_file(path, options, &model));
    EXPECT(apus_model_thread_count(model) == 2);
    EXPECT(apus_engine_memory_in_use(engine) > 0);
    apus_model_release(model);
    EXPECT(apus_engine_memory_in_use(engine) == 0);
    apus_engine_release(engine);

    OK(apus_engine_create(1, 1, &engine));
    OK(apus_options_set_engine(options, engine));
    apus_engine_release(engine);
    FAILS(apus_model_load_file(path, options, &model), APUS_LIMIT_EXCEEDED, "memory_budget is 1");
    OK(apus_options_set_engine(options, NULL));
    OK(apus_model_load_file(path, options, &model));
    apus_model_release(model);
    apus_options_release(options);
    apus_engine_release(NULL);
}

static void inspecting(const apus_model *model) {
    EXPECT(apus_model_input_count(model) == 1 && apus_model_input(model, 1) == NULL);
    const apus_value_info *input = apus_model_input(model, 0);
    EXPECT(strcmp(apus_value_info_name(input), "input") == 0);
    EXPECT(strcmp(apus_value_info_type(input), "tensor(float)") == 0);
    EXPECT(apus_value_info_kind(input) == APUS_TENSOR && apus_value_info_element_type(input) == APUS_FLOAT32);
    EXPECT(apus_value_info_rank(input) == 4);
    EXPECT(apus_value_info_dimension(input, 0) == -1 && apus_value_info_symbol(input, 0) != NULL);
    EXPECT(apus_value_info_dimension(input, 3) == 8 && apus_value_info_symbol(input, 3) == NULL);
    EXPECT(apus_value_info_dimension(input, 4) == -1 && apus_value_info_dimension(input, -1) == -1);
    EXPECT(apus_model_output_count(model) > 0);
    EXPECT(apus_model_ir_version(model) > 0 && apus_model_opset_count(model) > 0);
    EXPECT(apus_model_opset_version(model, 0) > 0 && apus_model_opset_domain(model, 99) == NULL);
    bool labels = false;
    for (size_t i = 0; i < apus_model_metadata_count(model); i++)
        labels = labels || strcmp(apus_model_metadata_key(model, i), "labels") == 0;
    EXPECT(labels && apus_model_metadata_value(model, 99) == NULL);
}

static void running(const apus_model *model, const float *pixels, size_t count, const float *expected) {
    const char *names[] = {"input", "other"};
    const char *wanted[] = {apus_value_info_name(apus_model_output(model, 0))};
    int64_t shape[] = {(int64_t)count, 1, 8, 8};
    int released = 0;
    apus_value *image = NULL, *output = NULL;
    OK(apus_tensor_create_borrowed(APUS_FLOAT32, shape, 4, pixels, count * 256, count_release, &released, &image));
    const apus_value *inputs[] = {image, image};
    OK(apus_model_run(model, names, inputs, 1, wanted, 1, NULL, &output));
    EXPECT(apus_tensor_element_type(output) == APUS_FLOAT32 && apus_tensor_rank(output) == 2);
    EXPECT(apus_tensor_shape(output)[0] == (int64_t)count && apus_tensor_shape(output)[1] == 10);
    const float *scores = apus_tensor_data(output);
    for (size_t i = 0; i < count * 10; i++)
      EXPECT(fabsf(scores[i] - expected[i]) <= 1e-4f + 1e-3f * fabsf(expected[i]));
    apus_value_release(output);

    FAILS(apus_model_run(model, names, inputs, 0, wanted, 1, NULL, &output), APUS_INVALID_INPUT, "'input'");
    FAILS(apus_model_run(model, names, inputs, 2, wanted, 1, NULL, &output), APUS_INVALID_INPUT, "'other'");
    FAILS(apus_model_run(model, names + 1, inputs, 1, wanted, 1, NULL, &output), APUS_INVALID_INPUT, "'input'");
    FAILS(apus_model_run(model, names, inputs, 1, names, 1, NULL, &output), APUS_INVALID_INPUT, "no output 'input'");
    FAILS(apus_model_run(model, names, inputs, 1, NULL, 0, NULL, NULL), APUS_INVALID_ARGUMENT, "0 places");
    FAILS(apus_model_run(NULL, names, inputs, 1, wanted, 1, NULL, &output), APUS_INVALID_ARGUMENT, "model is NULL");
    EXPECT(output == NULL);

    apus_cancellation *cancellation = apus_cancellation_create(0);
    OK(apus_model_run(model, names, inputs, 1, wanted, 1, cancellation, &output));
    apus_value_release(output);
    apus_cancellation_cancel(cancellation);
    FAILS(apus_model_run(model, names, inputs, 1, wanted, 1, cancellation, &output), APUS_CANCELLED, "cancelled");
    apus_cancellation_release(cancellation);

    EXPECT(released == 0);
    apus_value_release(image);
    EXPECT(released == 1);
    apus_model_release_memory(model);
}

static void tensors(void) {
    int64_t shape[] = {2, 3};
    int32_t numbers[] = {1, 2, 3, 4, 5, 6};
    apus_value *one = NULL, *other = NULL, *sequence = NULL;
    FAILS(apus_tensor_create(APUS_INT32, shape, 2, numbers, 23, &one), APUS_INVALID_ARGUMENT, "takes 24");
    FAILS(apus_tensor_create(99, shape, 2, numbers, 24, &one), APUS_INVALID_ARGUMENT, "99");
    FAILS(apus_tensor_create(APUS_INT32, shape, 2, NULL, 24, &one), APUS_INVALID_ARGUMENT, "data is NULL");
    int64_t wrong[] = {2, -3}, huge[] = {INT64_MAX, 16};
    FAILS(apus_tensor_create(APUS_INT32, wrong, 2, numbers, 24, &one), APUS_INVALID_ARGUMENT, "no shape");
    FAILS(apus_tensor_create(APUS_INT32, huge, 2, numbers, 24, &one), APUS_INVALID_ARGUMENT, "no shape");

    // Writing copies borrowed memory and memory that a sequence shares; memory of one's own stays where it is.
    OK(apus_tensor_create_borrowed(APUS_INT32, shape, 2, numbers, 24, NULL, NULL, &one));
    EXPECT(apus_tensor_data(one) == numbers && apus_tensor_byte_count(one) == 24);
    EXPECT(apus_tensor_element_count(one) == 6);
    void *data = NULL;
    OK(apus_tensor_data_mutable(one, &data));
    EXPECT(data != numbers && memcmp(data, numbers, 24) == 0);
    const void *before = data;
    OK(apus_tensor_data_mutable(one, &data));
    EXPECT(data == before);
    const apus_value *elements[] = {one, one};
    OK(apus_sequence_create(elements, 2, NULL, &sequence));
    OK(apus_tensor_data_mutable(one, &data));
    EXPECT(data != before);
    ((int32_t *)data)[0] = 7;
    EXPECT(apus_sequence_count(sequence) == 2);
    OK(apus_sequence_element(sequence, 1, &other));
    EXPECT(((const int32_t *)apus_tensor_data(other))[0] == 1);
    apus_value_release(other);
    FAILS(apus_sequence_element(sequence, 2, &other), APUS_INVALID_ARGUMENT, "there are 2");
    apus_value_release(one);
    apus_value_release(sequence);

    // Rank 0, no elements, packed elements.
    OK(apus_tensor_create(APUS_INT32, NULL, 0, numbers, 4, &one));
    EXPECT(apus_tensor_rank(one) == 0 && apus_tensor_shape(one) != NULL && apus_tensor_element_count(one) == 1);
    apus_value_release(one);
    int64_t empty[] = {0};
    int released = 0;
    OK(apus_tensor_create_borrowed(APUS_INT32, empty, 1, NULL, 0, count_release, &released, &one));
    EXPECT(apus_tensor_element_count(one) == 0 && released == 1);
    apus_value_release(one);
    int64_t five[] = {5};
    OK(apus_tensor_create(APUS_INT4, five, 1, numbers, 3, &one));
    EXPECT(apus_tensor_byte_count(one) == 3);
    apus_value_release(one);
}

static void strings(void) {
    int64_t shape[] = {3};
    const char *words[] = {"swift", "", "mauersegler \xc3\xa4"};
    size_t lengths[] = {5, 0, 11};
    apus_value *tensor = NULL;
    OK(apus_tensor_create_strings(shape, 1, words, NULL, &tensor));
    const char *text = NULL, *block = NULL;
    const size_t *offsets = NULL;
    size_t length = 0;
    OK(apus_tensor_string(tensor, 2, &text, &length));
    EXPECT(strcmp(text, words[2]) == 0 && length == strlen(words[2]));
    OK(apus_tensor_strings(tensor, &block, &offsets));
    EXPECT(strcmp(block + offsets[0], "swift") == 0 && offsets[1] == 6 && offsets[2] == 7);
    EXPECT(block + offsets[2] == text);
    FAILS(apus_tensor_string(tensor, 3, &text, NULL), APUS_INVALID_ARGUMENT, "there are 3");
    EXPECT(text == NULL && apus_tensor_data(tensor) == NULL);
    void *data = NULL;
    FAILS(apus_tensor_data_mutable(tensor, &data), APUS_INVALID_ARGUMENT, "strings");
    apus_value_release(tensor);
    OK(apus_tensor_create_strings(shape, 1, words, lengths, &tensor));
    OK(apus_tensor_string(tensor, 2, &text, &length));
    EXPECT(strcmp(text, "mauersegler") == 0 && length == 11);
    apus_value_release(tensor);
    const char *broken[] = {"a", "\xff", "b"};
    FAILS(apus_tensor_create_strings(shape, 1, broken, NULL, &tensor), APUS_INVALID_ARGUMENT, "string 1");
}

static void containers(void) {
    int64_t shape[] = {2};
    int64_t keys[] = {7, 3}, twice[] = {7, 7};
    float numbers[] = {0.5f, 2};
    apus_value *key = NULL, *same = NULL, *value = NULL, *map = NULL, *part = NULL, *optional = NULL, *sequence = NULL;
    OK(apus_tensor_create(APUS_INT64, shape, 1, keys, 16, &key));
    OK(apus_tensor_create(APUS_INT64, shape, 1, twice, 16, &same));
    OK(apus_tensor_create(APUS_FLOAT32, shape, 1, numbers, 8, &value));
    FAILS(apus_map_create(same, value, &map), APUS_INVALID_ARGUMENT, "different");
    FAILS(apus_map_create(value, value, &map), APUS_INVALID_ARGUMENT, "integers");
    OK(apus_map_create(key, value, &map));
    EXPECT(apus_value_kind(map) == APUS_MAP);
    OK(apus_map_keys(map, &part));
    EXPECT(memcmp(apus_tensor_data(part), keys, 16) == 0);
    apus_value_release(part);
    OK(apus_map_values(map, &part));
    EXPECT(apus_value_kind(part) == APUS_TENSOR && memcmp(apus_tensor_data(part), numbers, 8) == 0);
    apus_value_release(part);

    const apus_value *elements[] = {value, key};
    FAILS(apus_sequence_create(elements, 2, NULL, &sequence), APUS_INVALID_ARGUMENT, "element 1");
    FAILS(apus_sequence_create(NULL, 0, NULL, &sequence), APUS_INVALID_ARGUMENT, "type");
    FAILS(apus_sequence_create(NULL, 0, "seq(tensor(flot))", &sequence), APUS_INVALID_ARGUMENT, "flot");
    OK(apus_sequence_create(NULL, 0, "map(int64,tensor(float))", &sequence));
    EXPECT(apus_value_kind(sequence) == APUS_SEQUENCE && apus_sequence_count(sequence) == 0);
    apus_value_release(sequence);

    OK(apus_optional_create(NULL, "tensor(float)", &optional));
    EXPECT(apus_value_kind(optional) == APUS_OPTIONAL && !apus_optional_has_value(optional));
    OK(apus_optional_content(optional, &part));
    EXPECT(part == NULL);
    apus_value_release(optional);
    OK(apus_optional_create(map, NULL, &optional));
    EXPECT(apus_optional_has_value(optional));
    OK(apus_optional_content(optional, &part));
    EXPECT(apus_value_kind(part) == APUS_MAP);
    apus_value_release(part);
    FAILS(apus_map_keys(optional, &part), APUS_INVALID_ARGUMENT, "no map");
    EXPECT(part == NULL);
    apus_value_release(optional);
    apus_value_release(map);
    apus_value_release(value);
    apus_value_release(same);
    apus_value_release(key);
}

// Runs without names: by position, some of the outputs, with counts and numbers that do not fit.
static void running_in_order(const apus_model *model, const float *pixels, size_t count, const float *expected) {
    int64_t shape[] = {(int64_t)count, 1, 8, 8};
    apus_value *image = NULL, *output = NULL;
    OK(apus_tensor_create(APUS_FLOAT32, shape, 4, pixels, count * 64 * sizeof(float), &image));
    const apus_value *values[] = {image, image}, *missing[] = {NULL};
    size_t first = 0, wrong = 9;
    for (int all = 0; all < 2; all++) {
        OK(apus_model_run_in_order(model, values, 1, all ? NULL : &first, 1, NULL, &output));
        const float *found = apus_tensor_data(output);
        for (size_t i = 0; found && i < count * 10; i++) EXPECT(fabsf(found[i] - expected[i]) < 1e-4f);
        apus_value_release(output);
    }
    apus_value *two[2] = {0};
    FAILS(apus_model_run_in_order(model, values, 2, NULL, 1, NULL, &output), APUS_INVALID_ARGUMENT, "2 values for");
    FAILS(apus_model_run_in_order(model, values, 1, NULL, 2, NULL, two), APUS_INVALID_ARGUMENT, "2 places");
    FAILS(apus_model_run_in_order(model, values, 1, &wrong, 1, NULL, &output), APUS_INVALID_ARGUMENT, "output 9");
    FAILS(apus_model_run_in_order(model, values, 1, &first, 1, NULL, NULL), APUS_INVALID_ARGUMENT, "outputs is NULL");
    FAILS(apus_model_run_in_order(model, missing, 1, NULL, 1, NULL, &output), APUS_INVALID_ARGUMENT, "input 0 is NULL");
    FAILS(apus_model_run_in_order(model, NULL, 1, NULL, 1, NULL, &output), APUS_INVALID_ARGUMENT, "input 0 is NULL");
    FAILS(apus_model_run_in_order(NULL, values, 1, NULL, 1, NULL, &output), APUS_INVALID_ARGUMENT, "model is NULL");
    FAILS(apus_model_write_profile(model, "/tmp/no.json"), APUS_INVALID_ARGUMENT, "without profiling");
    EXPECT(output == NULL && apus_model_overridable_count(model) == 0 && !apus_model_overridable(model, 0));
    apus_value_release(image);
}

// Empty tensors may have any number of rows, which are not to be made one by one.
static void rows_without_bytes(void) {
    int64_t one[] = {1}, many[] = {(int64_t)1 << 40, 0};
    int64_t key = 3;
    apus_value *keys = NULL, *rows = NULL, *map = NULL;
    OK(apus_tensor_create(APUS_INT64, one, 1, &key, 8, &keys));
    OK(apus_tensor_create(APUS_FLOAT32, many, 2, NULL, 0, &rows));
    FAILS(apus_map_create(keys, rows, &map), APUS_INVALID_ARGUMENT, "1 keys for values of shape [1099511627776, 0]");
    FAILS(apus_map_create(keys, keys, NULL), APUS_INVALID_ARGUMENT, "result is NULL");
    apus_value_release(rows);
    apus_value_release(keys);
}

enum { ROWS = 128, ROW = 16, CACHE = 2 * ROWS * ROW };

// One run that updates `cache`, which is memory of the caller or of a tensor of the library.
static apus_error *update(const apus_model *model, const apus_value *cache, void *memory, size_t size, float number,
                          int64_t position, apus_value **present) {
    int64_t shape[] = {1, 2, 1, ROW}, one[] = {1};
    float numbers[2 * ROW];
    for (int i = 0; i < 2 * ROW; i++) numbers[i] = number + (float)i;
    apus_value *value = NULL, *place = NULL;
    OK(apus_tensor_create(APUS_FLOAT32, shape, 4, numbers, sizeof numbers, &value));
    OK(apus_tensor_create(APUS_INT64, one, 1, &position, 8, &place));
    const char *names[] = {"cache", "update", "position"};
    const apus_value *inputs[] = {cache, value, place};
    apus_buffer buffer = {memory, size};
    apus_error *error = apus_model_run_into(model, names, inputs, 3, NULL, 1, &buffer, NULL, present);
    apus_value_release(value);
    apus_value_release(place);
    return error;
}

// Expects 0 everywhere but in the rows that `update` has written.
static void expect_rows(const float *cache, const int *positions, const float *numbers, int count) {
    for (int head = 0; head < 2; head++) {
        for (int row = 0; row < ROWS; row++) {
            float first = 0;
            bool is_written = false;
            for (int i = 0; i < count; i++) {
                if (positions[i] != row) continue;
                first = numbers[i] + (float)(head * ROW);
                is_written = true;
            }
            for (int column = 0; column < ROW; column++) {
                EXPECT(cache[(head * ROWS + row) * ROW + column] == (is_written ? first + (float)column : 0));
            }
        }
    }
}

// Runs that are given `cache` away, which lies at `data`.
static void donating(const apus_model *model, apus_value *cache, const void *data) {
    int64_t shape[] = {1, 2, 1, ROW}, one[] = {1}, position = 5;
    float numbers[2 * ROW] = {7};
    apus_value *value = NULL, *place = NULL, *present = NULL, *second = NULL;
    OK(apus_tensor_create(APUS_FLOAT32, shape, 4, numbers, sizeof numbers, &value));
    OK(apus_tensor_create(APUS_INT64, one, 1, &position, 8, &place));
    const char *names[] = {"cache", "update", "position"}, *wrong[] = {"nothing", "update", "position"};
    const bool donated[] = {true, false, false};
    // What nobody else has is written over, and its handle is gone.
    apus_value *inputs[] = {cache, value, place};
    OK(apus_model_run_donating(model, names, inputs, donated, 3, NULL, 1, NULL, &present));
    EXPECT(inputs[0] == NULL && inputs[1] == value && inputs[2] == place);
    EXPECT(apus_tensor_data(present) == data && ((const float *)data)[5 * ROW] == 7);
    // What a sequence holds too stays as it is.
    const apus_value *elements[] = {present};
    apus_value *sequence = NULL, *element = NULL;
    OK(apus_sequence_create(elements, 1, NULL, &sequence));
    numbers[0] = 8;
    apus_value_release(value);
    OK(apus_tensor_create(APUS_FLOAT32, shape, 4, numbers, sizeof numbers, &value));
    apus_value *again[] = {present, value, place};
    OK(apus_model_run_donating(model, names, again, donated, 3, NULL, 1, NULL, &second));
    OK(apus_sequence_element(sequence, 0, &element));
    EXPECT(again[0] == NULL && ((const float *)apus_tensor_data(element))[5 * ROW] == 7);
    EXPECT(((const float *)apus_tensor_data(second))[5 * ROW] == 8);
    apus_value_release(element);
    apus_value_release(sequence);
    // A run that fails has taken it all the same; nothing is given away without `donated`.
    apus_value *kept[] = {second, value, place};
    OK(apus_model_run_donating(model, names, kept, NULL, 3, NULL, 1, NULL, &present));
    EXPECT(kept[0] == second && apus_tensor_data(present) != apus_tensor_data(second));
    FAILS(apus_model_run_donating(model, wrong, kept, donated, 3, NULL, 1, NULL, &element), APUS_INVALID_INPUT,
          "nothing");
    EXPECT(kept[0] == NULL && element == NULL);
    apus_value *last[] = {present, value, place};
    FAILS(apus_model_run_donating(NULL, names, last, donated, 3, NULL, 1, NULL, &element), APUS_INVALID_ARGUMENT,
          "model is NULL");
    EXPECT(last[0] == NULL && last[1] == value);
    FAILS(apus_model_run_donating(model, names, NULL, donated, 3, NULL, 1, NULL, &element), APUS_INVALID_ARGUMENT,
          "input 'cache' is NULL");
    apus_value_release(value);
    apus_value_release(place);
}

int apus_c_state_program(const void *bytes, size_t size) {
    problems = 0;
    apus_model *model = NULL;
    OK(apus_model_load_bytes(bytes, size, NULL, NULL, &model));
    if (!model) return problems + 1;
    static float memory[CACHE];
    memset(memory, 0, sizeof memory);
    int64_t shape[] = {1, 2, ROWS, ROW};
    int positions[] = {3, 127, 0};
    float numbers[] = {100, 200, 300};
    apus_value *cache = NULL, *present = NULL;
    // Memory of the caller.
    OK(apus_tensor_create_borrowed(APUS_FLOAT32, shape, 4, memory, sizeof memory, NULL, NULL, &cache));
    for (int step = 0; step < 3; step++) {
        OK(update(model, cache, memory, sizeof memory, numbers[step], positions[step], &present));
        EXPECT(apus_tensor_data(present) == memory && apus_tensor_rank(present) == 4);
        EXPECT(apus_tensor_element_type(present) == APUS_FLOAT32 && apus_tensor_shape(present)[2] == ROWS);
        apus_value_release(present);
        expect_rows(memory, positions, numbers, step + 1);
    }
    // Buffers that are no input, too small, or too far.
    static float other[CACHE];
    OK(update(model, cache, other, sizeof other, 100, 3, &present));
    EXPECT(memcmp(other, memory, sizeof memory) == 0);
    apus_value_release(present);
    FAILS(update(model, cache, other, sizeof other - 4, 1, 3, &present), APUS_INVALID_INPUT, "has 16380 bytes");
    FAILS(update(model, cache, other, SIZE_MAX, 1, 3, &present), APUS_INVALID_ARGUMENT, "is larger than memory");
    const char *result = apus_value_info_name(apus_model_output(model, 0)), *twice[] = {result, result};
    apus_buffer buffers[] = {{other, sizeof other}, {memory, sizeof memory}};
    apus_value *both[2] = {0};
    FAILS(apus_model_run_into(model, NULL, NULL, 0, twice, 2, buffers, NULL, both), APUS_INVALID_ARGUMENT,
          "there are two buffers for output");
    FAILS(update(model, cache, other, sizeof other, 1, ROWS, &present), APUS_FAILED_NODE, "write_indices");
    EXPECT(present == NULL);
    apus_value_release(cache);
    // Memory of the library.
    void *data = NULL;
    OK(apus_tensor_create(APUS_FLOAT32, shape, 4, memory, sizeof memory, &cache));
    OK(apus_tensor_data_mutable(cache, &data));
    memset(data, 0, sizeof memory);
    OK(update(model, cache, data, sizeof memory, 200, 127, &present));
    EXPECT(apus_tensor_data(cache) == data && apus_tensor_data(present) == data);
    expect_rows(data, positions + 1, numbers + 1, 1);
    apus_value_release(present);
    // Without a buffer the input stays as it is.
    OK(update(model, cache, NULL, 0, 300, 0, &present));
    EXPECT(apus_tensor_data(present) != data);
    expect_rows(data, positions + 1, numbers + 1, 1);
    expect_rows(apus_tensor_data(present), positions + 1, numbers + 1, 2);
    apus_value_release(present);
    donating(model, cache, data);
    apus_model_release(model);
    return problems;
}

static void converting(const char *path) {
    apus_conversion *conversion = NULL;
    const char *target = "apus_c_program.textproto";
    OK(apus_convert(path, target, NULL, &conversion));
    EXPECT(strstr(apus_conversion_report(conversion), "\"to\" : \"textproto\"") != NULL);
    apus_conversion_release(conversion);
    FAILS(apus_convert(path, target, "{\"opset\": 3}", &conversion), APUS_INVALID_ARGUMENT, "opset is 3");
    FAILS(apus_convert(path, target, "{\"opst\": 13}", &conversion), APUS_INVALID_ARGUMENT, "opset");
    FAILS(apus_convert(path, target, "{\"rename\": {\"z\": \"y\"}}", &conversion), APUS_UNSUPPORTED, "'z'");
    FAILS(apus_convert("none.onnx", target, NULL, &conversion), APUS_CANNOT_READ, "none.onnx");
    FAILS(apus_convert(NULL, target, NULL, &conversion), APUS_INVALID_ARGUMENT, "path is NULL");
    EXPECT(conversion == NULL && apus_conversion_report(NULL) == NULL);
    remove(target);
}

int apus_c_program(const char *path, const float *pixels, size_t count, const float *expected) {
    problems = 0;
    EXPECT(apus_api_version() >= APUS_API_VERSION && strlen(apus_version()) > 0);
    loading(path);
    converting(path);
    engines(path);
    apus_model *model = NULL;
    OK(apus_model_load_file(path, NULL, &model));
    if (!model) return problems + 1;
    inspecting(model);
    running(model, pixels, count, expected);
    running_in_order(model, pixels, count, expected);
    apus_model_release(model);
    tensors();
    strings();
    containers();
    rows_without_bytes();
    return problems;
}
