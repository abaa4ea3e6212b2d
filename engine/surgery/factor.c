/* factor.c - splitting a filter into two.
 *
 * Everything solves for the second factor. Solving for the first is the same with the channels of everything turned
 * over and the factors exchanged, since convolutions of kernels commute. */
#include "engine/surgery/factor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/lapack.h"

struct figures {
    int64_t equations, unknowns, rank;
};

static size_t taps(const struct filter *f) {
    return (size_t)f->h * (size_t)f->w;
}

/* ---- the system for the second factor ---- */

/* a[(i,U)][(l,v)] = first[l,i,U-v] */
static void fill_system(double *a, const struct filter *first, const struct filter *second, const struct filter *g) {
    size_t columns = (size_t)second->in * taps(second);
    for (size_t l = 0; l < (size_t)first->out; l++)
        for (size_t i = 0; i < (size_t)first->in; i++)
            for (size_t u = 0; u < taps(first); u++)
                for (size_t v = 0; v < taps(second); v++) {
                    size_t y = u / (size_t)first->w + v / (size_t)second->w;
                    size_t x = u % (size_t)first->w + v % (size_t)second->w;
                    size_t row = i * taps(g) + y * (size_t)g->w + x;
                    a[row * columns + l * taps(second) + v] =
                        first->data[(l * (size_t)first->in + i) * taps(first) + u];
                }
}

/* out[p][tap][c] = in[p][c][tap] or back */
static void exchange(double *out, const double *in, size_t n, size_t rows, size_t columns) {
    for (size_t p = 0; p < n; p++, in += rows * columns, out += rows * columns)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++) out[j * rows + i] = in[i * columns + j];
}

#define ORTHONORMAL 1e-13 /* how far products of rows may be from 0 and from each other */

/* Whether rows[m][n] are orthonormal, times a factor, as factor_noise makes them; *square: of that factor. */
static int is_orthonormal(bool *yes, double *square, const double *rows, size_t m, size_t n, struct err *e) {
    *yes = m <= n && n > 0;
    if (!*yes) return 0;
    double *products = mem_alloc_aligned(m * m * sizeof *products);
    if (!products) return err_memory(e, m * m * sizeof *products);
    lapack_product(false, true, m, m, n, rows, n, rows, n, products, m, false);
    *square = products[0];
    *yes = *square > 0;
    for (size_t i = 0; i < m && *yes; i++)
        for (size_t j = 0; j <= i && *yes; j++)
            *yes = fabs(products[i * m + j] - (i == j ? *square : 0)) <= ORTHONORMAL * *square;
    mem_free_aligned(products);
    return 0;
}

/* The shortest x for which rows . x_k comes closest to wanted_k, for r of them. With orthonormal rows that is a product. */
static int solve_rows(double *x, size_t *rank, const double *rows, size_t m, size_t n, size_t r, const double *wanted,
                      struct err *e) {
    struct lapack_fit fit;
    double square = 0;
    bool product;
    int status = is_orthonormal(&product, &square, rows, m, n, e);
    *rank = m;
    if (!status && !product) {
        status = lapack_least_squares(x, &fit, m, n, r, rows, wanted, e);
        *rank = fit.rank;
    }
    if (status || !product) return status;
    lapack_product(false, false, r, n, m, wanted, m, rows, n, x, n, false);
    for (size_t i = 0; i < r * n; i++) x[i] /= square;
    return 0;
}

/* A first factor of one tap: every tap of g is a system of its own, all with the same matrix. */
static int solve_after_point(struct filter *second, struct figures *fig, const struct filter *g,
                             const struct filter *first, struct err *e) {
    size_t in = (size_t)first->in, inner = (size_t)first->out, out = (size_t)g->out, n = taps(g), rank;
    struct filter rows = {0}, wanted = {0}, found = {0};
    int status = filter_transpose(&rows, first, e);
    if (!status) status = filter_init(&wanted, g->out, g->in, g->h, g->w, e);
    if (!status) status = filter_init(&found, g->out, first->out, g->h, g->w, e);
    if (status) goto out;
    exchange(wanted.data, g->data, out, in, n);
    status = solve_rows(found.data, &rank, rows.data, in, inner, out * n, wanted.data, e);
    if (status) goto out;
    exchange(second->data, found.data, out, n, inner);
    *fig = (struct figures){(int64_t)(in * n), (int64_t)(inner * n), (int64_t)(rank * n)};
out:
    filter_fini(&rows);
    filter_fini(&wanted);
    filter_fini(&found);
    return status;
}

/* The shortest of the second factors that come closest to g, which has the size of the composed kernel. */
static int solve_second(struct filter *second, struct figures *fig, const struct filter *g, const struct filter *first,
                        struct err *e) {
    if (taps(first) == 1) return solve_after_point(second, fig, g, first, e);
    size_t m = (size_t)g->in * taps(g), n = (size_t)second->in * taps(second), size;
    if (!mem_mul(&size, m, n) || size > LAPACK_MOST)
        return err_set(e, E_TOO_LARGE, "a system of %zu equations with %zu unknowns is too large", m, n);
    double *a = mem_alloc_aligned(size * sizeof *a);
    if (!a) return err_memory(e, size * sizeof *a);
    fill_system(a, first, second, g);
    struct lapack_fit fit;
    int status = lapack_least_squares(second->data, &fit, m, n, (size_t)g->out, a, g->data, e);
    if (!status) *fig = (struct figures){(int64_t)m, (int64_t)n, (int64_t)fit.rank};
    mem_free_aligned(a);
    return status;
}

/* ---- noise, and the solution that belongs to it ---- */

/* What is to be split, as seen by the solver: noise first, the solution second. */
struct task {
    const struct filter *g; /* of the size of the composed kernel */
    int inner, noise[2], solved[2];
    bool mirror; /* channels are turned over, the noise is the second factor */
};

static bool count_allows(const struct task *t) {
    return (int64_t)t->inner * t->solved[0] * t->solved[1] >= (int64_t)t->g->in * (int64_t)taps(t->g);
}

/* Standard deviation after He et al. 2015: square root of 2 / fan-in. */
static double noise_deviation(const struct task *t) {
    return sqrt(2.0 / ((double)(t->mirror ? t->inner : t->g->in) * t->noise[0] * t->noise[1]));
}

static void fill_noise(struct filter *f, double deviation, struct random *random) {
    for (size_t i = 0; i < filter_count(f); i++) f->data[i] = deviation * random_normal(random);
}

int factor_noise(struct filter *f, double deviation, struct random *random, struct err *e) {
    fill_noise(f, deviation, random);
    if (taps(f) > 1) return 0;
    struct filter turned = {0};
    bool tall = f->out > f->in;
    int status = tall ? filter_transpose(&turned, f, e) : 0;
    struct filter *rows = tall ? &turned : f;
    if (!status) status = lapack_orthonormal(rows->data, (size_t)rows->out, (size_t)rows->in, e);
    double scale = deviation * sqrt((double)rows->in);
    for (size_t i = 0; !status && i < filter_count(rows); i++) rows->data[i] *= scale;
    for (size_t l = 0; tall && !status && l < (size_t)f->out; l++)
        for (size_t i = 0; i < (size_t)f->in; i++) f->data[l * (size_t)f->in + i] = turned.data[i * (size_t)f->out + l];
    filter_fini(&turned);
    return status;
}

/* Parts of the inputs and of the inner channels, each a system of its own. */
struct parts {
    int n, inputs; /* inputs of each but the last */
    int spare;     /* inner channels beyond what the counts need */
};

static int inputs_of(const struct parts *p, const struct task *t, int part) {
    return part < p->n - 1 ? p->inputs : t->g->in - (p->n - 1) * p->inputs;
}

/* Inner channels of a part by the count alone. */
static int inner_least(const struct parts *p, const struct task *t, int part) {
    int unknowns = t->solved[0] * t->solved[1];
    return (int)(((int64_t)inputs_of(p, t, part) * (int64_t)taps(t->g) + unknowns - 1) / unknowns);
}

static int inner_of(const struct parts *p, const struct task *t, int part) {
    return inner_least(p, t, part) + p->spare / p->n + (part < p->spare % p->n);
}

/* The finest parts of at least PART_LEAST inputs that the inner channels suffice for. */
static struct parts choose_parts(const struct task *t) {
    enum { PART_LEAST = 32 };
    int unit = t->solved[0] * t->solved[1]; /* inputs in multiples of it leave nothing to round up */
    for (int least = PART_LEAST; least <= t->g->in / 2; least *= 2)
        for (int even = 0; even < 2; even++) {
            struct parts p = {.inputs = even ? (least + unit - 1) / unit * unit : least};
            if (p.inputs > t->g->in / 2) continue;
            p.n = t->g->in / p.inputs;
            int64_t needed = 0;
            for (int k = 0; k < p.n; k++) needed += inner_least(&p, t, k);
            if (needed > t->inner) continue;
            p.spare = (int)(t->inner - needed);
            return p;
        }
    return (struct parts){.n = 1, .inputs = t->g->in};
}

static int take_inputs(struct filter *out, const struct filter *f, int start, int n, struct err *e) {
    int status = filter_init(out, f->out, n, f->h, f->w, e);
    for (size_t j = 0; !status && j < (size_t)f->out; j++)
        memcpy(out->data + j * (size_t)n * taps(f), f->data + (j * (size_t)f->in + (size_t)start) * taps(f),
               (size_t)n * taps(f) * sizeof *f->data);
    return status;
}

/* One part, and its share in noise[l][i] and turned[l][j], the second factor with channels turned over. */
static int solve_part(struct filter *noise, struct filter *turned, struct figures *fig, const struct task *t,
                      const struct filter *rotation, int input, int inputs, int start, int inner, struct random *random,
                      struct err *e) {
    struct filter g = {0}, first = {0}, second = {0}, second_turned = {0};
    size_t all = (size_t)t->inner, row = (size_t)noise->in * taps(noise), wide = (size_t)inputs * taps(noise);
    int status = take_inputs(&g, t->g, input, inputs, e);
    if (!status) status = filter_init(&first, inner, inputs, t->noise[0], t->noise[1], e);
    if (!status) status = filter_init(&second, t->g->out, inner, t->solved[0], t->solved[1], e);
    if (status) goto out;
    fill_noise(&first, noise_deviation(t) * sqrt((double)t->inner / inner), random);
    struct figures part = {0};
    status = solve_second(&second, &part, &g, &first, e);
    if (!status) status = filter_transpose(&second_turned, &second, e);
    if (status) goto out;
    lapack_product(false, false, all, wide, (size_t)inner, rotation->data + start, all, first.data, wide,
                   noise->data + (size_t)input * taps(noise), row, false);
    size_t columns = (size_t)turned->in * taps(turned);
    lapack_product(false, false, all, columns, (size_t)inner, rotation->data + start, all, second_turned.data, columns,
                   turned->data, columns, true);
    fig->equations += part.equations;
    fig->unknowns += part.unknowns;
    fig->rank += part.rank;
out:
    filter_fini(&g);
    filter_fini(&first);
    filter_fini(&second);
    filter_fini(&second_turned);
    return status;
}

/* Noise in blocks on the diagonal decouples the systems; a rotation of the inner channels then makes it dense. The
 * solution is still the shortest: a rotation keeps lengths, and the parts have no unknown in common. */
static int solve_parts(struct filter *noise, struct filter *solved, struct figures *fig, const struct task *t,
                       const struct parts *parts, struct random *random, struct err *e) {
    struct filter rotation = {0}, turned = {0};
    int input = 0, start = 0, status = filter_init(&rotation, t->inner, t->inner, 1, 1, e);
    if (!status) status = filter_init(&turned, t->inner, t->g->out, t->solved[0], t->solved[1], e);
    if (status) goto out;
    fill_noise(&rotation, 1, random);
    status = lapack_orthonormal(rotation.data, (size_t)t->inner, (size_t)t->inner, e);
    *fig = (struct figures){0};
    for (int k = 0; k < parts->n && !status; k++) {
        int inputs = inputs_of(parts, t, k), inner = inner_of(parts, t, k);
        status = solve_part(noise, &turned, fig, t, &rotation, input, inputs, start, inner, random, e);
        input += inputs;
        start += inner;
    }
    if (!status) filter_fini(solved);
    if (!status) status = filter_transpose(solved, &turned, e);
out:
    filter_fini(&rotation);
    filter_fini(&turned);
    return status;
}

void factor_sketch(struct filter *f, struct random *random) {
    for (size_t i = 0; i < filter_count(f); i++) f->data[i] = (double)((float)random_unit(random) - 0.5f);
}

/* ---- what a solution takes ---- */

/* Bytes of a system of m equations with n unknowns, which LAPACK copies, and of so many numbers beside it: the factors, each
 * in three shapes. */
static double solution_bytes(double m, double n, double others) {
    return (2 * m * n + 3 * others) * sizeof(double);
}

static double task_bytes(const struct task *t) {
    double noise = (double)t->inner * t->g->in * t->noise[0] * t->noise[1];
    double solved = (double)t->g->out * t->inner * t->solved[0] * t->solved[1];
    double others = noise + solved + (double)filter_count(t->g);
    if (t->noise[0] * t->noise[1] == 1) return solution_bytes(t->g->in, t->inner, others);
    struct parts p = choose_parts(t);
    double m = 0, n = 0;
    for (int k = 0; k < p.n; k++) {
        m = fmax(m, (double)inputs_of(&p, t, k) * (double)taps(t->g));
        n = fmax(n, (double)(p.n > 1 ? inner_of(&p, t, k) : t->inner) * t->solved[0] * t->solved[1]);
    }
    return solution_bytes(m, n, others + (p.n > 1 ? (double)t->inner * t->inner : 0));
}

static int afford(double bytes, size_t memory, struct err *e) {
    if (!memory || bytes <= (double)memory) return 0;
    return err_set(e, E_TOO_LARGE,
                   "the system that its parts are solved from takes %.0f bytes, and a job may take %zu: fewer channels "
                   "in between take less",
                   bytes, memory);
}

int factor_afford(const struct filter *solved, const struct filter *given, bool first, const struct filter *g,
                  size_t memory, struct err *e) {
    double inner = first ? given->in : given->out, in = first ? g->out : g->in;
    double composed = (double)(given->h + solved->h - 1) * (given->w + solved->w - 1);
    double others = (double)filter_count(solved) + (double)filter_count(given) + (double)g->out * g->in * composed;
    bool point = taps(given) == 1;
    double m = point ? in : in * composed, n = point ? inner : inner * (double)taps(solved);
    return afford(solution_bytes(m, n, others), memory, e);
}

/* Fresh noise, and the second factor for it, or a sketch of both. */
static int solve_fresh(struct filter *noise, struct filter *solved, struct figures *fig, const struct task *t,
                       bool sketch, struct random *random, struct err *e) {
    int status = filter_init(noise, t->inner, t->g->in, t->noise[0], t->noise[1], e);
    if (!status) status = filter_init(solved, t->g->out, t->inner, t->solved[0], t->solved[1], e);
    if (status) return status;
    if (sketch) {
        factor_sketch(noise, random);
        factor_sketch(solved, random);
        return 0;
    }
    if (taps(noise) == 1) {
        status = factor_noise(noise, noise_deviation(t), random, e);
        return status ? status : solve_second(solved, fig, t->g, noise, e);
    }
    struct parts parts = choose_parts(t);
    if (parts.n > 1) return solve_parts(noise, solved, fig, t, &parts, random, e);
    fill_noise(noise, noise_deviation(t), random);
    return solve_second(solved, fig, t->g, noise, e);
}

/* ---- from tasks to factors ---- */

/* What the attempts so far have found; figures of the last one for a refusal. */
struct search {
    const struct filter *g;
    const struct factor_options *o;
    struct random *random;
    struct factor_pair *pair;
};

static int turn(struct filter *f, struct err *e) {
    struct filter turned;
    int status = filter_transpose(&turned, f, e);
    if (status) return status;
    filter_fini(f);
    *f = turned;
    return 0;
}

static void note(struct search *s, enum factor_way way, bool solved_first, const struct figures *fig) {
    s->pair->way = way;
    s->pair->solved_first = solved_first;
    s->pair->equations = fig->equations;
    s->pair->unknowns = fig->unknowns;
    s->pair->rank = fig->rank;
}

/* g in the middle of a kernel that noise and solution compose to, channels turned over for the mirror. */
static int target_init(struct filter *out, const struct filter *g, const int noise[2], const int solved[2], bool mirror,
                       struct err *e) {
    int status = filter_embed(out, g, noise[0] + solved[0] - 1, noise[1] + solved[1] - 1, e);
    if (!status && mirror) status = turn(out, e);
    return status;
}

static int solve_factor(struct filter *solved, struct figures *fig, const struct filter *given, bool first,
                        const struct filter *g, struct err *e) {
    struct filter target = {0}, other = {0};
    const int sizes[2][2] = {{given->h, given->w}, {solved->h, solved->w}};
    int status = target_init(&target, g, sizes[0], sizes[1], first, e);
    if (!status) status = first ? filter_transpose(&other, given, e) : filter_copy(&other, given, e);
    if (!status && first) status = turn(solved, e);
    if (!status) status = solve_second(solved, fig, &target, &other, e);
    if (!status && first) status = turn(solved, e);
    filter_fini(&target);
    filter_fini(&other);
    return status;
}

/* |second after first - g| / |g| */
static int relative_residual(double *out, const struct filter *first, const struct filter *second,
                             const struct filter *g, struct err *e) {
    struct filter composed;
    int status = filter_compose(&composed, first, second, e);
    if (!status) status = filter_add(&composed, -1, g, e);
    if (status) goto out;
    double norm = filter_norm(g);
    *out = filter_norm(&composed) / (norm > 0 ? norm : 1);
out:
    filter_fini(&composed);
    return status;
}

int factor_solve(struct filter *solved, double *residual, const struct filter *given, bool first,
                 const struct filter *g, struct err *e) {
    struct figures fig;
    int status = solve_factor(solved, &fig, given, first, g, e);
    return status ? status : relative_residual(residual, first ? solved : given, first ? given : solved, g, e);
}

static int measure(struct search *s, struct err *e) {
    s->pair->exact = s->o->sketch;
    if (s->o->sketch) return 0;
    int status = relative_residual(&s->pair->residual, &s->pair->first, &s->pair->second, s->g, e);
    s->pair->exact = !status && s->pair->residual <= FACTOR_EXACT;
    return status;
}

/* One attempt with fresh noise; the factors replace those of the last one. */
static int attempt(struct search *s, enum factor_way way, const struct task *t, struct err *e) {
    struct figures fig = {0};
    filter_fini(&s->pair->first);
    filter_fini(&s->pair->second);
    struct filter *noise = t->mirror ? &s->pair->second : &s->pair->first;
    struct filter *solved = t->mirror ? &s->pair->first : &s->pair->second;
    int status = afford(task_bytes(t), s->o->memory, e);
    if (!status) status = solve_fresh(noise, solved, &fig, t, s->o->sketch, s->random, e);
    if (!status && t->mirror) status = turn(noise, e);
    if (!status && t->mirror) status = turn(solved, e);
    s->pair->sweeps = 0;
    note(s, way, t->mirror, &fig);
    return status ? status : measure(s, e);
}

/* Solves again for one of the factors, the other as it is. */
static int improve(struct search *s, bool first, struct err *e) {
    struct figures fig = {0};
    struct factor_pair *p = s->pair;
    int status = solve_factor(first ? &p->first : &p->second, &fig, first ? &p->second : &p->first, first, s->g, e);
    note(s, FACTOR_GENERAL, first, &fig);
    return status ? status : measure(s, e);
}

/* Worth repeating some dozen times. */
static bool small_enough(const struct factor_pair *p) {
    return (double)p->equations * (double)p->unknowns <= 1 << 22;
}

/* Unknowns for every equation, with noise in the second factor or in the first. */
static double slack(const struct search *s, bool mirror) {
    const int *solved = mirror ? s->o->first : s->o->second;
    return (double)solved[0] * solved[1] / (mirror ? s->g->out : s->g->in);
}

/* Algorithm 1. Leaves the pair empty when the counts forbid it and nothing approximate is wanted. */
static int try_general(struct search *s, bool approximate, struct err *e) {
    const struct factor_options *o = s->o;
    bool mirror = slack(s, true) > slack(s, false);
    const int *noise = mirror ? o->second : o->first, *solved = mirror ? o->first : o->second;
    struct filter target = {0};
    int status = target_init(&target, s->g, noise, solved, mirror, e);
    if (status) goto out;
    struct task t = {&target, o->inner, {noise[0], noise[1]}, {solved[0], solved[1]}, mirror};
    s->pair->equations = (int64_t)target.in * (int64_t)taps(&target);
    s->pair->unknowns = (int64_t)o->inner * solved[0] * solved[1];
    if (!count_allows(&t) && !approximate) goto out;
    status = attempt(s, FACTOR_GENERAL, &t, e);
    int most = o->sweeps ? o->sweeps : FACTOR_SWEEPS;
    while (!status && !s->pair->exact && s->pair->sweeps < most && small_enough(s->pair)) {
        status = improve(s, !mirror, e);
        if (!status) status = improve(s, mirror, e);
        s->pair->sweeps++;
    }
out:
    filter_fini(&target);
    return status;
}

/* Two taps less, at last one. */
static int shrunk(int size) {
    return size > 2 ? size - 2 : 1;
}

static int try_noise_of(struct search *s, const int noise[2], const int solved[2], bool mirror, struct err *e) {
    if (noise[0] + solved[0] - 1 < s->g->h || noise[1] + solved[1] - 1 < s->g->w) return 0;
    struct filter target = {0};
    int status = target_init(&target, s->g, noise, solved, mirror, e);
    struct task t = {&target, s->o->inner, {noise[0], noise[1]}, {solved[0], solved[1]}, mirror};
    /* What takes too much is left to less noise, while there may be less. */
    bool fits = !s->o->memory || task_bytes(&t) <= (double)s->o->memory || noise[0] * noise[1] == 1;
    if (!status && fits && count_allows(&t)) status = attempt(s, FACTOR_PRACTICAL, &t, e);
    filter_fini(&target);
    return status;
}

/* Exact, with factors that are small enough. */
static bool is_good(const struct search *s) {
    double gain = s->o->gain;
    if (!s->pair->exact || !(gain > 0) || s->o->sketch) return s->pair->exact;
    return filter_norm(&s->pair->first) * filter_norm(&s->pair->second) <= gain * filter_norm(s->g);
}

/* Algorithm 2, with both factors in the role of the noise. */
static int try_practical(struct search *s, struct err *e) {
    const struct factor_options *o = s->o;
    int second[2] = {o->second[0], o->second[1]}, first[2] = {o->first[0], o->first[1]};
    for (;;) {
        int status = try_noise_of(s, second, o->first, true, e);
        if (!status && !is_good(s)) status = try_noise_of(s, first, o->second, false, e);
        if (status || is_good(s)) return status;
        if (second[0] * second[1] == 1 && first[0] * first[1] == 1) return 0;
        for (int a = 0; a < 2; a++) {
            second[a] = shrunk(second[a]);
            first[a] = shrunk(first[a]);
        }
    }
}

/* ---- the result ---- */

/* Zeros around a factor of the practical way, and where they are. */
static int pad(struct filter *f, int margins[4], const int size[2], struct err *e) {
    struct filter padded;
    margins[0] = filter_offset(f->h, size[0]);
    margins[1] = filter_offset(f->w, size[1]);
    margins[2] = size[0] - f->h - margins[0];
    margins[3] = size[1] - f->w - margins[1];
    int status = filter_embed(&padded, f, size[0], size[1], e);
    if (status) return status;
    filter_fini(f);
    *f = padded;
    return 0;
}

static void scale(struct filter *f, double by) {
    for (size_t i = 0; i < filter_count(f); i++) f->data[i] *= by;
}

static int finish(struct search *s, struct err *e) {
    struct factor_pair *p = s->pair;
    double rms1 = filter_norm(&p->first) / sqrt((double)filter_count(&p->first));
    double rms2 = filter_norm(&p->second) / sqrt((double)filter_count(&p->second));
    if (rms1 > 0 && rms2 > 0 && !s->o->sketch) {
        scale(&p->first, sqrt(rms2 / rms1));
        scale(&p->second, sqrt(rms1 / rms2));
    }
    int inside[2] = {filter_offset(s->g->h, p->first.h + p->second.h - 1),
                     filter_offset(s->g->w, p->first.w + p->second.w - 1)};
    int status = pad(&p->first, p->margins1, s->o->first, e);
    if (!status) status = pad(&p->second, p->margins2, s->o->second, e);
    for (int a = 0; a < 2; a++) p->offset[a] = inside[a] + p->margins1[a] + p->margins2[a];
    return status;
}

static int refuse(const struct search *s, struct err *e) {
    const struct factor_pair *p = s->pair;
    const struct factor_options *o = s->o;
    char tried[160] = "the system was not solved";
    if (p->first.data)
        snprintf(tried, sizeof tried, "rank %lld, %d sweeps, and a relative residual of %.3g", (long long)p->rank,
                 p->sweeps, p->residual);
    int least = s->g->out < s->g->in ? s->g->out : s->g->in;
    return err_set(
        e, E_UNSUPPORTED,
        "a filter of %d by %d channels and %dx%d taps is no %dx%d after %dx%d with %d channels between: %lld "
        "equations for %lld unknowns per channel; %s. %s",
        s->g->out, s->g->in, s->g->h, s->g->w, o->second[0], o->second[1], o->first[0], o->first[1], o->inner,
        (long long)p->equations, (long long)p->unknowns, tried,
        o->inner < least ? "As many channels as the filter has inputs or outputs would do"
                         : "More channels would do, or a factor with as many taps as the filter");
}

static int check(const struct filter *g, const struct factor_options *o, struct err *e) {
    for (int a = 0; a < 2; a++) {
        int size = a ? g->w : g->h, composed = o->first[a] + o->second[a] - 1;
        if (o->first[a] < 1 || o->second[a] < 1 || o->first[a] > 1 << 10 || o->second[a] > 1 << 10)
            return err_set(e, E_INVALID, "%d and %d taps: not from 1 to %d", o->first[a], o->second[a], 1 << 10);
        if (composed < size)
            return err_set(e, E_UNSUPPORTED, "%d and %d taps make %d, the filter has %d %s", o->first[a], o->second[a],
                           composed, size, a ? "across" : "down");
    }
    if (o->inner < 1) return err_set(e, E_INVALID, "%d channels between the factors", o->inner);
    return 0;
}

int factor_split(struct factor_pair *out, const struct filter *g, const struct factor_options *options,
                 struct random *random, struct err *e) {
    struct search s = {.g = g, .o = options, .random = random, .pair = out};
    *out = (struct factor_pair){0};
    int status = check(g, options, e);
    if (!status && options->way != FACTOR_PRACTICAL)
        status = try_general(&s, options->way == FACTOR_GENERAL && options->approximate, e);
    if (!status && !out->exact && options->way != FACTOR_GENERAL) status = try_practical(&s, e);
    if (!status && !out->exact && options->approximate && options->way != FACTOR_GENERAL)
        status = try_general(&s, true, e);
    if (!status && !out->exact && !(options->approximate && out->first.data)) status = refuse(&s, e);
    if (!status) status = finish(&s, e);
    if (status) factor_pair_fini(out);
    return status;
}

void factor_pair_fini(struct factor_pair *p) {
    filter_fini(&p->first);
    filter_fini(&p->second);
}

/* ---- padding ---- */

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

/* Padding of one side. The second may be padded by what it reads with zeros only, and by all beyond the point from
 * which on the first gives zeros; what remains has to be computed, so it is the first's. */
static void share_padding(int *first, int *second, int total, int step, int reach, int unread) {
    *second = smaller(total, larger(step * unread, total - step * reach));
    *first = total - *second;
}

void factor_windows(struct filter_window *first, struct filter_window *second, const struct factor_pair *p,
                    const struct filter *g, const struct filter_window *parent, bool early) {
    bool point = true; /* the second reads one tap */
    for (int a = 0; a < 2; a++) {
        int taps1 = a ? p->first.w : p->first.h, taps2 = a ? p->second.w : p->second.h, step = parent->dilation[a];
        int after = taps1 + taps2 - 1 - (a ? g->w : g->h) - p->offset[a];
        first->dilation[a] = second->dilation[a] = step;
        first->stride[a] = 1;
        second->stride[a] = parent->stride[a];
        share_padding(&first->begin[a], &second->begin[a], parent->begin[a] + step * p->offset[a], step,
                      taps1 - 1 - p->margins1[a + 2], p->margins2[a]);
        share_padding(&first->end[a], &second->end[a], parent->end[a] + step * after, step, taps1 - 1 - p->margins1[a],
                      p->margins2[a + 2]);
        point = point && taps2 - p->margins2[a] - p->margins2[a + 2] == 1;
    }
    for (int a = 0; early && point && a < 2; a++) {
        int step = parent->dilation[a];
        first->begin[a] += second->begin[a] - step * p->margins2[a];
        first->end[a] += second->end[a] - step * p->margins2[a + 2];
        first->stride[a] = parent->stride[a];
        second->stride[a] = second->dilation[a] = 1;
        second->begin[a] = p->margins2[a];
        second->end[a] = p->margins2[a + 2];
    }
}
