/* Reads 64 numbers from 0 (paper) to 16 (ink) from standard input, an 8 × 8 picture of a digit, and prints what digit
 * it is.
 *
 *     cc digits.c $(pkg-config --cflags --libs apus) -o digits
 *     ./digits digits.onnx < picture.txt
 */
#include <apus.h>
#include <stdio.h>

/* Prints and releases an error; true if there was one. */
static int failed(apus_error *error) {
    if (!error) return 0;
    fprintf(stderr, "%s\n", apus_error_message(error));
    apus_error_release(error);
    return 1;
}

static int classify(const apus_model *model, const float *pixels) {
    const int64_t shape[] = {1, 1, 8, 8};
    apus_value *image = NULL, *output = NULL;
    const size_t size = 64 * sizeof *pixels;
    if (failed(apus_tensor_create_borrowed(APUS_FLOAT32, shape, 4, pixels, size, NULL, NULL, &image))) return 1;

    const char *inputs[] = {"input"}, *outputs[] = {"probabilities"};
    const apus_value *values[] = {image};
    int status = failed(apus_model_run(model, inputs, values, 1, outputs, 1, NULL, &output));
    if (!status) {
        const float *scores = apus_tensor_data(output);
        int best = 0;
        for (int digit = 1; digit < 10; digit++)
            if (scores[digit] > scores[best]) best = digit;
        printf("%d (%.1f %%)\n", best, 100 * scores[best]);
    }
    apus_value_release(output);
    apus_value_release(image);
    return status;
}

int main(int count, char **arguments) {
    float pixels[64];
    if (count != 2) return fprintf(stderr, "usage: digits MODEL < PICTURE\n"), 2;
    for (int i = 0; i < 64; i++) {
        if (scanf("%f", &pixels[i]) != 1) return fprintf(stderr, "the picture has %d numbers; expected 64\n", i), 1;
        pixels[i] /= 16;
    }
    apus_model *model = NULL;
    if (failed(apus_model_load_file(arguments[1], NULL, &model))) return 1;
    int status = classify(model, pixels);
    apus_model_release(model);
    return status;
}
