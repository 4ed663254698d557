// Pictures of records: well-formed, every figure where it belongs, nothing missing in silence.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/plot.h"
#include "measure/plot_label.h"
#include "tests/support/written_text.h"
#include "tests/support/xml_check.h"

#include <float.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_row(struct bench_record *record, int batch, bool kv_cache, double tok_s, double speedup) {
    struct bench_row row;
    memset(&row, 0, sizeof row);
    row.batch = batch;
    row.kv_cache = kv_cache;
    row.status = tok_s > 0 ? ROW_OK : ROW_OUT_OF_MEMORY;
    row.speedup = speedup;
    for (int i = -1; i <= 1 && tok_s > 0; i++) arrput(row.samples, tok_s * (1 + 0.01 * i));
    row.reps = (int)arrlen(row.samples);
    row.tok_s = stats_summarize(row.samples, row.reps);
    arrput(record->rows, row);
}

static void describe(struct bench_record *record) {
    memset(record, 0, sizeof *record);
    strcpy(record->engine.version, "1.2.3");
    strcpy(record->device.name, "A device");
    record->ceilings = (struct ceilings){.bandwidth = 4e12, .matmul_rate = 8e14, .launch = 2e-6};
    strcpy(record->model.name, "a model");
    record->model.parameters = 124439808;
    record->model.config = (struct gpt2_config){
        .context = 1024, .vocab = 50257, .layers = 12, .heads = 12, .channels = 768, .inner = 3072};
    record->workload = (struct record_workload){
        .prompt_len = 50, .gen_len = 200, .dtype = DTYPE_BF16, .logits = LOGITS_LAST};
}

// 1, 32 and 1024 rows in both arms; the last does not fit without the cache.
static int set_up(void **state) {
    static struct bench_record record;
    describe(&record);
    add_row(&record, 1, true, 2000, 2);
    add_row(&record, 1, false, 1000, 0);
    add_row(&record, 32, true, 40000, 10);
    add_row(&record, 32, false, 4000, 0);
    add_row(&record, 1024, true, 300000, 0);
    add_row(&record, 1024, false, 0, 0);
    *state = &record;
    return 0;
}

static int tear_down(void **state) {
    record_clear(*state);
    return 0;
}

// Places are numbers: no "nan", no "inf".
static void assert_finite(const char *svg) {
    static const char *const attributes[] = {" d=\"", " x=\"", " y=\"", " x1=\"", " y1=\"", " y2=\""};
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        for (const char *at = svg; (at = strstr(at, attributes[i]));) {
            at += strlen(attributes[i]);
            if (at[strspn(at, "MLVHmlvhaz0123456789.- ")] != '"') fail_msg("not a place: %.60s", at);
        }
    }
}

// The caller frees.
static char *draw(const struct bench_record *record, const struct reference *reference) {
    struct error error;
    FILE *file = written_text_open();
    assert_int_equal(plot_write_svg(record, reference, file, &error), STATUS_OK);
    char *svg = written_text_close(file);
    assert_well_formed(svg);
    assert_finite(svg);
    return svg;
}

static char *draw_text(const struct bench_record *record, const struct reference *reference, int columns,
                       bool unicode) {
    struct error error;
    FILE *file = written_text_open();
    const struct plot_terminal terminal = {columns, unicode};
    assert_int_equal(plot_write_text(record, reference, &terminal, file, &error), STATUS_OK);
    return written_text_close(file);
}

static int count(const char *text, const char *part) {
    int found = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) found++;
    return found;
}

struct place {
    double x, y;
};

// Where the mark with this tooltip was drawn: the "M x y" of its path.
static struct place find_mark(const char *svg, const char *tip) {
    const char *title = strstr(svg, tip);
    if (!title) fail_msg("no mark \"%s\"", tip);
    while (strncmp(title, " d=\"M", 5) != 0 && title > svg) title--;
    struct place place;
    assert_int_equal(sscanf(title, " d=\"M%lf %lf", &place.x, &place.y), 2);
    return place;
}

struct box {
    double left, top, bottom, right;
};

static struct box find_panel(const char *svg, int index) {
    struct box box;
    for (const char *axis = svg; (axis = strstr(axis, "<path class=\"axis\" d=\"M")); axis++) {
        if (sscanf(axis, "<path class=\"axis\" d=\"M%lf %lfV%lfH%lf", &box.left, &box.top, &box.bottom,
                   &box.right) == 4 &&
            index-- == 0)
            return box;
    }
    fail_msg("no such panel");
    return (struct box){0};
}

static void assert_inside(struct place place, struct box box) {
    if (place.x <= box.left || place.x >= box.right || place.y <= box.top || place.y >= box.bottom)
        fail_msg("(%g, %g) is not within the panel", place.x, place.y);
}

static void test_points(void **state) {
    char *svg = draw(*state, NULL);
    struct box panel = find_panel(svg, 0);
    struct place one = find_mark(svg, "batch 1, cache on: 2k tok/s");
    struct place middle = find_mark(svg, "batch 32, cache on: 40k tok/s");
    struct place many = find_mark(svg, "batch 1024, cache on: 300k tok/s");
    struct place off = find_mark(svg, "batch 32, cache off: 4k tok/s");
    struct place low = find_mark(svg, "batch 1, cache off: 1k tok/s");
    assert_inside(one, panel);
    assert_inside(many, panel);
    assert_inside(low, panel);
    // Both axes are logarithmic: 32 is half way from 1 to 1024, and a factor of 10 is as high as ten of 2 are
    // wide in log 2 to log 10.
    assert_true(middle.x - (one.x + many.x) / 2 < 0.11 && (one.x + many.x) / 2 - middle.x < 0.11);
    double decade = off.y - middle.y, octave = low.y - one.y;
    assert_true(decade > 0 && octave / decade > 0.30103 - 0.01 && octave / decade < 0.30103 + 0.01);
    // The second panel is linear.
    panel = find_panel(svg, 1);
    struct place two = find_mark(svg, "batch 1, speed-up: 2×"),
                 ten = find_mark(svg, "batch 32, speed-up: 10×");
    assert_inside(two, panel);
    assert_inside(ten, panel);
    free(svg);
}

static void test_gaps(void **state) {
    char *svg = draw(*state, NULL);
    struct box panel = find_panel(svg, 0);
    struct place gap = find_mark(svg, "batch 1024, cache off: oom");
    assert_inside(gap, panel);
    assert_non_null(strstr(svg, "Not measured (×): cache off at 1024 (oom)."));
    assert_non_null(strstr(svg, "no data"));
    assert_null(strstr(svg, "Measured but not ok"));
    free(svg);
    struct bench_record *record = *state;
    record->rows[5].status = ROW_SKIPPED;
    record->rows[3].status = ROW_PARTIAL;
    svg = draw(record, NULL);
    assert_non_null(strstr(svg, "cache off at 1024 (skipped)"));
    assert_non_null(strstr(svg, "Measured but not ok: cache off at 32 (partial)."));
    assert_int_equal(count(svg, "class=\"uncached hollow\""), 1);
    free(svg);
}

// A missing point in the middle parts the line.
static void test_line_parts_at_gap(void **state) {
    (void)state;
    struct bench_record record;
    describe(&record);
    add_row(&record, 4, true, 400, 0);
    add_row(&record, 1, true, 100, 0); // any order
    add_row(&record, 2, true, 0, 0);
    add_row(&record, 8, true, 800, 0);
    char *svg = draw(&record, NULL);
    const char *path = strstr(strstr(svg, "line dashed"), "<path class=\"cached line\" d=\"");
    assert_non_null(path);
    char *line = strndup(path, strcspn(path, "/"));
    assert_int_equal(count(line, "M"), 2);
    assert_int_equal(count(line, "L"), 1);
    free(line);
    free(svg);
    record_clear(&record);
}

static void test_one_arm(void **state) {
    (void)state;
    struct bench_record record;
    describe(&record);
    record.ceilings = (struct ceilings){0};
    add_row(&record, 8, false, 700, 0);
    char *svg = draw(&record, &reference_published_a100);
    assert_inside(find_mark(svg, "batch 8, cache off: 700 tok/s"), find_panel(svg, 0));
    assert_inside(find_mark(svg, "batch 93, published, cache off: 843.8 tok/s"), find_panel(svg, 0));
    assert_null(strstr(svg, "cache on:"));
    assert_null(strstr(svg, "class=\"cached"));
    assert_null(strstr(svg, "speed-up"));
    assert_null(strstr(svg, "dashed\" d")); // no ceilings: no roofline
    free(svg);
    record_clear(&record);
}

static void test_reference(void **state) {
    char *svg = draw(*state, &reference_published_a100);
    assert_int_equal(count(svg, "published, cache on: "), 7);
    assert_int_equal(count(svg, "published, cache off: "), 7);
    assert_int_equal(count(svg, "published speed-up: "), 7);
    assert_inside(find_mark(svg, "batch 93, published speed-up: 10.73×"), find_panel(svg, 1));
    assert_non_null(strstr(svg, "12 query and 6"));
    free(svg);
    svg = draw(*state, NULL);
    assert_null(strstr(svg, "published, "));
    free(svg);
}

// The roofline by hand: one layer-less step is launch-bound here, so every step takes the launches' time.
static void test_ceiling(void **state) {
    (void)state;
    struct bench_record record;
    describe(&record);
    record.ceilings = (struct ceilings){.bandwidth = 1e30, .matmul_rate = 1e30, .launch = 1e-3};
    // 12 layers of 7 operations and 4 more: 88 ms for the prefill and each of the 199 steps.
    // tok/s = B 200 / (200 x 0.088) = B / 0.088; a measured point of that value lies on the line.
    add_row(&record, 1, true, 1 / 0.088, 0);
    add_row(&record, 1024, true, 1024 / 0.088, 0);
    char *svg = draw(&record, NULL);
    struct place measured = find_mark(svg, "batch 1, cache on: 11.36 tok/s"), ceiling;
    const char *path = strstr(svg, "<path class=\"cached line dashed\" d=\"M");
    path = strstr(path + 1, "<path class=\"cached line dashed\" d=\"M"); // after the legend's
    assert_non_null(path);
    assert_int_equal(sscanf(path, "<path class=\"cached line dashed\" d=\"M%lf %lf", &ceiling.x, &ceiling.y),
                     2);
    assert_true(ceiling.x == measured.x && ceiling.y == measured.y);
    free(svg);
    record_clear(&record);
}

static void test_escaping(void **state) {
    struct bench_record *record = *state;
    strcpy(record->device.name, "<b>\"A\" & B</b>\x01\x1b[31m");
    strcpy(record->model.name, "dir/\xff\xc0|name]]>");
    strcpy(record->engine.commit, "<!--\xef\xbf\xbf");
    char *svg = draw(record, NULL);
    assert_non_null(strstr(svg, "&lt;b&gt;&quot;A&quot; &amp; B&lt;/b&gt; "));
    assert_non_null(strstr(svg, "dir/\xef\xbf\xbd\xef\xbf\xbd|name]]&gt;"));
    free(svg);
    char *text = draw_text(record, NULL, 80, true);
    assert_null(strchr(text, '\x1b'));
    free(text);
    memset(record->model.name, 'w', sizeof record->model.name - 1);
    svg = draw(record, NULL);
    assert_int_equal(count(svg, "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww…"), 2);
    free(svg);
}

static void test_extremes(void **state) {
    (void)state;
    struct bench_record record;
    describe(&record);
    free(draw(&record, NULL)); // not a row at all
    add_row(&record, 1, true, DBL_MAX, DBL_MAX);
    add_row(&record, 1, false, 1e-300, 0);
    add_row(&record, INT32_MAX, true, 1, DBL_MIN);
    add_row(&record, INT32_MAX, false, 0, 0);
    record.ceilings = (struct ceilings){.bandwidth = 1e-300, .matmul_rate = 1e300, .launch = 0};
    free(draw(&record, &reference_published_a100));
    free(draw_text(&record, &reference_published_a100, 40, true));
    record_clear(&record);
}

// A batch for every number: labels are thinned out, and each row is drawn.
static void test_many_batches(void **state) {
    (void)state;
    struct bench_record record;
    describe(&record);
    for (int batch = 1; batch <= 500; batch++) add_row(&record, batch, true, 100.0 * batch, 0);
    char *svg = draw(&record, NULL);
    assert_int_equal(count(svg, ", cache on: "), 500);
    assert_true(count(svg, "text-anchor=\"middle\"") < 60);
    assert_non_null(strstr(svg, ">1</text>"));
    assert_non_null(strstr(svg, ">500</text>"));
    free(svg);
    record_clear(&record);
}

static void test_text(void **state) {
    for (int columns = 40; columns <= 200; columns += 32) {
        char *text = draw_text(*state, &reference_published_a100, columns, true);
        for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
            assert_true(label_characters(line, strcspn(line, "\n")) <= columns || columns < 80);
        free(text);
    }
    char *text = draw_text(*state, &reference_published_a100, 80, false);
    for (const char *c = text; *c; c++) assert_true((unsigned char)*c < 0x80);
    assert_non_null(strstr(text, "10.00x"));
    assert_non_null(strstr(text, "published 4.40x"));
    assert_non_null(strstr(text, "no data"));
    assert_non_null(strstr(text, "Not measured (x): cache off at 1024 (oom)."));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_points, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gaps, set_up, tear_down),
        cmocka_unit_test(test_line_parts_at_gap),
        cmocka_unit_test(test_one_arm),
        cmocka_unit_test_setup_teardown(test_reference, set_up, tear_down),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test_setup_teardown(test_escaping, set_up, tear_down),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_many_batches),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
