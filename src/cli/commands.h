// The commands. Each writes its results to options->output_file or standard output, notes to standard error.
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "base/status.h"
#include "cli/options.h"

#include <signal.h>

// `interrupt` becomes nonzero when the user wants to stop; what is finished by then is still written.
typedef enum status command_function(const struct options *options, const volatile sig_atomic_t *interrupt,
                                     struct error *error);

command_function cmd_bench, cmd_generate, cmd_score, cmd_tokenize, cmd_info, cmd_predict, cmd_plot,
    cmd_compare;

#endif
