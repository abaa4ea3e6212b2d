/* hostile_test.c - model files as large, wide and deep as they may be, and more: what is within the bounds is read in
 * time that grows with the file and no faster, the rest is refused. A time limit stands for "no faster": work that
 * grows with the square of these sizes would take hours. */
#define TEST_SECONDS 60
#include "tests/test.h"

#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/kernels/crew.h"
#include "engine/nn/net.h"
#include "engine/transfer/init.h"
#include "engine/transfer/student.h"
#include "tests/engine/protobuf.h"

enum { MANY = GRAPH_MAX_NODES };

static const char *name_of(char stem, int i) {
    static char names[8][16];
    static int next;
    char *name = names[next++ % 8];
    text_print(name, sizeof names[0], "%c%d", stem, i);
    return name;
}

/* Reads, measures and writes it, as an upload and a download would. The graph, or NULL. */
static struct graph *take(struct proto *graph) {
    struct proto model = proto_model(graph);
    struct graph *g = NULL;
    struct graph_size size;
    struct err e = {0};
    int status = onnx_read(&g, model.bytes, model.size, &e);
    proto_end(&model);
    if (!status) status = graph_measure(&size, g, &e);
    ok(status == 0, "%d %s", status, e.text);
    return g;
}

static int discard(void *context, const void *bytes, size_t size, struct err *e) {
    (void)bytes, (void)e;
    *(size_t *)context += size;
    return 0;
}

static void write_out(const struct graph *g) {
    struct err e = {0};
    size_t size = 0;
    ok(onnx_write((struct byte_sink){discard, &size}, g, &e) == 0 && size > 0, "%s", e.text);
}

static void refuse(struct proto *graph, int code, const char *words) {
    struct proto model = proto_model(graph);
    struct graph *g = NULL;
    struct err e = {0};
    int status = onnx_read(&g, model.bytes, model.size, &e);
    ok(status == code && strstr(e.text, words), "wanted %d with '%s', got %d: %s", code, words, status, e.text);
    ok(g == NULL && mem_live() == 0, "%lld blocks left", (long long)mem_live());
    proto_end(&model);
}

/* ---- many nodes ---- */

/* x -> v1 -> ... -> vn = y, listed from the front or from the back. */
static struct proto chain(int n, bool backwards) {
    struct proto g = {0};
    for (int k = 0; k < n; k++) {
        int i = backwards ? n - 1 - k : k;
        proto_node(&g, "Relu", i ? name_of('v', i) : "x", name_of('v', i + 1));
    }
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, name_of('v', n), 2);
    return g;
}

TEST(a_million_nodes_in_order) {
    struct proto p = chain(MANY, false);
    struct graph *g = take(&p);
    need(g, "read");
    ok(g->n_nodes == MANY, "%d nodes", g->n_nodes);
    write_out(g);
    graph_free(g);
}

TEST(a_million_nodes_backwards) {
    struct proto p = chain(MANY, true);
    struct graph *g = take(&p);
    need(g, "read");
    ok(g->n_nodes == MANY, "%d nodes", g->n_nodes);
    graph_free(g);
}

TEST(more_than_a_million_nodes_are_refused) {
    struct proto p = chain(MANY + 1, false);
    refuse(&p, E_TOO_LARGE, "the graph has 1000001 nodes; at most 1000000 are taken");
}

TEST(a_cycle_of_a_million_nodes_is_refused) {
    struct proto g = {0};
    for (int i = 0; i < MANY; i++) proto_node(&g, "Relu", name_of('v', i ? i : MANY), name_of('v', i + 1));
    proto_value(&g, GRAPH_OUTPUT, name_of('v', MANY), 2);
    refuse(&g, E_INVALID, "the graph has a cycle");
}

TEST(a_million_nodes_read_one_value) {
    struct proto g = {0};
    for (int i = 0; i < MANY; i++) proto_node(&g, "Relu", "x", name_of('v', i));
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "v7", 2);
    struct graph *read = take(&g);
    need(read, "read");
    graph_free(read);
}

TEST(nodes_of_4096_inputs) {
    struct proto g = {0}, node = {0};
    for (int i = 0; i < 500; i++) {
        for (int k = 0; k < NODE_MAX_INPUTS; k++) proto_text(&node, NODE_INPUT, k ? "x" : i ? name_of('v', i) : "x");
        proto_text(&node, NODE_OUTPUT, name_of('v', i + 1));
        proto_text(&node, NODE_OP, "Sum");
        proto_message(&g, GRAPH_NODE, &node);
    }
    proto_end(&node);
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "v500", 2);
    struct graph *read = take(&g);
    need(read, "read");
    write_out(read);
    graph_free(read);
}

TEST(more_than_four_million_values_are_refused) {
    struct proto g = {0}, node = {0};
    for (int i = 0; i <= GRAPH_MAX_VALUES / NODE_MAX_INPUTS; i++) {
        proto_text(&node, NODE_INPUT, "x");
        for (int k = 0; k < NODE_MAX_INPUTS; k++) proto_text(&node, NODE_OUTPUT, name_of('v', i * NODE_MAX_INPUTS + k));
        proto_text(&node, NODE_OP, "Split");
        proto_message(&g, GRAPH_NODE, &node);
    }
    proto_end(&node);
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "v0", 2);
    refuse(&g, E_TOO_LARGE, "more than 4000000 values");
}

/* ---- many ends ---- */

TEST(a_million_nodes_with_4096_inputs_and_outputs_of_the_graph) {
    struct proto g = {0};
    for (int i = 0; i < MANY; i++) proto_node(&g, "Relu", name_of('x', i % NODE_MAX_INPUTS), name_of('v', i));
    for (int i = 0; i < NODE_MAX_INPUTS; i++) {
        proto_value(&g, GRAPH_INPUT, name_of('x', i), 2);
        proto_value(&g, GRAPH_OUTPUT, name_of('v', i), 2);
    }
    struct graph *read = take(&g);
    need(read, "read");
    ok(read->n_inputs == NODE_MAX_INPUTS && read->n_outputs == NODE_MAX_INPUTS, "ends");
    graph_free(read);
}

TEST(nodes_to_be_folded_with_4096_outputs_of_the_graph) {
    struct proto g = {0};
    proto_constant(&g, "c0", 1);
    for (int i = 0; i < MANY / 2; i++) proto_node(&g, "Neg", name_of('c', i), name_of('c', i + 1));
    for (int i = 0; i < NODE_MAX_INPUTS; i++) {
        proto_node(&g, "Relu", "x", name_of('v', i));
        proto_value(&g, GRAPH_OUTPUT, name_of('v', i), 2);
    }
    proto_value(&g, GRAPH_INPUT, "x", 2);
    struct graph *read = take(&g);
    need(read, "read");
    ok(read->n_nodes == NODE_MAX_INPUTS, "%d nodes", read->n_nodes);
    graph_free(read);
}

TEST(too_many_ends_are_refused) {
    struct proto g = {0};
    proto_node(&g, "Relu", "x0", "y");
    for (int i = 0; i < 100000; i++) proto_value(&g, GRAPH_INPUT, name_of('x', i), 2);
    proto_value(&g, GRAPH_OUTPUT, "y", 2);
    refuse(&g, E_TOO_LARGE, "the graph has 100000 inputs");
    g = (struct proto){0};
    for (int i = 0; i < 100000; i++) proto_node(&g, "Relu", "x", name_of('y', i));
    for (int i = 0; i < 100000; i++) proto_value(&g, GRAPH_OUTPUT, name_of('y', i), 2);
    proto_value(&g, GRAPH_INPUT, "x", 2);
    refuse(&g, E_TOO_LARGE, "100000 outputs");
}

/* Initializers that nobody lists as inputs do not make room for more inputs. */
/* ReduceSum of a large constant, again and again: results that are small, and much work. */
TEST(work_on_constants_is_bounded) {
    struct proto g = {0};
    proto_constant(&g, "w", 4 << 20);
    for (int i = 0; i < MANY / 2; i++) proto_node(&g, "ReduceMax", "w", name_of('v', i));
    proto_value(&g, GRAPH_OUTPUT, "v0", 2);
    refuse(&g, E_TOO_LARGE, "");
}

TEST(too_many_inputs_beside_many_initializers_are_refused) {
    struct proto g = {0};
    for (int i = 0; i < 100000; i++) {
        proto_constant(&g, name_of('c', i), 1);
        proto_value(&g, GRAPH_INPUT, name_of('x', i), 2);
        proto_node(&g, "Relu", name_of('x', i), name_of('y', i));
    }
    proto_value(&g, GRAPH_OUTPUT, "y0", 2);
    refuse(&g, E_TOO_LARGE, "at most 4096");
}

TEST(many_initializers_listed_as_inputs) {
    struct proto g = {0};
    enum { N = 300000 };
    for (int i = 0; i < N; i++) {
        static struct proto node;
        proto_constant(&g, name_of('c', i), 2);
        proto_value(&g, GRAPH_INPUT, name_of('c', i), 2);
        proto_text(&node, NODE_INPUT, i ? name_of('v', i) : "x");
        proto_text(&node, NODE_INPUT, name_of('c', i));
        proto_text(&node, NODE_OUTPUT, name_of('v', i + 1));
        proto_text(&node, NODE_OP, "Add");
        proto_message(&g, GRAPH_NODE, &node);
    }
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, name_of('v', N), 2);
    struct graph *read = take(&g), *copy = NULL;
    struct err e = {0};
    need(read, "read");
    ok(read->n_inputs == 1, "%d inputs", read->n_inputs);
    write_out(read);
    ok(graph_clone(&copy, read, &e) == 0, "%s", e.text);
    graph_free(copy);
    graph_free(read);
}

/* ---- a small file that would become large ---- */

TEST(copies_of_a_constant_are_bounded) {
    struct proto g = {0};
    proto_constant(&g, "w", 4 << 20);
    for (int i = 0; i < 100000; i++) proto_node(&g, "Identity", "w", name_of('v', i));
    proto_value(&g, GRAPH_OUTPUT, "v0", 2);
    refuse(&g, E_TOO_LARGE, "copies");
}

TEST(constants_that_grow_are_bounded) {
    struct proto g = {0}, node = {0};
    proto_constant(&g, "c0", 1 << 16);
    for (int i = 0; i < 1000; i++) {
        for (int k = 0; k < 4; k++) proto_text(&node, NODE_INPUT, name_of('c', i));
        proto_text(&node, NODE_OUTPUT, name_of('c', i + 1));
        proto_text(&node, NODE_OP, "Concat");
        struct proto axis = {0};
        proto_text(&axis, ATTRIBUTE_NAME_, "axis");
        proto_int(&axis, ATTRIBUTE_I_, 0);
        proto_int(&axis, ATTRIBUTE_TYPE_, 2);
        proto_message(&node, NODE_ATTRIBUTE, &axis);
        proto_end(&axis);
        proto_message(&g, GRAPH_NODE, &node);
    }
    proto_end(&node);
    proto_value(&g, GRAPH_OUTPUT, "c1000", 2);
    refuse(&g, E_TOO_LARGE, "");
}

/* Names that a plain FNV-1a puts into one corner of a table of 2^20, which would be searched from end to end. */
TEST(names_cannot_be_chosen_to_meet) {
    struct proto g = {0};
    enum { N = 300000 };
    for (int i = 0, found = 0; found < N; i++) {
        uint64_t h = 0xcbf29ce484222325u;
        const char *name = name_of('n', i);
        for (const char *at = name; *at; at++) h = (h ^ (unsigned char)*at) * 0x100000001b3u;
        if ((h ^ (h >> 32)) % (1 << 20) >= 1 << 13) continue;
        proto_node(&g, "Relu", "x", name);
        found++;
    }
    proto_node(&g, "Relu", "x", "y");
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "y", 2);
    struct graph *read = take(&g);
    need(read, "read");
    graph_free(read);
}

/* ---- deep ---- */

/* Adds a field that lacks its last `rest` bytes, which follow. */
static void open_field(struct proto *p, unsigned field, const struct proto *begin, size_t rest) {
    proto_varint(p, field << 3 | 2);
    proto_varint(p, begin->size + rest);
    proto_bytes(p, begin->bytes, begin->size);
}

static size_t field_size(size_t content) {
    size_t size = content + 2;
    for (; content > 127; content >>= 7) size++;
    return size;
}

/* Subgraphs in attributes of nodes of subgraphs. Lengths come before contents, so they are worked out first. */
static struct proto nested(int depth) {
    struct proto g = {0}, node = {0}, attribute = {0}, nothing = {0};
    size_t *sizes = calloc((size_t)depth + 1, sizeof *sizes); /* of the graph so many levels up */
    if (!sizes) exit(1);
    proto_text(&attribute, ATTRIBUTE_NAME_, "body");
    proto_text(&node, NODE_INPUT, "x");
    proto_text(&node, NODE_OUTPUT, "y");
    proto_text(&node, NODE_OP, "Relu");
    for (int i = 0; i < depth; i++) {
        size_t in_attribute = attribute.size + field_size(sizes[i]);
        sizes[i + 1] = field_size(node.size + field_size(in_attribute));
    }
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "y", 2);
    for (int i = depth - 1; i >= 0; i--) {
        size_t in_attribute = attribute.size + field_size(sizes[i]);
        open_field(&g, GRAPH_NODE, &node, field_size(in_attribute));
        open_field(&g, NODE_ATTRIBUTE, &attribute, field_size(sizes[i]));
        open_field(&g, ATTRIBUTE_G_, &nothing, sizes[i]);
    }
    proto_end(&node);
    proto_end(&attribute);
    free(sizes);
    return g;
}

TEST(deep_attributes_are_refused_whatever_their_depth) {
    static const int depths[] = {25, 100, 10000, 1000000};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        struct proto p = nested(depths[i]);
        refuse(&p, E_TOO_LARGE, "nested more than 64 deep");
    }
    struct proto p = nested(15);
    refuse(&p, E_UNSUPPORTED, "it is a graph");
}

TEST(many_attributes_are_refused) {
    struct proto g = {0}, node = {0}, attribute = {0};
    proto_text(&node, NODE_INPUT, "x");
    proto_text(&node, NODE_OUTPUT, "y");
    proto_text(&node, NODE_OP, "Relu");
    for (int i = 0; i < 1000000; i++) {
        proto_text(&attribute, ATTRIBUTE_NAME_, name_of('a', i));
        proto_int(&attribute, ATTRIBUTE_I_, 1);
        proto_message(&node, NODE_ATTRIBUTE, &attribute);
    }
    proto_message(&g, GRAPH_NODE, &node);
    proto_end(&node);
    proto_end(&attribute);
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "y", 2);
    refuse(&g, E_TOO_LARGE, "1000000 attributes; at most 64");
}

/* ---- what jobs do with it ---- */

static void plan(const struct graph *g, bool training) {
    struct crew *crew = NULL;
    struct net *n = NULL;
    struct err e = {0};
    ok(crew_new(&crew, 1, &e) == 0 &&
           net_new(&n, g, crew, &(struct net_options){.batch = 1, .training = training}, &e) == 0,
       "%s", e.text);
    net_free(n);
    crew_free(crew);
}

TEST(many_parameters_are_planned) {
    struct proto g = {0}, node = {0};
    enum { N = 150, EACH = NODE_MAX_INPUTS - 1 };
    for (int i = 0; i < N; i++) {
        proto_text(&node, NODE_INPUT, i ? name_of('v', i) : "x");
        for (int k = 0; k < EACH; k++) {
            proto_constant(&g, name_of('c', i * EACH + k), 2);
            proto_text(&node, NODE_INPUT, name_of('c', i * EACH + k));
        }
        proto_text(&node, NODE_OUTPUT, name_of('v', i + 1));
        proto_text(&node, NODE_OP, "Sum");
        proto_message(&g, GRAPH_NODE, &node);
    }
    proto_end(&node);
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, name_of('v', N), 2);
    struct graph *read = take(&g);
    need(read, "read");
    plan(read, true);
    graph_free(read);
}

TEST(many_views_are_planned) {
    struct proto g = {0};
    enum { N = 200000 };
    for (int i = 0; i < N; i++) proto_node(&g, "Flatten", i ? name_of('v', i) : "h", name_of('v', i + 1));
    proto_constant(&g, "c", 2);
    struct proto node = {0};
    proto_text(&node, NODE_INPUT, "x");
    proto_text(&node, NODE_INPUT, "c");
    proto_text(&node, NODE_OUTPUT, "h");
    proto_text(&node, NODE_OP, "Mul");
    proto_message(&g, GRAPH_NODE, &node);
    proto_end(&node);
    proto_node(&g, "Relu", name_of('v', N), "y");
    proto_value(&g, GRAPH_INPUT, "x", 2);
    proto_value(&g, GRAPH_OUTPUT, "y", 2);
    struct graph *read = take(&g);
    need(read, "read");
    plan(read, false);
    plan(read, true);
    graph_free(read);
}

/* 100,000 times the same layer beside each other, their answers added up: what is scaled, rewritten and drawn anew for a
 * smaller student. */
TEST(many_layers_are_scaled) {
    struct graph *g = NULL, *student = NULL;
    struct err e = {0};
    enum { N = 100000 };
    need(graph_new(&g, "wide", 17, &e) == 0, "%s", e.text);
    int x, sum = VALUE_NONE, target = VALUE_NONE;
    struct array *shape = NULL;
    need(array_new(&shape, DT_INT64, &(struct shape){.rank = 1, .dim = {2}}, &e) == 0, "%s", e.text);
    ((int64_t *)shape->data)[0] = 0, ((int64_t *)shape->data)[1] = 4;
    graph_add_value(&x, g, "x", NULL, &e);
    graph_add_input(g, x, DT_FLOAT32, &(struct shape){.rank = 2, .dim = {DIM_BATCH, 2}}, &e);
    graph_add_constant_take(&target, g, "target", shape, &e);
    for (int i = 0; i < N; i++) {
        struct array *w = NULL;
        int weights, product, viewed, next;
        array_new(&w, DT_FLOAT32, &(struct shape){.rank = 2, .dim = {2, 4}}, &e);
        graph_add_constant_take(&weights, g, NULL, w, &e);
        graph_add_value(&product, g, NULL, "product", &e);
        graph_add_value(&viewed, g, NULL, "viewed", &e);
        graph_add_node(NULL, g, "MatMul", NULL, (int[]){x, weights}, 2, &product, 1, &e);
        graph_add_node(NULL, g, "Reshape", NULL, (int[]){product, target}, 2, &viewed, 1, &e);
        if (i) {
            graph_add_value(&next, g, NULL, "sum", &e);
            graph_add_node(NULL, g, "Add", NULL, (int[]){sum, viewed}, 2, &next, 1, &e);
        }
        sum = i ? next : viewed;
    }
    struct array *w = NULL;
    int weights, y;
    array_new(&w, DT_FLOAT32, &(struct shape){.rank = 2, .dim = {4, 3}}, &e);
    graph_add_constant_take(&weights, g, NULL, w, &e);
    graph_add_value(&y, g, "y", NULL, &e);
    graph_add_node(NULL, g, "MatMul", NULL, (int[]){sum, weights}, 2, &y, 1, &e);
    graph_add_output(g, y, &e);
    need(graph_finish(g, &e) == 0, "%s", e.text);
    need(student_scale(&student, g, 0.5, (size_t)1 << 32, &e) == 0, "%s", e.text);
    ok(init_graph(student, 1, &e) == 0, "%s", e.text);
    ok(student->values[graph_find_value(student, "y")].shape.dim[1] == 3, "answers");
    graph_free(g);
    graph_free(student);
}

TEST_MAIN
