// An opened model: its configuration and its weights on the host, whichever file format they came from.
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "base/dtype.h"
#include "base/status.h"
#include "models/gpt2.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct model;

// Opens `name`:
//   a directory as Hugging Face publishes it (config.json, model.safetensors or its sharded index),
//   FILE.safetensors with config.json beside it,
//   FILE.bin, an llm.c checkpoint (version 3 or 5),
//   random:NAME or random:L12-C768-H12-V50257-T1024, weights from N(0, 0.02), the same on every machine,
//   or a bare NAME, looked up as models/NAME under the working directory, then beside the executable, then as
//   a directory NAME.
// Every size in every file is proved here; reading afterwards cannot fail. On failure *model is NULL.
// The caller closes the model; it must outlive no backend (a backend copies what it needs when it opens).
CHECKED enum status model_open(const char *name, struct model **model, struct error *error);
void model_close(struct model *model); // NULL is allowed

// The directory that the files of `name` are in, for readers of other files beside the weights: a directory
// itself, the one a file lies in, a bare NAME looked up as model_open does; NULL for random models. Opens
// nothing. The caller frees it. A name that leads nowhere gets model_open's message.
CHECKED enum status model_find_directory(const char *name, char **directory, struct error *error);

// The configuration alone: of a directory or FILE.safetensors from its config.json, whose weights need not
// be there.
CHECKED enum status model_read_config(const char *name, struct gpt2_config *config, struct error *error);

const struct gpt2_config *model_config(const struct model *model);
const char *model_name(const struct model *model); // as the user would name it: "gpt2", "random:gpt2", a path
const char *model_format(const struct model *model); // "safetensors", "llm.c", "random"
// The dtype of wte. Random models are stored in none and say bf16; their values are any f32.
enum dtype model_stored_dtype(const struct model *model);

// The directory to look for tokenizer files in; NULL for random models.
const char *model_directory(const struct model *model);

// Writes one tensor of one layer (layer 0 for tensors that are not per layer) as f32, rows by columns of
// gpt2_tensor_shape, linear weights as [out, in]. Threaded with OpenMP.
void model_read(const struct model *model, enum gpt2_tensor tensor, int layer, float *destination);

#ifdef __cplusplus
}
#endif
#endif
