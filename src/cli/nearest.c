// Guesses what a mistyped name meant.
#include "cli/options.h"

#include <string.h>

enum { LONGEST = 63 };

static int smallest(int a, int b, int c) {
    int least = a < b ? a : b;
    return least < c ? least : c;
}

// Levenshtein distance of two names of at most LONGEST characters, one row of the table at a time.
static int edit_distance(const char *from, const char *to) {
    int row[LONGEST + 1];
    int to_length = (int)strlen(to);
    for (int j = 0; j <= to_length; j++) row[j] = j;
    for (int i = 1; from[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= to_length; j++) {
            int above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (from[i - 1] != to[j - 1]));
            diagonal = above;
        }
    }
    return row[to_length];
}

const char *nearest_name(const char *word, const char *const *names, size_t count) {
    size_t length = strlen(word);
    if (length < 2 || length > LONGEST) return NULL;
    const char *nearest = NULL;
    int nearest_distance = 1 + (int)((length < 9 ? length : 9) + 2) / 3; // a slip in three letters
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) > LONGEST) continue;
        // --temp is near --temperature.
        bool abbreviation = length >= 3 && strncmp(word, names[i], length) == 0;
        int distance = abbreviation ? 1 : edit_distance(word, names[i]);
        if (distance < nearest_distance) {
            nearest = names[i];
            nearest_distance = distance;
        }
    }
    return nearest;
}
