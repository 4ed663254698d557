// How every part reports failure: a status for the program, a message for the person.
//
// A function that can fail returns `enum status` and fills the `struct error` its caller passed. Nothing in
// the library prints, exits or aborts on input; main turns the status into the exit code, which is why the
// numbers below are the documented exit codes.
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum status {
    STATUS_OK = 0,
    STATUS_FAILED = 1,        // a file, a device or the system refused
    STATUS_USAGE = 2,         // the command line or a request asks for something that cannot be
    STATUS_MISMATCH = 3,      // two arms of a comparison disagree
    STATUS_OUT_OF_MEMORY = 4, // host or device; the message carries what was asked for
    STATUS_REGRESSION = 5,    // compare found a slower result and was told to fail on it
    STATUS_INTERRUPTED = 130, // Ctrl-C; what was finished has been reported
};

struct error {
    char message[2048]; // one or more lines without a final newline; empty while nothing failed
};

#define CHECKED __attribute__((warn_unused_result))

// Formats the message and returns `status`, so that a failure is one line: return error_set(error, ..., ...).
CHECKED enum status error_set(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "context: " before a message that a callee wrote, e.g. the file it was found in.
void error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Returns from the enclosing function when `call` fails. Only for functions that own nothing yet.
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        enum status try_status_ = (call);                                                                    \
        if (try_status_ != STATUS_OK) return try_status_;                                                    \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
