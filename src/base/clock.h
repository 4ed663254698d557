// The one clock: every duration in the program is a difference of its readings.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#ifdef __cplusplus
extern "C" {
#endif

// Seconds since some fixed moment, never stepped back by a change of the wall clock (CLOCK_MONOTONIC).
double clock_seconds(void);

#ifdef __cplusplus
}
#endif
#endif
