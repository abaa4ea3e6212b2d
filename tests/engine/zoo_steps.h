/* zoo_steps.h - what every step is expected to do to each architecture of ONNX's `light` set. For zoo_test.c.
 *
 * A row is a step for every layer it can change, perhaps after another one that makes what it needs. It says how many
 * nodes of each architecture that changes; 0: it is refused, and one of the reasons has the words of the row. */
#ifndef TESTS_ENGINE_ZOO_STEPS_H
#define TESTS_ENGINE_ZOO_STEPS_H

/* As tests/js/zoo.js makes them: height and width of the image, share of the channels. */
static const struct architecture {
    const char *name, *height, *width, *share;
} zoo[] = {
    {"bvlc_alexnet", "96", "64", "0.0625"}, {"densenet121", "64", "32", "0.125"}, {"inception_v1", "64", "64", "0.125"},
    {"inception_v2", "96", "64", "0.0625"}, {"resnet50", "64", "32", "0.0625"},   {"shufflenet", "64", "48", "0.25"},
    {"squeezenet", "64", "48", "0.125"},    {"vgg19", "64", "32", "0.0625"},      {"zfnet512", "96", "64", "0.0625"},
};
enum { ARCHITECTURES = sizeof zoo / sizeof *zoo };

enum promise { EXACT, LOSSY, LOSSY_WITHOUT_DATA };

#define STEP(...) #__VA_ARGS__

static const struct zoo_row {
    const char *before[2]; /* steps that come first, or NULL */
    const char *step;
    enum promise promise;
    int nodes[ARCHITECTURES];
    const char *reason; /* where it is refused: one of these, with | between them */
} zoo_rows[] = {
    /* clang-format off */
    {{NULL}, STEP({"op":"widen","factor":1.5}), EXACT, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"widen","factor":1.6,"mode":"uneven"}), EXACT, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"widen","factor":1.3,"mode":"random-fanin"}), EXACT, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"widen","factor":1.25,"mode":"grad-max"}), EXACT, {0, 0, 0, 0, 0, 0, 0, 0, 0}, "has no slope at 0|of zeros have no variance|shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"widen","factor":1.5,"noise":0.01}), LOSSY, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"deepen"}), EXACT, {8, 121, 58, 70, 54, 50, 26, 19, 8}, ""},
    {{NULL}, STEP({"op":"deepen","mode":"netmorph"}), EXACT, {8, 121, 58, 70, 54, 50, 26, 19, 8}, ""},
    {{NULL}, STEP({"op":"activation"}), EXACT, {1, 120, 1, 70, 21, 30, 0, 1, 1}, "an activation follows it already"},
    {{STEP({"op":"activation"})}, STEP({"op":"activation","mode":"anneal"}), EXACT, {1, 120, 1, 70, 21, 30, 0, 1, 1}, "has no slopes"},
    {{STEP({"op":"activation"})}, STEP({"op":"activation","mode":"linear"}), EXACT, {1, 120, 1, 70, 21, 30, 0, 1, 1}, "has no slopes"},
    {{STEP({"op":"activation"})}, STEP({"op":"activation","mode":"relu"}), EXACT, {0, 0, 0, 0, 0, 0, 0, 0, 0}, "only at 0 everywhere|has no slopes"},
    {{NULL}, STEP({"op":"kernel","size":5}), EXACT, {3, 120, 47, 68, 52, 49, 26, 16, 3}, ""},
    {{NULL}, STEP({"op":"kernel","size":[7,3]}), EXACT, {3, 120, 47, 68, 52, 49, 26, 16, 3}, ""},
    {{NULL}, STEP({"op":"skip","from":"*"}), EXACT, {20, 666, 139, 368, 173, 168, 63, 43, 18}, ""},
    {{NULL}, STEP({"op":"skip","from":"*","mode":"concat"}), EXACT, {18, 661, 136, 363, 168, 163, 60, 38, 15}, ""},
    {{NULL}, STEP({"op":"subnet"}), EXACT, {8, 121, 58, 70, 54, 50, 26, 19, 8}, ""},
    {{NULL}, STEP({"op":"subnet","mode":"stacked"}), EXACT, {8, 121, 58, 70, 54, 50, 26, 19, 8}, ""},
    {{NULL}, STEP({"op":"module","recipe":"1c1"}), EXACT, {7, 121, 58, 70, 54, 50, 25, 19, 6}, ""},
    {{NULL}, STEP({"op":"module","recipe":"3c1-half"}), EXACT, {7, 121, 58, 70, 54, 50, 26, 19, 6}, ""},
    {{NULL}, STEP({"op":"module","recipe":"3c3"}), EXACT, {7, 121, 58, 70, 54, 50, 26, 19, 7}, ""},
    {{NULL}, STEP({"op":"module","recipe":"1c1_2branch"}), EXACT, {3, 62, 38, 38, 37, 33, 17, 3, 3}, ""},
    {{NULL}, STEP({"op":"fold"}), EXACT, {0, 59, 0, 69, 53, 49, 0, 0, 0}, "none repeats another one"},
    {{NULL}, STEP({"op":"fold","mode":"norm"}), EXACT, {0, 59, 0, 69, 53, 49, 0, 0, 0}, "does not scale and shift"},
    {{STEP({"op":"fold"})}, STEP({"op":"fold"}), EXACT, {0}, "does not scale and shift"},
    {{STEP({"op":"deepen","mode":"netmorph"})}, STEP({"op":"fold","mode":"chain"}), EXACT, {8, 121, 58, 70, 54, 50, 26, 19, 8}, ""},
    {{STEP({"op":"subnet","mode":"stacked"}), STEP({"op":"fold","mode":"chain"})}, STEP({"op":"fold","mode":"branches"}), EXACT, {8, 121, 58, 70, 54, 50, 26, 19, 8}, ""},
    {{STEP({"op":"widen","factor":1.5})}, STEP({"op":"fold","mode":"identical"}), EXACT, {2, 120, 55, 69, 53, 0, 25, 18, 5}, "needs them as they are"},
    {{NULL}, STEP({"op":"narrow","factor":0.75}), LOSSY, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"narrow","factor":0.75,"mode":"l1"}), LOSSY_WITHOUT_DATA, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"narrow","factor":0.75,"mode":"norm-scale"}), LOSSY_WITHOUT_DATA, {0, 120, 0, 69, 53, 0, 0, 0, 0}, "no normalisation scales its channels|shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"narrow","factor":0.75,"mode":"activation"}), LOSSY, {5, 120, 55, 69, 53, 0, 25, 18, 5}, "shuffle_split' (Reshape) needs"},
    {{NULL}, STEP({"op":"factor","energy":0.5}), LOSSY, {5, 121, 58, 70, 54, 2, 26, 19, 8}, ""},
    {{NULL}, STEP({"op":"factor","energy":0.5,"mode":"spatial"}), LOSSY, {2, 59, 20, 32, 17, 1, 9, 16, 5}, ""},
    {{NULL}, STEP({"op":"factor","energy":0.5,"mode":"tucker"}), LOSSY, {2, 121, 57, 69, 53, 1, 26, 16, 5}, ""},
    {{NULL}, STEP({"op":"factor","energy":0.5,"mode":"dense"}), LOSSY, {3, 0, 1, 1, 1, 1, 0, 3, 3}, "is for channel, spatial"},
    {{NULL}, STEP({"op":"factor","energy":0.5,"mode":"data"}), LOSSY, {5, 121, 58, 70, 54, 2, 26, 19, 8}, ""},
    {{STEP({"op":"deepen"})}, STEP({"op":"remove"}), EXACT, {8, 180, 58, 139, 107, 99, 26, 19, 8}, ""},
    {{STEP({"op":"activation"})}, STEP({"op":"remove","mode":"anneal"}), EXACT, {1, 120, 1, 70, 21, 30, 0, 1, 1}, "has no slope to anneal"},
    /* clang-format on */
};

#endif
