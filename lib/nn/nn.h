/*
 * nn: parameters by their published names, and layers written with graph operators.
 *
 *   params.c   a set of parameters: names, shapes, layouts, initialisation, conversion to and from PyTorch's layout
 *   layers.c   convolution, linear, norms, residual and transformer blocks shared by the models
 *
 * A layer function takes the builder and a name, asks for its parameters by that name, and returns a graph value: it
 * reads like the equation of the paper. The first graph of a model declares the parameters; later graphs find them
 * again. Called by model; calls graph.
 */
#ifndef ED_NN_H
#define ED_NN_H

#include "graph/build.h"

/* How a parameter lies in the library compared with PyTorch's file. */
typedef enum ed_layout {
    ED_LAYOUT_PLAIN, /* the same */
    ED_LAYOUT_CONV,  /* file [o, i, kh, kw], here [o, kh, kw, i] */
    ED_LAYOUT_FLAT,  /* file [o, i * h * w] read in C, H, W order; here [o, h, w, i] */
} ed_layout;

typedef enum ed_init {
    ED_INIT_FAN_IN, /* uniform(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default of Linear and Conv2d */
    ED_INIT_ZERO,
    ED_INIT_ONE,
    ED_INIT_CODEBOOK,   /* uniform(-1/n, 1/n), n the number of entries */
    ED_INIT_NORMAL,     /* N(0, 0.02): the discriminator's convolutions */
    ED_INIT_NORMAL_ONE, /* N(1, 0.02): the discriminator's norms */
} ed_init;

typedef struct ed_param {
    char *name;         /* published; with %d for a stack of `pieces` tensors that lie one behind the other */
    ed_shape shape;     /* in the library's layout; of a stack: [pieces, ...] */
    ed_shape published; /* of one tensor in the file */
    ed_layout layout;
    int pieces; /* 1, or the height of the stack */
    ed_init init;
    int fan_in;
    bool buffer;   /* a running statistic: saved, not trained */
    size_t offset; /* floats */
} ed_param;

/* The parameters of one network. `values` is NULL until ed_params_allocate(). */
typedef struct ed_params {
    ed_env *env;
    ed_param *items;
    size_t count, capacity;
    size_t total;     /* floats; each parameter starts at a multiple of 16 */
    int32_t *buckets; /* of a hash table over the names; its size is a power of two */
    size_t bucket_count;
    bool closed; /* asking for an unknown name is an error from now on */
    float *values;
    uint64_t version; /* changes with the values */
} ed_params;

void ed_params_init(ed_params *params, ed_env *env);
void ed_params_free(ed_params *params);
/* End of declarations: take memory, whose values ed_params_initialise() or a file has to fill. */
encdiff_status ed_params_allocate(ed_params *params);
/* The same seed gives the same values on every machine. */
void ed_params_initialise(ed_params *params, uint64_t seed);
/* Zeros between the parameters of a buffer laid out like params->values: optimisers and guards run over them too. */
void ed_params_clear_gaps(const ed_params *params, float *values);
/* The parameter declared under this (stack) name; -1 when unknown. */
int ed_params_find(const ed_params *params, const char *name);
int64_t ed_params_trainable_count(const ed_params *params);

/* One published tensor: piece `piece` of parameter `index`. */
typedef struct ed_tensor_ref {
    int param, piece;
} ed_tensor_ref;

size_t ed_params_tensor_count(const ed_params *params);
ed_tensor_ref ed_params_tensor(const ed_params *params, size_t index);
ed_shape ed_params_tensor_shape(const ed_params *params, ed_tensor_ref ref); /* in the file */
void ed_params_tensor_name(const ed_params *params, ed_tensor_ref ref, char *name, size_t size);
/* Between the file's layout and a buffer laid out like params->values. */
void ed_params_to_published(const ed_params *params, const float *values, ed_tensor_ref ref, float *out);
void ed_params_from_published(const ed_params *params, float *values, ed_tensor_ref ref, const float *in);

/* ---- the builder: a graph, a parameter set and a name prefix */

typedef struct ed_nn {
    ed_graph *graph;
    ed_params *params;
    int set;       /* the graph's number for `params` */
    bool training; /* batch statistics, dropout */
    char prefix[160];
} ed_nn;

/* The builder with `format` appended to its prefix. */
ed_nn ed_nn_at(const ed_nn *nn, const char *format, ...) ENCDIFF_FORMAT(2, 3);
/* Dimension `i` of a value; 1 after a failure. */
static inline int ed_nn_dim(const ed_nn *nn, ed_value v, int i)
{
    return v == ED_NONE ? 1 : (int)ed_graph_shape(nn->graph, v)->dim[i];
}
/* Parameter prefix + name; declared when new and the set is open. `published` is the file's shape. */
ed_value ed_nn_param(ed_nn *nn, const char *name, ed_shape published, ed_layout layout, ed_init init, int fan_in);
ed_value ed_nn_buffer(ed_nn *nn, const char *name, ed_shape published, ed_init init);
/* A stack: `name` has one %d; the value is [pieces, published...]. */
ed_value ed_nn_stack(ed_nn *nn, const char *name, int pieces, ed_shape published, int fan_in);

/* ---- layers. `name` is relative to the prefix. Image values are [n, h, w, c]. */

typedef struct ed_conv_options {
    int kernel, stride;
    int pad;             /* on all sides */
    bool pad_right_only; /* one more row below and column on the right instead: the autoencoder's downsampling */
    bool no_bias, zero_init, normal_init;
    ed_value residual; /* added to the output; 0 is a value, so say ED_NONE */
} ed_conv_options;

ed_value ed_nn_conv(ed_nn *nn, const char *name, ed_value x, int out, const ed_conv_options *options);
ed_value ed_nn_conv3(ed_nn *nn, const char *name, ed_value x, int out); /* 3x3, pad 1 */
/* 1x1 convolution: a linear layer whose weight the file holds as [o, i, 1, 1]. */
ed_value ed_nn_conv1(ed_nn *nn, const char *name, ed_value x, int out, ed_value residual);
ed_value ed_nn_conv1_zero(ed_nn *nn, const char *name, ed_value x, int out, ed_value residual); /* starts as zero */
ed_value ed_nn_linear(ed_nn *nn, const char *name, ed_value x, int out, bool bias, ed_value residual);
ed_value ed_nn_group_norm(ed_nn *nn, const char *name, ed_value x, float eps, ed_activation activation);
/* The same, then (1 + scale) * y + shift before the activation; scale_shift [n, 2c]. */
ed_value ed_nn_group_norm_modulated(ed_nn *nn, const char *name, ed_value x, ed_value scale_shift, float eps,
                                    ed_activation activation);
ed_value ed_nn_layer_norm(ed_nn *nn, const char *name, ed_value x);
ed_value ed_nn_batch_norm(ed_nn *nn, const char *name, ed_value x, ed_activation activation, float slope,
                          bool normal_init);
/* Multi-head attention plus `residual`. x [n, l, c], context [n, m, d] or ED_NONE for self attention; `map`, when not
 * NULL, receives the probabilities [n, l, m], averaged over the heads. */
ed_value ed_nn_attention(ed_nn *nn, const char *name, ed_value x, ed_value context, int heads, ed_value residual,
                         ed_value *map);

#endif
