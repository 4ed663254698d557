// Doubles within an absolute tolerance; cmocka's own assert_float_equal rounds to float.
#ifndef TESTS_SUPPORT_ASSERT_CLOSE_H
#define TESTS_SUPPORT_ASSERT_CLOSE_H

#include <math.h>

#define assert_close(found, expected, tolerance)                                                             \
    do {                                                                                                     \
        const double found_ = (found), expected_ = (expected);                                               \
        if (!(fabs(found_ - expected_) <= (tolerance)))                                                      \
            fail_msg("%s is %.17g, expected %.17g", #found, found_, expected_);                              \
    } while (0)

#endif
