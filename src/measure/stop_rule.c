#include "measure/stop_rule.h"

#include "measure/stats.h"

static const double usual_seconds = 20;

double stop_rule_noise_of(const double *tok_s, int done) {
    struct summary summary = stats_summarize(tok_s, done);
    return (summary.ci95_high - summary.mean) / summary.mean;
}

int stop_rule_wanted(const struct stop_rule *rule, const double *tok_s, int done, double spent,
                     double run_seconds) {
    if (done > 0 && rule->max_seconds > 0 && spent >= rule->max_seconds) return done;
    if (rule->reps > 0) return rule->reps;
    if (done <= 1 && run_seconds > STOP_RULE_LONG_RUN) return 1;
    if (done < STOP_RULE_LEAST) return STOP_RULE_LEAST;
    double limit = rule->max_seconds > 0 ? rule->max_seconds : usual_seconds;
    if (done >= STOP_RULE_MOST || spent >= limit || stop_rule_noise_of(tok_s, done) <= rule->noise)
        return done;
    return done + 1;
}
