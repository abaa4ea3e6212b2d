/* version.h - what this binary is. */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

struct version {
    const char *version; /* "0.1.0" */
    const char *commit;
    const char *blas;            /* library behind the matrix products */
    const char *instruction_set; /* the widest that this processor and the kernels share: "avx512" */
};

/* The texts are constant. Cheap: no library is warmed up for it. */
struct version version_of_this(void);

#endif
