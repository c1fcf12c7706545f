/* Apus from C and from every language that can call C: load an ONNX model, inspect it, run it on tensors, sequences,
 * maps and optionals. This interface is stable: later versions of the library add functions and constants and change
 * none.
 *
 *     apus_model *model = NULL;
 *     apus_error *error = apus_model_load_file("digits.onnx", NULL, &model);
 *     if (error) { fprintf(stderr, "%s\n", apus_error_message(error)); apus_error_release(error); return 1; }
 *
 * Errors. A function that can fail returns an `apus_error *`: NULL means success, anything else belongs to the caller,
 * who gives it back with `apus_error_release`. A function that fails leaves NULL in its result. A handle or text that
 * must be there and is NULL is such an error. No exception and no signal crosses this interface; functions that cannot
 * fail answer a NULL handle with 0, NULL or false.
 *
 * Memory. A handle that a function hands out through its last parameter or returns from `…_create` belongs to the
 * caller until `…_release`, which accepts NULL. What a handle needs it keeps: values outlive the model that computed
 * them, a sequence may be released before its elements or after them, options as soon as the model is loaded. Pointers
 * to texts and elements belong to the handle they were asked of and live as long as it does. What a caller passes in
 * (texts, shapes, arrays of handles, elements) is copied or read before the function returns; the one exception is the
 * memory lent by `apus_tensor_create_borrowed`. Outputs of a run never lie in memory that was lent for its inputs, but
 * for those that `apus_model_run_into` is told to write there. All texts are UTF-8 and end with a zero byte.
 *
 * Threads. A model may be run, and a value read, by any number of threads at once; runs of one model share its weights.
 * A cancellation may be set by any thread at any time. Options, `apus_tensor_data_mutable` and every `…_release` need
 * the handle for themselves.
 *
 * Forks. Models and values that were made before a fork may be used in the child; a model starts its threads there
 * anew. A fork waits, for at most a second, until no call is in progress; in the child of a fork that found one in
 * progress all the same, every call that can fail fails.
 */
#ifndef APUS_H
#define APUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. A library serves every program that was compiled with this version or an earlier one. */
#define APUS_API_VERSION 8

/* The version of the interface that the library has: at least `APUS_API_VERSION` of the header, or the library is too
 * old. */
int32_t apus_api_version(void);

/* The version of the library, as in "0.1.0". */
const char *apus_version(void);

/* Makes the operators that draw random numbers without a seed of their own draw the same ones in each process with this
 * seed, run by run. */
void apus_set_seed(int64_t seed);

/* MARK: - Constants */

/* Codes of errors. More may come. */
enum {
    APUS_INVALID_ARGUMENT = 1,  /* An argument of the call, or a variable of the environment, is missing or wrong. */
    APUS_CANNOT_READ = 2,       /* The file cannot be opened or read. */
    APUS_MALFORMED = 3,         /* The bytes break the format. */
    APUS_WRONG_FORMAT = 4,      /* The bytes are of another format. */
    APUS_EXTERNAL_DATA = 5,     /* A side file is missing, too short, or outside the folder of the model. */
    APUS_INVALID_MODEL = 6,     /* The model was read and cannot run; the message lists every problem. */
    APUS_INVALID_INPUT = 7,     /* Names, types or shapes of inputs, or names of outputs, do not fit the model. */
    APUS_FAILED_NODE = 8,       /* A node met data or shapes that it cannot work on. */
    APUS_LIMIT_EXCEEDED = 9,    /* A limit on sizes or memory was reached. */
    APUS_UNSUPPORTED = 10,      /* The specification allows it; this library does not do it. */
    APUS_CANCELLED = 11,        /* The run was cancelled or its time was over. */
    APUS_OTHER = 12,            /* Anything else. */
    APUS_NOTHING_TO_DO = 13,    /* Nothing in the model can be compressed in the way that was asked for. */
    APUS_TARGET_NOT_MET = 14    /* The accuracy that was asked for cannot be reached. */
};

/* Kinds of values. More may come. */
enum {
    APUS_UNKNOWN = 0,
    APUS_TENSOR = 1,
    APUS_SEQUENCE = 2,
    APUS_MAP = 3,
    APUS_OPTIONAL = 4
};

/* How urgent runs are, compared with those of other models on the same engine. As long as more urgent runs want all
 * processors, others stand still, but for a small share of the time. Results do not depend on it. */
enum {
    APUS_PRIORITY_BACKGROUND = -1,
    APUS_PRIORITY_NORMAL = 0,
    APUS_PRIORITY_HIGH = 1
};

/* Element types, with the numbers of ONNX's TensorProto.DataType. Elements of less than 8 bits are packed without
 * gaps, the first in the lowest bits of the first byte. Complex numbers are two floats, the real part first. */
enum {
    APUS_FLOAT32 = 1,
    APUS_UINT8 = 2,
    APUS_INT8 = 3,
    APUS_UINT16 = 4,
    APUS_INT16 = 5,
    APUS_INT32 = 6,
    APUS_INT64 = 7,
    APUS_STRING = 8,
    APUS_BOOL = 9, /* One byte, 0 or 1. */
    APUS_FLOAT16 = 10,
    APUS_FLOAT64 = 11,
    APUS_UINT32 = 12,
    APUS_UINT64 = 13,
    APUS_COMPLEX64 = 14,
    APUS_COMPLEX128 = 15,
    APUS_BFLOAT16 = 16,
    APUS_FLOAT8E4M3FN = 17,
    APUS_FLOAT8E4M3FNUZ = 18,
    APUS_FLOAT8E5M2 = 19,
    APUS_FLOAT8E5M2FNUZ = 20,
    APUS_UINT4 = 21,
    APUS_INT4 = 22,
    APUS_FLOAT4E2M1 = 23,
    APUS_FLOAT8E8M0 = 24,
    APUS_UINT2 = 25,
    APUS_INT2 = 26,
    APUS_FLOAT6E2M3 = 27,
    APUS_FLOAT6E3M2 = 28
};

typedef struct apus_error apus_error;
typedef struct apus_engine apus_engine;
typedef struct apus_options apus_options;
typedef struct apus_model apus_model;
typedef struct apus_value_info apus_value_info;
typedef struct apus_value apus_value;
typedef struct apus_cancellation apus_cancellation;
typedef struct apus_source apus_source;
typedef struct apus_compressed apus_compressed;
typedef struct apus_conversion apus_conversion;
typedef struct apus_sample apus_sample;

/* MARK: - Errors */

/* One of the codes above; 0 for NULL. */
int32_t apus_error_code(const apus_error *error);

/* What was expected, what was found, and what can be done. */
const char *apus_error_message(const apus_error *error);

void apus_error_release(apus_error *error);

/* MARK: - Engines */

/* Threads, weights and a limit on memory that models share; models whose options name no engine share one that the
 * process has for them. `threads`: all threads, the caller of a run included; 0 for one for each processor that the
 * process may use. `memory_budget`: the bytes that all models on the engine and their runs may hold at a time, results
 * that were not released yet included; 0 for no limit. What does not fit, a load or a run, ends in an error that tells
 * who has how much. */
apus_error *apus_engine_create(int32_t threads, uint64_t memory_budget, apus_engine **engine);

/* The threads that one run may use. */
int32_t apus_engine_thread_count(const apus_engine *engine);

/* 0 for no limit. */
uint64_t apus_engine_memory_budget(const apus_engine *engine);

/* The bytes that models and runs hold at the moment. Counted only with a budget; else 0. */
uint64_t apus_engine_memory_in_use(const apus_engine *engine);

/* Models that were loaded on the engine keep it. */
void apus_engine_release(apus_engine *engine);

/* MARK: - Options of a model */

/* The defaults: every processor that the process may use, all optimizations. */
apus_options *apus_options_create(void);

/* Threads that one run may use, the caller's included; 0 for the processors that the process may use. */
apus_error *apus_options_set_threads(apus_options *options, int32_t threads);

/* The engine of the model; NULL for the one of the process. */
apus_error *apus_options_set_engine(apus_options *options, const apus_engine *engine);

/* How urgent the runs of the model are: one of the priorities above. */
apus_error *apus_options_set_priority(apus_options *options, int32_t priority);

/* Whether the graph is rewritten to run faster. */
apus_error *apus_options_set_optimize(apus_options *options, bool optimize);

/* Leaves out the optimization of that name. */
apus_error *apus_options_disable_pass(apus_options *options, const char *name);

/* Gives the symbolic dimension `name` a size. */
apus_error *apus_options_set_dimension(apus_options *options, const char *name, int64_t size);

/* Gives the input `name` a shape. */
apus_error *apus_options_set_shape(apus_options *options, const char *name, const int64_t *shape, size_t rank);

/* Returns the intermediate value `name` as a further output. */
apus_error *apus_options_add_output(apus_options *options, const char *name);

/* Makes `name`, an initializer that the graph also lists as an input, an input that must be given. */
apus_error *apus_options_override_initializer(apus_options *options, const char *name);

/* Bytes that one run may hold at a time; by default most of the memory of the machine or control group. */
apus_error *apus_options_set_maximum_run_memory(apus_options *options, uint64_t byte_count);

/* Whether the files of the model are mapped instead of read into memory. Weights that are used as they lie in the file
   are then shared with other processes that load it; in return nobody may write to the files or make them shorter while
   the model is loaded: results would change, or the system would end the process. */
apus_error *apus_options_set_map_files(apus_options *options, bool map_files);

/* How exactly matrix products are computed: in "f32", or with weights rounded to "bf16" (bfloat16) in half the memory;
 * on machines with products of bfloat16 both operands are rounded to it. Compiled models keep their weights as they
 * were compiled. */
apus_error *apus_options_set_precision(apus_options *options, const char *name);

/* Whether runs of the model are timed node by node, for `apus_model_write_profile`. */
apus_error *apus_options_set_profiling(apus_options *options, bool profiling);

void apus_options_release(apus_options *options);

/* MARK: - Models */

/* Loads a model from a file. External data is looked for in the file's folder only. `options` may be NULL, and may be
 * released afterwards. */
apus_error *apus_model_load_file(const char *path, const apus_options *options, apus_model **model);

/* Loads a model from the bytes of a file, which are copied. External data is looked for in `folder` only; NULL
 * forbids it. */
apus_error *apus_model_load_bytes(const void *bytes, size_t byte_count, const char *folder, const apus_options *options,
                                  apus_model **model);

/* Writes the model in a file as a compiled one, which loads in milliseconds: the graph after all passes and the weights
 * in the forms that kernels read. `apus_model_load_file` takes it like any other, on machines with the same
 * instructions and in this version of the library; it must stay as it is as long as a model that was loaded from it is
 * there.
 * `options` may be NULL, and may be released afterwards. */
apus_error *apus_model_compile_file(const char *path, const apus_options *options, const char *target);

void apus_model_release(apus_model *model);

/* Inputs and outputs in the order of the file, without initializers. NULL beyond the last. */
size_t apus_model_input_count(const apus_model *model);
const apus_value_info *apus_model_input(const apus_model *model, size_t index);
size_t apus_model_output_count(const apus_model *model);
const apus_value_info *apus_model_output(const apus_model *model, size_t index);

/* Initializers that the graph also lists as inputs: what `apus_options_override_initializer` accepts, without those
 * that it was given. NULL beyond the last. */
size_t apus_model_overridable_count(const apus_model *model);
const apus_value_info *apus_model_overridable(const apus_model *model, size_t index);

const char *apus_value_info_name(const apus_value_info *info);

/* The kind of value; `APUS_UNKNOWN` where the model does not tell. */
int32_t apus_value_info_kind(const apus_value_info *info);

/* The type without shapes: "tensor(float)", "seq(tensor(int64))", "optional(tensor(string))",
 * "map(string,tensor(float))"; empty where the model does not tell. */
const char *apus_value_info_type(const apus_value_info *info);

/* The element type of a tensor; 0 for other kinds. */
int32_t apus_value_info_element_type(const apus_value_info *info);

/* The number of axes of a tensor; -1 if it is unknown, and for other kinds. */
int32_t apus_value_info_rank(const apus_value_info *info);

/* The extent of an axis; -1 where it is no number. */
int64_t apus_value_info_dimension(const apus_value_info *info, int32_t axis);

/* The symbol or expression of an axis, as in "batch" and "2*width+1"; NULL where it is a number or unknown. */
const char *apus_value_info_symbol(const apus_value_info *info, int32_t axis);

/* What the file says of itself; texts may be empty. */
const char *apus_model_graph_name(const apus_model *model);
const char *apus_model_producer_name(const apus_model *model);
const char *apus_model_producer_version(const apus_model *model);
const char *apus_model_domain(const apus_model *model);
const char *apus_model_description(const apus_model *model);
int64_t apus_model_version(const apus_model *model);
int64_t apus_model_ir_version(const apus_model *model);

/* The entries of the file's metadata. NULL beyond the last. */
size_t apus_model_metadata_count(const apus_model *model);
const char *apus_model_metadata_key(const apus_model *model, size_t index);
const char *apus_model_metadata_value(const apus_model *model, size_t index);

/* The operator sets that the file uses, by the name of the domain. NULL and 0 beyond the last. */
size_t apus_model_opset_count(const apus_model *model);
const char *apus_model_opset_domain(const apus_model *model, size_t index);
int64_t apus_model_opset_version(const apus_model *model, size_t index);

/* The threads that one run may use. */
int32_t apus_model_thread_count(const apus_model *model);

/* Frees the working memory that runs have left; the next run takes new memory. */
void apus_model_release_memory(const apus_model *model);

/* Writes what runs of a model that was loaded with profiling have taken since the last call, as a Chrome trace: a file
 * of JSON that chrome://tracing and Perfetto show. The file is replaced at once or not at all. */
apus_error *apus_model_write_profile(const apus_model *model, const char *path);

/* MARK: - Running */

/* A wish to end runs early. It is set by `apus_cancellation_cancel`, or by itself `seconds` after its creation if
 * that is a positive number. */
apus_cancellation *apus_cancellation_create(double seconds);

/* Ends the runs that were started with it, within one part of one node, and those that will be. */
void apus_cancellation_cancel(const apus_cancellation *cancellation);

void apus_cancellation_release(apus_cancellation *cancellation);

/* Runs the model on `input_count` values by name. `outputs` receives a handle for each name of `output_names`; with
 * `output_names` NULL, for each output of the model. `output_count` is the number of places in `outputs`, which must
 * fit.
 * `cancellation` may be NULL. */
apus_error *apus_model_run(const apus_model *model, const char *const *input_names, const apus_value *const *inputs,
                           size_t input_count, const char *const *output_names, size_t output_count,
                           const apus_cancellation *cancellation, apus_value **outputs);

/* The same without names: `inputs` are the values of all inputs in the order of the model's, and `outputs` receives a
 * handle for each number of `output_indices`; with `output_indices` NULL, for each output of the model. The cheapest
 * way to run. */
apus_error *apus_model_run_in_order(const apus_model *model, const apus_value *const *inputs, size_t input_count,
                                    const size_t *output_indices, size_t output_count,
                                    const apus_cancellation *cancellation, apus_value **outputs);

/* Memory of the caller, for one output: of exactly as many bytes as the output has for the inputs of the run. */
typedef struct apus_buffer {
    void *data;
    size_t byte_count;
} apus_buffer;

/* `apus_model_run` with places for outputs. `buffers` has an entry for each output asked for, with `data` NULL for
 * outputs in memory of the library. An output with a buffer is written there, and its handle in `outputs` is a tensor
 * over the buffer, as if made by `apus_tensor_create_borrowed`. Buffers must not overlap one another.
 *
 * A buffer may be the memory of an input: all of a borrowed one, or what `apus_tensor_data_mutable` gave. So a model
 * updates its state, as a key/value cache of fixed size: where the model allows it only what changes is written, and
 * nothing is copied. If the run fails or is cancelled, what such a buffer holds is undefined. Nobody else may read or
 * write a buffer during the run.
 *
 * Since version 4. */
apus_error *apus_model_run_into(const apus_model *model, const char *const *input_names,
                                const apus_value *const *inputs, size_t input_count,
                                const char *const *output_names, size_t output_count,
                                const apus_buffer *buffers, const apus_cancellation *cancellation,
                                apus_value **outputs);

/* `apus_model_run` that gives inputs away: those whose entry of `donated` is true are released by the call, whatever
 * comes of it, and NULL stands in their places afterwards. Where a step of the model can write its result over such a
 * tensor, and no later one needs that, it does: state that the model updates costs no copy. A tensor that something
 * else refers to as well (another handle, a sequence, another input), and memory that was lent, are left as they are,
 * so giving away changes what a run costs and nothing else.
 *
 * Since version 5. */
apus_error *apus_model_run_donating(const apus_model *model, const char *const *input_names, apus_value **inputs,
                                    const bool *donated, size_t input_count, const char *const *output_names,
                                    size_t output_count, const apus_cancellation *cancellation, apus_value **outputs);

/* MARK: - Making values */

/* Called once, by any thread, when the library no longer uses memory that it had borrowed. */
typedef void (*apus_release_function)(void *context);

/* A tensor over memory of the caller, without a copy. `data` holds the elements in row-major order, `byte_count` bytes
 * of them at least, at any address. During a run with the tensor it must not change; between runs it may be filled
 * anew, and the next run sees what it holds then. It must stay readable until `release` is called with `context`: when
 * the tensor, and every sequence, map and optional that was made of it, is released. Without `release`, until then. If
 * the function fails, `release` is not called. */
apus_error *apus_tensor_create_borrowed(int32_t element_type, const int64_t *shape, size_t rank, const void *data,
                                        size_t byte_count, apus_release_function release, void *context,
                                        apus_value **tensor);

/* A tensor with a copy of the elements. */
apus_error *apus_tensor_create(int32_t element_type, const int64_t *shape, size_t rank, const void *data,
                               size_t byte_count, apus_value **tensor);

/* A tensor of strings, copied: as many as the shape has elements. `lengths` are their bytes; with NULL, each ends
 * with a zero byte. Strings must be valid UTF-8. */
apus_error *apus_tensor_create_strings(const int64_t *shape, size_t rank, const char *const *strings,
                                       const size_t *lengths, apus_value **tensor);

/* A sequence of values, which the caller keeps. `element_type` is a type as `apus_value_info_type` has it; NULL takes
 * that of the first element, which there must be then. */
apus_error *apus_sequence_create(const apus_value *const *elements, size_t count, const char *element_type,
                                 apus_value **sequence);

/* A map. `keys` is a tensor of rank 1 of strings or integers, each different; `values` is a sequence of as many
 * values, or a tensor with as many elements along its first axis. The caller keeps both. */
apus_error *apus_map_create(const apus_value *keys, const apus_value *values, apus_value **map);

/* An optional that holds `content`, which the caller keeps, or nothing if it is NULL. `content_type` is a type as
 * `apus_value_info_type` has it; NULL takes that of the content, which there must be then. */
apus_error *apus_optional_create(const apus_value *content, const char *content_type, apus_value **optional);

void apus_value_release(apus_value *value);

/* MARK: - Reading values */

int32_t apus_value_kind(const apus_value *value);

/* These answer 0 and NULL for what is no tensor. The shape of a tensor of rank 0 is not NULL. */
int32_t apus_tensor_element_type(const apus_value *tensor);
size_t apus_tensor_rank(const apus_value *tensor);
const int64_t *apus_tensor_shape(const apus_value *tensor);
size_t apus_tensor_element_count(const apus_value *tensor);
size_t apus_tensor_byte_count(const apus_value *tensor);

/* The elements in row-major order, at any address; they must not be written. NULL for strings. */
const void *apus_tensor_data(const apus_value *tensor);

/* The elements for writing; the pointer is good until the next call of this function. Those that other handles share,
 * weights, and borrowed memory are copied first, so that pointers of `apus_tensor_data` may be invalid afterwards.
 * Fails for strings. */
apus_error *apus_tensor_data_mutable(apus_value *tensor, void **data);

/* One string of a tensor of strings. `length`, which may be NULL, receives its bytes without the zero byte at the
 * end. */
apus_error *apus_tensor_string(const apus_value *tensor, size_t index, const char **text, size_t *length);

/* All strings of a tensor in one block: string i begins at `offsets[i]`, ends with a zero byte, and takes
 * `offsets[i + 1] - offsets[i]` bytes with that. */
apus_error *apus_tensor_strings(const apus_value *tensor, const char **block, const size_t **offsets);

/* 0 for what is no sequence. */
size_t apus_sequence_count(const apus_value *sequence);
apus_error *apus_sequence_element(const apus_value *sequence, size_t index, apus_value **element);

/* The keys: a tensor of rank 1. */
apus_error *apus_map_keys(const apus_value *map, apus_value **keys);

/* The values in the order of the keys: one tensor with a further axis in front if all are tensors of one type and
 * shape, else a sequence. */
apus_error *apus_map_values(const apus_value *map, apus_value **values);

/* False for what is no optional. */
bool apus_optional_has_value(const apus_value *optional);

/* The content; NULL, without an error, if there is none. */
apus_error *apus_optional_content(const apus_value *optional, apus_value **content);

/* MARK: - Compression
 *
 * A model is read as a source, of which any number of smaller models is made: on integers, with weights of few bits, in
 * 16 bits, pruned, clustered. What is made can be saved, run, and has a report of what it costs.
 *
 *     apus_source *source = NULL;
 *     apus_compressed *small = NULL;
 *     apus_error *error = apus_source_read_file("bert.onnx", NULL, &source);
 *     if (!error) error = apus_source_quantize(source, "{\"dynamic\": true}", NULL, &small);
 *     if (!error) error = apus_compressed_save(small, "bert-int8.onnx", 0);
 *
 * Options are a JSON object with the options of the commands `apus quantize`, `apus prune` and `apus cluster` by their
 * names, with underscores: {"weights": "int4", "block": 32, "method": "gptq"}. Options that are switches take true and
 * false; those that may be repeated take arrays; `block` is 0 for one scale a channel; `weight_type` is an array of
 * pairs [pattern, type]; `overrides`, `fractions` and `importance` are the objects that their files hold. An option
 * that is unknown, or of no use with the others, is an error. docs/quantization.md and docs/compression.md tell more.
 *
 * Since version 7. */

/* Reads a model to be compressed, as `apus_model_load_file` and `apus_model_load_bytes` do. Of `options`, which may be
 * NULL, the dimensions, shapes, passes, threads, engine, limits and the mapping of files count. */
apus_error *apus_source_read_file(const char *path, const apus_options *options, apus_source **source);
apus_error *apus_source_read_bytes(const void *bytes, size_t byte_count, const char *folder,
                                   const apus_options *options, apus_source **source);

/* The inputs of the model, which samples give. NULL beyond the last. */
size_t apus_source_input_count(const apus_source *source);
const apus_value_info *apus_source_input(const apus_source *source, size_t index);

void apus_source_release(apus_source *source);

/* Gives a sample the value of an input. The elements are copied if they are borrowed. */
apus_error *apus_sample_set(apus_sample *sample, const char *input, const apus_value *value);

/* What the library asks of its caller while it quantizes. The functions are called one at a time, before the call of
 * `apus_source_quantize` returns, by its thread or, in a process that was forked, by one that works for it; they may
 * call every function of the library. One that returns false ends the quantization, whose error is then
 * `APUS_CANCELLED`. Each may be NULL. */
typedef struct apus_quantization_calls {
    /* Handed to the functions. */
    void *context;
    /* Gives `sample` a value for each input; leaves it empty when there are no more samples. Memory does not grow with
     * their number but for the methods gptq and awq, which keep them. NULL: there are no samples. */
    bool (*next_sample)(void *context, apus_sample *sample);
    /* Begins anew: the sample that follows is the first one. Called before the first sample too, and then as often as
     * the options need it; the samples must be the same each time. */
    bool (*restart_samples)(void *context);
    /* The number of samples, for `progress`; -1 if it is not known. */
    int64_t sample_count;
    /* Measures how good a model is, for `target_accuracy`; more is better. The model belongs to the function, which
     * releases it. */
    bool (*measure)(void *context, apus_model *model, double *quality);
    /* Is told what is being done, how much of it, and of how much; -1 if that is not known. */
    bool (*progress)(void *context, const char *stage, int64_t done, int64_t all);
} apus_quantization_calls;

/* Makes a model of integers, of weights in few bits, or of 16 bits, as the options say; with samples and without other
 * options, of integers whose scales the samples show. `calls` may be NULL. Nothing is written but what the options
 * `save_calibration` and `tensorrt_cache` name. */
apus_error *apus_source_quantize(const apus_source *source, const char *options, const apus_quantization_calls *calls,
                                 apus_compressed **result);

apus_error *apus_source_prune(const apus_source *source, const char *options, apus_compressed **result);
apus_error *apus_source_cluster(const apus_source *source, const char *options, apus_compressed **result);

/* The zeros of the weights, as `apus sparsity --json` prints them. The text belongs to the source. */
apus_error *apus_source_sparsity(const apus_source *source, const char **report);

/* What was done and what it costs: the JSON object that the command prints with --json, without what it measures of
 * files and speed. */
const char *apus_compressed_report(const apus_compressed *compressed);

/* The report as a page of HTML; NULL for what has none. */
const char *apus_compressed_page(const apus_compressed *compressed);

/* Writes the model as ONNX; weights of more than 1.5 GB go to a file beside it, `path` with ".data" behind it. Files
 * are replaced when the new ones are whole. `opset`: the operator set to write; 0 for the lowest that holds the
 * model. */
apus_error *apus_compressed_save(const apus_compressed *compressed, const char *path, int64_t opset);

/* The model as the bytes of an ONNX file; they belong to `compressed`. Fails for more than 1.5 GB of weights. */
apus_error *apus_compressed_bytes(const apus_compressed *compressed, const void **bytes, size_t *byte_count);

/* The model, ready to run. `options` may be NULL; dimensions and shapes are bound already. */
apus_error *apus_compressed_load(const apus_compressed *compressed, const apus_options *options, apus_model **model);

void apus_compressed_release(apus_compressed *compressed);

/* MARK: - Conversion
 *
 * Since version 8. */

/* Reads the model at `path`, of any format that `apus formats` lists, and writes it to `output`, in the format that the
 * name says. Options are a JSON object with those of the command `apus convert` by their names, with underscores:
 * {"opset": 17, "dim": {"batch": 1}, "rename": {"input_1": "image"}, "nhwc_inputs": true, "mean": [0.5]}. `dim`,
 * `shape`, `rename`, `layout` and `metadata` are objects, `picture`, `keep` and `drop_metadata` arrays; NULL: none. The
 * target gets its name when the checker has passed the model. `conversion` says what was done. */
apus_error *apus_convert(const char *path, const char *output, const char *options, apus_conversion **conversion);

/* The JSON object that `apus convert --json` prints. The text belongs to `conversion`. */
const char *apus_conversion_report(const apus_conversion *conversion);

void apus_conversion_release(apus_conversion *conversion);

#ifdef __cplusplus
}
#endif

#endif
