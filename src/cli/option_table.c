// Every command and every option, once.
#include "cli/options.h"

#define BENCH (1u << COMMAND_BENCH)
#define GENERATE (1u << COMMAND_GENERATE)
#define SCORE (1u << COMMAND_SCORE)
#define TOKENIZE (1u << COMMAND_TOKENIZE)
#define PREDICT (1u << COMMAND_PREDICT)
#define INFO (1u << COMMAND_INFO)
#define PLOT (1u << COMMAND_PLOT)
#define COMPARE (1u << COMMAND_COMPARE)
#define ALL (BENCH | GENERATE | SCORE | TOKENIZE | PREDICT | INFO) // those that open a model
#define HELP (1u << COMMAND_HELP)
#define FIELD(name) offsetof(struct options, name)

const struct command_info command_table[COMMANDS] = {
    [COMMAND_BENCH] =
        {"bench", "tok/s per batch size, with and without the KV cache (the default command)",
         "Measures generated tokens per second for each batch size. Prompts are random token ids drawn from\n"
         "the seed; tokens are chosen greedily and an end-of-text token ends nothing."},
    [COMMAND_GENERATE] =
        {"generate", "text that continues a prompt",
         "Continues each prompt. A single prompt's text is streamed after its prompt; several are printed\n"
         "one after the other. --format json and jsonl give an object per prompt, in order:\n"
         "  {\"index\", \"prompt_ids\", \"ids\", \"text\", \"finish_reason\"}\n"
         "with the generated ids (the end-of-text token included), their text (without it, without a stop\n"
         "text and what follows, bytes that are no UTF-8 replaced by U+FFFD; null when the model has no\n"
         "tokenizer) and \"stop\", \"length\" or \"interrupted\".\n"
         "A prompt's random numbers depend on the seed and its index alone, not on its batch. An empty\n"
         "prompt becomes the end-of-text token, after which GPT-2 begins a new text."},
    [COMMAND_SCORE] =
        {"score", "how well the model predicts a text: nats per token, perplexity",
         "Feeds one text in consecutive windows of the model's context; each position predicts its\n"
         "successor, so every token but the first is scored once. --format json gives\n"
         "  {\"tokens\", \"nll\", \"argmax\", \"mean_nll\", \"perplexity\"}\n"
         "with nll[i] the loss of token i + 1 in nats and argmax[i] the most likely token after token i;\n"
         "mean_nll and perplexity are null for a single token."},
    [COMMAND_TOKENIZE] = {"tokenize", "text to token ids and back (needs no weights)",
                          "Encodes texts, or decodes ids with --decode. Ids are printed one text per line,\n"
                          "with --input as lines {\"ids\": [...]}."},
    [COMMAND_PREDICT] =
        {"predict", "tok/s to expect of devices you need not have (needs no weights)",
         "Computes the curve of bench by a model of time: from the vendor's figures of the devices named by\n"
         "--device-spec, or from ceilings of the present device and runs of one row. `bench --help-metrics`\n"
         "has the formulas. Rows that would not fit into the device's memory are marked. A host that takes\n"
         "10 ms to launch each step, as eager frameworks do, hides a fast device:\n"
         "  predict --device-spec a100-80gb --model random:L12-C768-H12-V65536-T1024 --logits all \\\n"
         "    --host-overhead-us 10000 --matmul-efficiency 11\n"
         "comes within 4 % of an A100's published tok/s with the cache and 18 % without, 1.00x to 11.1x "
         "where\n"
         "0.97x to 10.73x were published; 11 % is what its uncached rate works out at."},
    [COMMAND_INFO] = {"info", "devices, model, memory a session takes",
                      "Shows the devices, the model and the memory a session of --batch rows takes."},
    [COMMAND_PLOT] = {"plot", "the picture of a saved bench record",
                      "Draws what bench wrote with --format json, without measuring again.",
                      .arguments = "RECORD.json", .argument_count = 1},
    [COMMAND_COMPARE] =
        {"compare", "two records of bench, row by row: faster, slower or the same",
         "Holds the rows of one record of `bench --format json` against those of another. A row is faster "
         "or\n"
         "slower when the 95 % interval of the ratio of its mean tok/s leaves out 1 and the ratio is beyond\n"
         "the threshold, the same when the whole interval is within it; else it can't be told. A row that "
         "no\n"
         "longer runs is slower. The interval is Welch's on the logarithms of the means; it knows the noise\n"
         "within each run, not what changes between runs. Other models, dtypes or workloads are refused.",
         "OLD.json NEW.json", 2},
    [COMMAND_HELP] = {"help", "this overview; `help COMMAND` is `COMMAND --help`", ""},
};

static const struct choice dtypes[] = {{"auto", DTYPE_CHOICE_AUTO},
                                       {"f32", DTYPE_CHOICE_F32},
                                       {"f16", DTYPE_CHOICE_F16},
                                       {"bf16", DTYPE_CHOICE_BF16},
                                       {NULL, 0}};
static const struct choice report_formats[] = {{"table", FORMAT_TABLE},       {"csv", FORMAT_CSV},
                                               {"json", FORMAT_JSON},         {"jsonl", FORMAT_JSONL},
                                               {"markdown", FORMAT_MARKDOWN}, {NULL, 0}};
static const struct choice row_formats[] = {
    {"table", FORMAT_TABLE}, {"json", FORMAT_JSON}, {"jsonl", FORMAT_JSONL}, {NULL, 0}};
static const struct choice document_formats[] = {{"table", FORMAT_TABLE}, {"json", FORMAT_JSON}, {NULL, 0}};
static const struct choice arms[] = {
    {"on", KVCACHE_ON}, {"off", KVCACHE_OFF}, {"both", KVCACHE_BOTH}, {NULL, 0}};
static const struct choice on_off[] = {{"on", KVCACHE_ON}, {"off", KVCACHE_OFF}, {NULL, 0}};
static const struct choice logits_modes[] = {
    {"last", LOGITS_CHOICE_LAST}, {"all", LOGITS_CHOICE_ALL}, {NULL, 0}};

static const struct choice references[] = {{"published-a100", REFERENCE_PUBLISHED_A100}, {NULL, 0}};
static const struct choice decode_paths[] = {{"auto", DECODE_CHOICE_AUTO},
                                             {"graph", DECODE_CHOICE_GRAPH},
                                             {"fused", DECODE_CHOICE_FUSED},
                                             {"persistent", DECODE_CHOICE_PERSISTENT},
                                             {NULL, 0}};

enum { MOST_ROWS = 1 << 20, MOST_TOKENS = 1 << 20, MOST_RUNS = 100000, MOST_THREADS = 4096 };

const struct option option_table[] = {
    // bench
    {"batch", OPTION_INTEGERS, BENCH, FIELD(batches), "LIST|auto",
     .help = "rows that run at once, e.g. 1,8,93; auto searches for\n--goal, with the cache on where "
             "--kvcache is both",
     .initial = "1", .minimum = 1, .maximum = MOST_ROWS, .instead = "auto"},
    {"goal", OPTION_TEXT, BENCH, FIELD(goal), "GOAL",
     .help = "of --batch auto: throughput, the default: the smallest\nbatch within 2 % of the best tok/s; "
             "latency:MS or ttft:MS:\nthe largest whose steps (95 %) or first token take at most\nthat; "
             "memory: the largest that fits"},
    {"reserve-mib", OPTION_TEXT, BENCH, FIELD(reserve_mib), "N",
     .help = "of --batch auto: device memory to leave free; default 256"},
    {"kvcache", OPTION_CHOICE, BENCH, FIELD(kvcache),
     .help = "keep keys and values, recompute them each step, or\nmeasure both, interleaved", .initial = "on",
     .choices = arms},
    {"prompt-len", OPTION_INTEGER, BENCH | PREDICT, FIELD(prompt_len), "N", .help = "prompt tokens per row",
     .initial = "50", .minimum = 1, .maximum = MOST_TOKENS},
    {"gen-len", OPTION_INTEGER, BENCH | PREDICT, FIELD(gen_len), "N", .help = "generated tokens per row",
     .initial = "200", .minimum = 1, .maximum = MOST_TOKENS},
    {"reps", OPTION_INTEGER, BENCH, FIELD(reps), "N",
     .help =
         "repetitions; 0, the default: 5 to 100 by --noise and\n--max-time, 1 when it takes longer than 10 s",
     .initial = "0", .maximum = MOST_RUNS},
    {"noise", OPTION_REAL, BENCH, FIELD(noise_percent), "PERCENT",
     .help = "repeat until the mean's 95 % interval is within that", .initial = "1", .minimum = 0.01,
     .maximum = 100},
    {"max-time", OPTION_REAL, BENCH, FIELD(max_time), "SECONDS",
     .help = "no further repetition after that; default 20, with --reps\nno limit. --batch auto: no further "
             "probe, default 120",
     .minimum = 0.001, .maximum = 1e6},
    {"warmup", OPTION_INTEGER, BENCH, FIELD(warmup), "N",
     .help = "runs before the first repetition, cut short when they would\ntake longer than 10 s",
     .initial = "1", .maximum = MOST_RUNS},
    {"logits", OPTION_CHOICE, BENCH | PREDICT | INFO, FIELD(logits),
     .help = "apply the LM head to a row's last position or to all", .initial = "last",
     .choices = logits_modes},
    {"decode-path", OPTION_CHOICE, BENCH, FIELD(decode_path),
     .help = "on a GPU, cached steps by library products (graph) or by\nour own kernels (fused, persistent: "
             "Hopper, bf16 and f16)",
     .initial = "auto", .choices = decode_paths},
    {"refresh", OPTION_FLAG, BENCH | PREDICT, FIELD(refresh),
     .help = "measure the device's ceilings, and search for --batch auto,\nagain instead of taking what was "
             "found before"},
    {"gpu-hour-usd", OPTION_REAL, BENCH, FIELD(gpu_hour_usd), "USD",
     .help = "what an hour of the device costs: adds the price of a\nmillion generated tokens",
     .minimum = 1e-6, .maximum = 1e6},
    {"requests-per-day", OPTION_REAL, BENCH, FIELD(requests_per_day), "N",
     .help = "adds the device hours, requests in flight and cost of N\nrequests of this workload",
     .minimum = 1, .maximum = 1e12},
    {"plot", OPTION_TEXT, BENCH, FIELD(plot), "FILE.svg",
     .help = "draw tok/s and the speed-up over the batch size; - draws\nthem as text below the table"},
    {"plot", OPTION_TEXT, PLOT, FIELD(plot), "FILE.svg",
     .help = "write the picture there; - draws it as text", .initial = "-"},
    {"reference", OPTION_CHOICE, BENCH | PLOT, FIELD(reference),
     .help = "set the measured figures beside published ones (of\nanother model, see the caption)",
     .choices = references},
    {"help-metrics", OPTION_FLAG, BENCH, FIELD(help_metrics), .help = "print the formula of every figure"},

    // predict
    {"device-spec", OPTION_TEXT, PREDICT, FIELD(device_spec), "LIST",
     .help = "a100-80gb, h100, h200, l4, t4, v100, rtx4090, between\ncommas; default the present device"},
    {"batch", OPTION_INTEGERS, PREDICT, FIELD(batches), "LIST", .help = "rows that run at once",
     .initial = "1,4,8,16,32,64,93", .minimum = 1, .maximum = MOST_ROWS},
    {"kvcache", OPTION_CHOICE, PREDICT, FIELD(kvcache), .help = "which arms", .initial = "both",
     .choices = arms},
    {"host-overhead-us", OPTION_REAL, PREDICT, FIELD(host_overhead_us), "N",
     .help = "what the host needs to launch a step, while the device\nworks; 0 for this engine's graphs",
     .initial = "0", .maximum = 1e9},
    {"matmul-efficiency", OPTION_REAL, PREDICT, FIELD(efficiency), "PERCENT",
     .help = "of the vendor's rate that products reach; default what\nthis engine's do", .minimum = 0.01,
     .maximum = 100},

    // compare
    {"threshold", OPTION_REAL, COMPARE, FIELD(threshold_percent), "PERCENT",
     .help = "differences within that do not matter", .initial = "2", .maximum = 100},
    {"fail-on-regression", OPTION_FLAG, COMPARE, FIELD(fail_on_regression),
     .help = "exit with 5 when any row is slower"},

    // generate
    {"prompt", OPTION_INPUT, GENERATE, FIELD(inputs), "TEXT", .help = "a prompt; repeatable",
     .input = INPUT_TEXT},
    {"prompt-file", OPTION_INPUT, GENERATE, FIELD(inputs), "FILE",
     .help = "a file that is one prompt, - is standard input; repeatable", .input = INPUT_FILE},
    {"input", OPTION_INPUT, GENERATE, FIELD(inputs), "FILE",
     .help = "a prompt per line: {\"prompt\": TEXT} or {\"ids\": [...]}", .input = INPUT_JSONL},
    {"max-new-tokens", OPTION_INTEGER, GENERATE, FIELD(max_new_tokens), "N",
     .help = "tokens to generate per prompt; default 128, or what the\nmodel's context leaves", .minimum = 1,
     .maximum = MOST_TOKENS},
    {"temperature", OPTION_REAL, GENERATE, FIELD(temperature), "X",
     .help = "0 always takes the most likely token", .initial = "0.8", .maximum = 1000},
    {"top-k", OPTION_INTEGER, GENERATE, FIELD(top_k), "N",
     .help = "draw from the N likeliest tokens; 0: from all", .initial = "0", .maximum = 1 << 30},
    {"top-p", OPTION_REAL, GENERATE, FIELD(top_p), "X",
     .help = "draw from the likeliest tokens that hold X of the mass", .initial = "0.95", .maximum = 1},
    {"min-p", OPTION_REAL, GENERATE, FIELD(min_p), "X",
     .help = "drop tokens less likely than X times the likeliest", .initial = "0", .maximum = 1},
    {"stop", OPTION_TEXTS, GENERATE, FIELD(stops), "TEXT", .help = "end a text before TEXT; repeatable"},
    {"ignore-eos", OPTION_FLAG, GENERATE, FIELD(ignore_eos), .help = "go on after an end-of-text token"},
    {"kvcache", OPTION_CHOICE, GENERATE | INFO, FIELD(kvcache),
     .help = "keep keys and values, or recompute them each step", .initial = "on", .choices = on_off},
    {"batch", OPTION_INTEGER, GENERATE, FIELD(batch), "N",
     .help = "prompts that run at once; default all, at most 32", .minimum = 1, .maximum = MOST_ROWS},

    // score, tokenize
    {"text", OPTION_INPUT, SCORE | TOKENIZE, FIELD(inputs), "TEXT", .help = "the text", .input = INPUT_TEXT},
    {"text-file", OPTION_INPUT, SCORE | TOKENIZE, FIELD(inputs), "FILE",
     .help = "a file that is the text, - is standard input", .input = INPUT_FILE},
    {"input", OPTION_INPUT, TOKENIZE, FIELD(inputs), "FILE",
     .help = "a text per line: {\"text\": TEXT}, or {\"ids\": [...]} to decode", .input = INPUT_JSONL},
    {"ids", OPTION_INPUT, GENERATE | SCORE | TOKENIZE, FIELD(inputs), "LIST",
     .help = "token ids, e.g. 15496,995", .input = INPUT_IDS},
    {"last-logits", OPTION_FLAG, SCORE, FIELD(last_logits),
     .help = "with --format json: add \"last_logits\", those after the\nfinal token"},
    {"decode", OPTION_FLAG, TOKENIZE, FIELD(decode), .help = "print the bytes that ids stand for"},
    {"tokenizer", OPTION_TEXT, GENERATE | SCORE | TOKENIZE, FIELD(tokenizer), "DIR",
     .help = "where vocab.json and merges.txt are; default the model's\ndirectory"},

    // info
    {"batch", OPTION_INTEGER, INFO, FIELD(batch), "N", .help = "rows of the session", .initial = "1",
     .minimum = 1, .maximum = MOST_ROWS},
    {"prompt-len", OPTION_INTEGER, INFO, FIELD(prompt_len), "N",
     .help = "prompt tokens per row; default 50, or what the context leaves", .minimum = 1,
     .maximum = MOST_TOKENS},
    {"gen-len", OPTION_INTEGER, INFO, FIELD(gen_len), "N",
     .help = "generated tokens per row; default 200, or what the context\nleaves", .minimum = 1,
     .maximum = MOST_TOKENS},
    {"measure", OPTION_FLAG, INFO, FIELD(measure), .help = "measure what the device really does"},

    // shared
    {"model", OPTION_TEXT, ALL, FIELD(model), "MODEL",
     .help = "NAME, DIR, FILE.safetensors, FILE.bin (llm.c), random:NAME;\ndefault gpt2, else what the note "
             "says"},
    {"device", OPTION_TEXT, ALL & ~TOKENIZE, FIELD(device), "DEVICE", .help = "auto, cpu, cuda or cuda:N",
     .initial = "auto"},
    {"dtype", OPTION_CHOICE, ALL & ~TOKENIZE, FIELD(dtype),
     .help = "what to compute in; auto: bf16 on a GPU, on a CPU what the\nmodel is stored in",
     .initial = "auto", .choices = dtypes},
    {"threads", OPTION_INTEGER, ALL & ~TOKENIZE, FIELD(threads), "N",
     .help = "CPU threads; 0, the default: all", .initial = "0", .maximum = MOST_THREADS},
    {"deterministic", OPTION_FLAG, BENCH | GENERATE | SCORE, FIELD(deterministic),
     .help = "on a GPU, choose library products by rule, not by timing:\nanother process computes the same "
             "bits"},
    {"seed", OPTION_UINT64, BENCH | GENERATE, FIELD(seed), "N", .help = "of everything random",
     .initial = "42"},
    {"format", OPTION_CHOICE, BENCH | PREDICT | COMPARE, FIELD(format), .help = "of the results",
     .initial = "table", .choices = report_formats},
    {"format", OPTION_CHOICE, GENERATE | TOKENIZE, FIELD(format),
     .help = "of the results; table is plain text", .initial = "table", .choices = row_formats},
    {"format", OPTION_CHOICE, SCORE | INFO, FIELD(format), .help = "of the results", .initial = "table",
     .choices = document_formats},
    {"output-file", OPTION_TEXT, ALL | COMPARE, FIELD(output_file), "FILE",
     .help = "write the results there, only once they are complete"},
    {"quiet", OPTION_FLAG, ALL | COMPARE, FIELD(quiet),
     .help = "no progress, notes or statistics on standard error"},
    {"help", OPTION_FLAG, ALL | PLOT | COMPARE | HELP, FIELD(help), .help = "show this"},
    {"version", OPTION_FLAG, ALL | PLOT | COMPARE | HELP, FIELD(version),
     .help = "show version, commit and build"},
};
const size_t option_count = sizeof option_table / sizeof option_table[0];
