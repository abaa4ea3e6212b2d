/* conv.c - the choice between the convolution backends. */
#include "engine/kernels/conv.h"

#if RETORT_ONEDNN
extern const struct conv_backend conv_dnnl;
const struct conv_backend *const conv_backends[] = {&conv_runs, &conv_winograd, &conv_dnnl, &conv_blas, NULL};
#else
const struct conv_backend *const conv_backends[] = {&conv_runs, &conv_winograd, &conv_blas, NULL};
#endif

int conv_open(struct conv **out, const struct conv_backend **backend, const struct conv_shape *shape,
              const struct conv_uses *uses, struct err *e) {
    for (int i = 0; conv_backends[i]; i++) {
        struct err refused = {0};
        int status = conv_backends[i]->open(out, shape, uses, &refused);
        if (status == 0) {
            *backend = conv_backends[i];
            return 0;
        }
        if (status != E_UNSUPPORTED) return err_set(e, status, "%s", refused.text);
    }
    return err_set(e, E_INTERNAL, "no convolution backend takes this shape");
}
