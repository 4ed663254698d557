// llm.c checkpoints: 256 int32, then wte (padded V, C), wpe, and each kind of tensor for all layers together,
// linear weights as [out, in].
#include "models/format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_INTS = 256, HEADER_BYTES = HEADER_INTS * 4, MAGIC = 20240326 };
enum {
    FIELD_MAGIC,
    FIELD_VERSION,
    FIELD_CONTEXT,
    FIELD_VOCAB,
    FIELD_LAYERS,
    FIELD_HEADS,
    FIELD_CHANNELS,
    FIELD_PADDED
};

// What another file that may be taken for a checkpoint is.
static const char *foreign_magic_hint(int32_t magic) {
    static const struct {
        int32_t magic;
        const char *hint;
    } known[] = {
        {20240327, ": this is a debug state (gpt2_..._debug_state.bin)"},
        {20240328, ": this is a tokenizer (gpt2_tokenizer.bin)"},
        {20240520, ": these are training tokens"},
        {20240522, ": this is an evaluation set"},
        {20240527, ": this is an optimizer state; the weights are in model_*.bin"},
        {20240803, ": this is a Llama 3 checkpoint"},
        {0x04034B50, ": this is a PyTorch file; save it as safetensors"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (magic == known[i].magic) return known[i].hint;
    return "";
}

static enum status read_header(const struct mapped_file *file, int32_t header[HEADER_INTS],
                               struct error *error) {
    if (file->size < HEADER_BYTES)
        return error_set(error, STATUS_FAILED, "expected an llm.c header of %d bytes, found %zu",
                         HEADER_BYTES, file->size);
    memcpy(header, file->data, HEADER_BYTES);
    if (header[FIELD_MAGIC] != MAGIC) {
        return error_set(error, STATUS_FAILED,
                         "expected an llm.c checkpoint (magic %d), found magic %" PRId32 "%s", MAGIC,
                         header[FIELD_MAGIC], foreign_magic_hint(header[FIELD_MAGIC]));
    }
    if (header[FIELD_VERSION] == 3 || header[FIELD_VERSION] == 5) return STATUS_OK;
    return error_set(error, STATUS_FAILED,
                     "expected an llm.c checkpoint of version 3 (f32) or 5 (bf16), found version %" PRId32
                     "%s",
                     header[FIELD_VERSION],
                     header[FIELD_VERSION] >= 1 && header[FIELD_VERSION] <= 4
                         ? ": an older llm.c wrote it; write it again with today's train_gpt2.py"
                         : "");
}

static enum status config_from_header(const int32_t header[HEADER_INTS], struct gpt2_config *config,
                                      struct error *error) {
    *config = (struct gpt2_config){
        .context = header[FIELD_CONTEXT],
        .vocab = header[FIELD_VOCAB],
        .layers = header[FIELD_LAYERS],
        .heads = header[FIELD_HEADS],
        .channels = header[FIELD_CHANNELS],
        .inner = header[FIELD_CHANNELS] > 0 && header[FIELD_CHANNELS] < INT32_MAX / 4
                     ? 4 * header[FIELD_CHANNELS]
                     : 1,
        .layer_norm_epsilon = 1e-5f,
        .scale_attention = true,
        .tied_lm_head = true,
        .eos_token = header[FIELD_VOCAB] == 50257 ? 50256 : -1,
    };
    TRY(gpt2_config_check(config, error));
    if (header[FIELD_PADDED] >= config->vocab && header[FIELD_PADDED] <= 1 << 25) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "padded vocabulary: expected %d or more, found %" PRId32,
                     config->vocab, header[FIELD_PADDED]);
}

// Elements of one layer's tensor in the file: as in the model, but for the padding rows that follow wte.
static size_t stored_elements(const struct gpt2_config *config, enum gpt2_tensor tensor, int padded_vocab) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, tensor);
    return (size_t)(tensor == GPT2_WTE ? padded_vocab : shape.rows) * (size_t)shape.columns;
}

static int tensor_layers(const struct gpt2_config *config, enum gpt2_tensor tensor) {
    return gpt2_tensor_info(tensor)->per_layer ? config->layers : 1;
}

static enum status check_size(const struct mapped_file *file, const struct model *model, int padded_vocab,
                              struct error *error) {
    size_t elements = 0;
    for (int t = 0; t < GPT2_LMHEAD; t++) {
        elements += stored_elements(&model->config, (enum gpt2_tensor)t, padded_vocab) *
                    (size_t)tensor_layers(&model->config, (enum gpt2_tensor)t);
    }
    size_t expected = HEADER_BYTES + elements * dtype_size(model->stored_dtype);
    if (file->size == expected) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "expected %zu bytes by its header, found %zu%s", expected,
                     file->size, file->size < expected ? ": the file is truncated" : "");
}

static void place_views(const struct mapped_file *file, struct model *model, int padded_vocab) {
    const unsigned char *data = file->data + HEADER_BYTES;
    for (int t = 0; t < GPT2_LMHEAD; t++) {
        for (int layer = 0; layer < tensor_layers(&model->config, (enum gpt2_tensor)t); layer++) {
            *model_view(model, (enum gpt2_tensor)t, layer) =
                (struct tensor_view){.data = data, .dtype = model->stored_dtype, .transposed = false};
            data += stored_elements(&model->config, (enum gpt2_tensor)t, padded_vocab) *
                    dtype_size(model->stored_dtype);
        }
    }
}

static enum status open_mapped(const struct mapped_file *file, struct model *model, struct error *error) {
    int32_t header[HEADER_INTS];
    TRY(read_header(file, header, error));
    TRY(config_from_header(header, &model->config, error));
    model->stored_dtype = header[FIELD_VERSION] == 3 ? DTYPE_F32 : DTYPE_BF16;
    TRY(check_size(file, model, header[FIELD_PADDED], error));
    TRY(model_allocate_views(model, error));
    place_views(file, model, header[FIELD_PADDED]);
    return STATUS_OK;
}

enum status llmc_open(const char *path, struct model *model, struct error *error) {
    model->format = "llm.c";
    model->files = calloc(1, sizeof *model->files);
    if (model->files == NULL)
        return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory to open the model", path);
    TRY(mapped_file_open(path, &model->files[0], error));
    model->file_count = 1;
    enum status status = open_mapped(&model->files[0], model, error);
    if (status != STATUS_OK) error_prefix(error, "%s", path);
    return status;
}
