/*
 * cuDNN's graph API as far as the backend uses it: descriptors are bags of attributes, finalising checks them, and
 * executing a plan interprets its one convolution with plain loops, sums in double. Three engines are proposed, the
 * first two of which a careful caller refuses: one is not deterministic, one uses tensor cores.
 */
#include <map>
#include <vector>

#include <cudnn.h>

#include "internal.h"

using emulator::enqueue;

namespace
{

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    int engine = 0;
    std::map<int, std::vector<char>> attributes;

    template <class T> T get(int name, size_t i = 0) const
    {
        T value{};
        auto found = attributes.find(name);
        if (found != attributes.end() && (i + 1) * sizeof(T) <= found->second.size())
            memcpy(&value, found->second.data() + i * sizeof(T), sizeof(T));
        return value;
    }
    bool has(int name) const { return attributes.count(name) > 0; }
};

struct handle {
    cudaStream_t stream;
};

descriptor *of(cudnnBackendDescriptor_t d) { return static_cast<descriptor *>(d); }

struct tensor {
    int64_t id, dims[4], strides[4];
    cudnnDataType_t type;
    char *data;
};

enum { X, W, Y };

struct convolution {
    int written;
    tensor t[3];
    int64_t before[2], behind[2], stride;
};

size_t item_size(cudnnDataType_t type) { return type == CUDNN_DATA_FLOAT ? 4 : 2; }

double read(const tensor &t, int64_t at)
{
    const char *p = t.data + static_cast<size_t>(at) * item_size(t.type);
    if (t.type == CUDNN_DATA_FLOAT) return *reinterpret_cast<const float *>(p);
    return __bfloat162float(*reinterpret_cast<const __nv_bfloat16 *>(p));
}

void write(const tensor &t, int64_t at, double v)
{
    char *p = t.data + static_cast<size_t>(at) * item_size(t.type);
    if (t.type == CUDNN_DATA_FLOAT)
        *reinterpret_cast<float *>(p) = static_cast<float>(v);
    else
        *reinterpret_cast<__nv_bfloat16 *>(p) = __float2bfloat16(static_cast<float>(v));
}

int64_t count(const tensor &t) { return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3]; }

/* Every product of the convolution once; the sums are kept apart and written at the end. */
void run(const convolution &c)
{
    const tensor &x = c.t[X], &w = c.t[W], &y = c.t[Y];
    std::vector<double> sums(static_cast<size_t>(count(c.t[c.written])));
    for (int64_t n = 0; n < y.dims[0]; n++)
        for (int64_t p = 0; p < y.dims[2]; p++)
            for (int64_t q = 0; q < y.dims[3]; q++)
                for (int64_t i = 0; i < w.dims[2]; i++)
                    for (int64_t j = 0; j < w.dims[3]; j++) {
                        int64_t row = p * c.stride + i - c.before[0], column = q * c.stride + j - c.before[1];
                        if (row < 0 || row >= x.dims[2] || column < 0 || column >= x.dims[3]) continue;
                        int64_t x0 = n * x.strides[0] + row * x.strides[2] + column * x.strides[3];
                        int64_t y0 = n * y.strides[0] + p * y.strides[2] + q * y.strides[3];
                        int64_t w0 = i * w.strides[2] + j * w.strides[3];
                        for (int64_t o = 0; o < w.dims[0]; o++)
                            for (int64_t k = 0; k < w.dims[1]; k++) {
                                int64_t at[3] = {x0 + k * x.strides[1], w0 + o * w.strides[0] + k * w.strides[1],
                                                 y0 + o * y.strides[1]};
                                double product = 1;
                                for (int f = 0; f < 3; f++)
                                    if (f != c.written) product *= read(c.t[f], at[f]);
                                sums[static_cast<size_t>(at[c.written])] += product;
                            }
                    }
    for (size_t i = 0; i < sums.size(); i++) write(c.t[c.written], static_cast<int64_t>(i), sums[i]);
}

struct names {
    int x, w, y, convolution, alpha, beta, written;
};

const names *names_of(cudnnBackendDescriptorType_t type)
{
    static const names forward = {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                                  CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                                  Y};
    static const names data = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                               X};
    static const names filter = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                                 W};
    return type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR           ? &forward
           : type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR   ? &data
           : type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR ? &filter
                                                                                    : nullptr;
}

tensor tensor_of(const descriptor *d)
{
    tensor t{};
    t.id = d->get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    t.type = d->get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
    for (size_t i = 0; i < 4; i++) {
        t.dims[i] = d->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        t.strides[i] = d->get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i);
    }
    return t;
}

convolution convolution_of(const descriptor *op)
{
    const names *n = names_of(op->type);
    convolution c{};
    c.written = n->written;
    const int places[3] = {n->x, n->w, n->y};
    for (int i = 0; i < 3; i++) c.t[i] = tensor_of(of(op->get<cudnnBackendDescriptor_t>(places[i])));
    const descriptor *d = of(op->get<cudnnBackendDescriptor_t>(n->convolution));
    for (size_t i = 0; i < 2; i++) {
        c.before[i] = d->get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        c.behind[i] = d->get<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
    }
    c.stride = d->get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    return c;
}

bool tensor_is_sound(const descriptor *d)
{
    tensor t = tensor_of(d);
    for (int i = 0; i < 4; i++)
        if (t.dims[i] < 1 || t.strides[i] < 1) return false;
    return t.id > 0 && (t.type == CUDNN_DATA_FLOAT || t.type == CUDNN_DATA_BFLOAT16);
}

bool operation_is_sound(const descriptor *op)
{
    const names *n = names_of(op->type);
    for (int name : {n->x, n->w, n->y, n->convolution, n->alpha, n->beta})
        if (!op->has(name)) return false;
    convolution c = convolution_of(op);
    for (int i = 0; i < 2; i++) {
        int64_t size = c.t[X].dims[2 + i] + c.before[i] + c.behind[i] - c.t[W].dims[2 + i];
        if (size < 0 || c.before[i] < 0 || c.behind[i] < 0 || size / c.stride + 1 != c.t[Y].dims[2 + i]) return false;
    }
    bool mixed = c.t[W].type != c.t[X].type && !(c.written == W && c.t[W].type == CUDNN_DATA_FLOAT);
    return !mixed && c.t[X].type == c.t[Y].type && c.t[X].dims[0] == c.t[Y].dims[0] &&
           c.t[X].dims[1] == c.t[W].dims[1] && c.t[Y].dims[1] == c.t[W].dims[0];
}

bool is_sound(const descriptor *d)
{
    switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: return tensor_is_sound(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: return d->get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES) > 0;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return d->has(CUDNN_ATTR_OPERATIONGRAPH_OPS) && d->has(CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: return d->has(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: return d->has(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: return d->has(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    default: return names_of(d->type) ? operation_is_sound(d) : true;
    }
}

size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;
    }
}

constexpr int64_t scratch_bytes = 1024, engine_count = 3;
constexpr int engine_operation = -1;

/* The engine configurations know the operation graph that they are for. */
void propose(const descriptor *heuristic, descriptor *config, int engine)
{
    config->engine = engine;
    auto graph = heuristic->get<cudnnBackendDescriptor_t>(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    auto op = of(graph)->get<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    convolution c = convolution_of(of(op));
    const char *bytes = reinterpret_cast<const char *>(&c);
    config->attributes[engine_operation].assign(bytes, bytes + sizeof c);
    config->finalized = true;
}

} // namespace

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    *out = reinterpret_cast<cudnnHandle_t>(new handle{nullptr});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    delete reinterpret_cast<handle *>(h);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t stream)
{
    reinterpret_cast<handle *>(h)->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

const char *cudnnGetErrorString(cudnnStatus_t) { return "refused by the emulation"; }

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    descriptor *d = new descriptor;
    d->type = type;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    delete of(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t number, const void *value)
{
    if (of(d)->finalized || number < 1 || !value) return CUDNN_STATUS_BAD_PARAM;
    const char *bytes = static_cast<const char *>(value);
    of(d)->attributes[name].assign(bytes, bytes + static_cast<size_t>(number) * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    if (of(d)->finalized || !is_sound(of(d))) return CUDNN_STATUS_BAD_PARAM;
    if (of(d)->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        descriptor *config = of(of(d)->get<cudnnBackendDescriptor_t>(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
        of(d)->attributes[engine_operation] = config->attributes[engine_operation];
    }
    of(d)->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t wanted, int64_t *number, void *out)
{
    if (!of(d)->finalized) return CUDNN_STATUS_BAD_PARAM;
    cudnnBackendDescriptor_t *descriptors = static_cast<cudnnBackendDescriptor_t *>(out);
    int64_t scratch = scratch_bytes;
    cudnnBackendNumericalNote_t note = of(d)->engine == 0 ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC
                                                          : CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    switch (static_cast<int>(name)) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        *number = wanted < engine_count ? wanted : engine_count;
        for (int64_t i = 0; i < *number; i++) propose(of(d), of(descriptors[i]), static_cast<int>(i));
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        *number = 1;
        of(descriptors[0])->engine = of(d)->engine;
        of(descriptors[0])->finalized = true;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        *number = of(d)->engine < 2;
        if (*number) memcpy(out, &note, sizeof note);
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *number = 1;
        memcpy(out, &scratch, sizeof scratch);
        return CUDNN_STATUS_SUCCESS;
    default: return CUDNN_STATUS_NOT_SUPPORTED;
    }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    if (!of(plan)->finalized || !of(pack)->finalized) return CUDNN_STATUS_BAD_PARAM;
    convolution c = of(plan)->get<convolution>(engine_operation);
    char *scratch = of(pack)->get<char *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    for (size_t i = 0; i < 3; i++)
        for (tensor &t : c.t)
            if (t.id == of(pack)->get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i))
                t.data = of(pack)->get<char *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
    for (tensor &t : c.t)
        if (!emulator::is_device_memory(t.data, static_cast<size_t>(count(t)) * item_size(t.type)) ||
            reinterpret_cast<uintptr_t>(t.data) % 16)
            return CUDNN_STATUS_BAD_PARAM;
    if (!emulator::is_device_memory(scratch, scratch_bytes)) return CUDNN_STATUS_BAD_PARAM;
    enqueue(reinterpret_cast<handle *>(h)->stream, "cudnnBackendExecute", [=] {
        emulator::touch(scratch, scratch_bytes, true);
        for (int i = 0; i < 3; i++)
            emulator::touch(c.t[i].data, static_cast<size_t>(count(c.t[i])) * item_size(c.t[i].type), i == c.written);
        memset(scratch, 0xa5, scratch_bytes);
        run(c);
    });
    return CUDNN_STATUS_SUCCESS;
}

} // extern "C"
