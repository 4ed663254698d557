// Hugging Face's config.json.
#ifndef MODELS_CONFIG_JSON_H
#define MODELS_CONFIG_JSON_H

#include "models/gpt2.h"

// Fields that change the mathematics are honoured or refused by name; what is missing has the value that
// Hugging Face's GPT2Config gives it, except for the sizes, which must be there.
CHECKED enum status config_json_read(const char *path, struct gpt2_config *config, struct error *error);

#endif
