#include "cli/commands.h"

enum status cmd_generate(const struct options *options, const volatile sig_atomic_t *interrupt,
                         struct error *error) {
    (void)options;
    (void)interrupt;
    return error_set(error, STATUS_FAILED, "generate is not part of this build yet");
}
