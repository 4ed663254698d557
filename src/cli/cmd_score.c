#include "cli/commands.h"

enum status cmd_score(const struct options *options, const volatile sig_atomic_t *interrupt,
                      struct error *error) {
    (void)options;
    (void)interrupt;
    return error_set(error, STATUS_FAILED, "score is not part of this build yet");
}
