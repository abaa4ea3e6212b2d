/* main.c - the commands of the binary. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "jobs/worker.h"
#include "server/options.h"
#include "server/run.h"
#include "server/serve.h"
#include "server/tokens.h"
#include "server/version.h"

#define PROGRAM_SIZE 4096

/* Parses the options of a command that has a table. False: the process ends with *status. */
static bool parse(struct settings *out, int *status, const char *command, const struct param *table, int argc,
                  char **argv) {
    struct err e = {0};
    bool help;
    if (options_parse(out, &help, table, argc, argv, &e)) {
        bool pointer = e.text[0] == '/'; /* the tables think of JSON, the reader of options */
        fprintf(stderr, "retort %s: %s%s\n`retort %s --help` lists the options.\n", command, pointer ? "--" : "",
                e.text + pointer, command);
        *status = 2;
        return false;
    }
    *status = 0;
    if (!help) return true;
    printf("retort %s: options, each also as an environment variable\n\n", command);
    options_help(table);
    return false;
}

/* Where this binary lies. */
static bool find_program(char out[PROGRAM_SIZE]) {
    ssize_t n = readlink("/proc/self/exe", out, PROGRAM_SIZE - 1);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static int serve(int argc, char **argv) {
    static struct settings settings;
    static char program[PROGRAM_SIZE];
    int status;
    if (!parse(&settings, &status, "serve", serve_options, argc, argv)) return status;
    if (!find_program(program)) {
        fprintf(stderr, "retort: /proc is needed to start workers\n");
        return 1;
    }
    log_start((enum log_level)settings.log, "server");
    return serve_main(&settings, program);
}

static int worker(int argc, char **argv) {
    static struct settings settings;
    static char who[80];
    int status;
    if (!parse(&settings, &status, "worker", worker_options_table, argc, argv)) return status;
    text_print(who, sizeof who, "worker %d", (int)getpid());
    log_start((enum log_level)settings.log, settings.name[0] ? settings.name : who);
    struct worker_options options = {
        .folder = settings.data,
        .name = settings.name[0] ? settings.name : NULL,
        .threads = (int)settings.threads,
        .memory = (size_t)settings.memory,
        .until_idle = settings.until_idle,
    };
    return worker_main(&options);
}

static int version(int argc, char **argv) {
    struct version v = version_of_this();
    struct text text;
    (void)argc, (void)argv;
    text_init(&text, 4096);
    struct json_writer w = json_writer(&text);
    json_open_object(&w, NULL);
    json_put_string(&w, "version", v.version);
    json_put_string(&w, "commit", v.commit);
    json_put_string(&w, "blas", v.blas);
    json_put_string(&w, "instruction_set", v.instruction_set);
    json_close_object(&w);
    puts(text.data);
    text_free(&text);
    return 0;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv starts after the name */
    const char *help;
} commands[] = {
    {"serve", serve, "answers HTTP and supervises workers"},
    {"worker", worker, "runs jobs of a data folder"},
    {"run", run_main, "runs a network once, from files"},
    {"token", tokens_main, "makes an access token"},
    {"version", version, "prints version, commit, BLAS and instruction set as JSON"},
    {NULL, NULL, NULL},
};

static void print_usage(FILE *to) {
    fprintf(to, "retort moves what one neural network knows into another, over HTTP.\n\n");
    for (const struct command *c = commands; c->name; c++) fprintf(to, "  retort %-10s %s\n", c->name, c->help);
    fprintf(to, "\n`retort COMMAND --help` says more.\n");
}

/* OpenBLAS starts a thread for each processor as soon as it is loaded, and they spin before they sleep.
 * The engine has threads of its own. A variable that is there before loading is the only way to say so:
 * hence once more from the start, which takes 3 ms. If that fails we go on as we are. */
static void without_foreign_threads(char **argv) {
    static const char variable[] = "OPENBLAS_NUM_THREADS";
    char path[PROGRAM_SIZE];
    if (getenv(variable) || setenv(variable, "1", 0) || !find_program(path)) return;
    execv(path, argv);
}

int main(int argc, char **argv) {
    without_foreign_threads(argv);
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--version")) name = "version";
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name)) return c->run(argc - 2, argv + 2);
    bool asked = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    print_usage(asked ? stdout : stderr);
    return asked ? 0 : 2;
}
