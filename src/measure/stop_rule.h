// How many repetitions are enough.
#ifndef MEASURE_STOP_RULE_H
#define MEASURE_STOP_RULE_H

struct stop_rule {
    int reps;           // exactly so many; 0: by the rest
    double noise;       // wanted half-width of the 95 % interval of the mean, as a fraction of the mean
    double max_seconds; // no more once so long was spent; 0: no limit on the first 5 or `reps`, 20 s beyond
};

enum { STOP_RULE_LEAST = 5, STOP_RULE_MOST = 100 };
#define STOP_RULE_NOISE 0.01   // where nothing else is asked for
#define STOP_RULE_LONG_RUN 10. // seconds; automatic repetitions of a longer run are 1

// Repetitions wanted in all, given the tok/s of the `done` ones, the seconds they took together and what one
// takes (an estimate when none is done, < 0: not known). Enough when it equals `done`.
int stop_rule_wanted(const struct stop_rule *rule, const double *tok_s, int done, double spent,
                     double run_seconds);

// Half-width of the 95 % interval of the mean as a fraction of the mean.
double stop_rule_noise_of(const double *tok_s, int done);

#endif
